//! See `sluicegate_fuzz::copy_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::copy_text(data));
