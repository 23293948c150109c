//! Bytes to rows and back. No I/O here.

#[cfg(feature = "postgres")]
mod charset;
#[cfg(feature = "postgres")]
mod compress;
pub mod copy_text;
mod json_text;
mod output;

#[cfg(feature = "postgres")]
pub use charset::{Charset, UnknownCharset};
#[cfg(feature = "postgres")]
pub use compress::Compression;
pub use output::Output;
