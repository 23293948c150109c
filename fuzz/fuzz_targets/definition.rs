//! See `sluicegate_fuzz::definition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::definition(data));
