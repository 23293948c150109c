//! Bytes to rows and back. No I/O here.

pub mod copy_text;
mod json_text;
mod output;

pub use output::Output;
