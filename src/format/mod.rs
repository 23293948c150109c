//! Bytes to rows and back. No I/O here.

#[cfg(feature = "postgres")]
pub(crate) mod compress;
pub mod copy_text;
mod json_text;
mod output;

pub use output::Output;
