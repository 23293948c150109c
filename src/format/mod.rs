//! Bytes to rows and back. No I/O here.

#[cfg(feature = "postgres")]
mod charset;
#[cfg(any(feature = "pipeline", feature = "postgres"))]
mod compress;
pub mod copy_text;
#[cfg(feature = "pipeline")]
pub mod csv;
#[cfg(feature = "pipeline")]
pub mod json_lines;
mod json_text;
mod output;
#[cfg(any(feature = "pipeline", feature = "postgres"))]
mod records;
#[cfg(feature = "pipeline")]
pub mod text_lines;

#[cfg(feature = "postgres")]
pub use charset::{Charset, UnknownCharset};
#[cfg(any(feature = "pipeline", feature = "postgres"))]
pub use compress::Compression;
pub use copy_text::PADDING;
pub use output::Output;
#[cfg(any(feature = "pipeline", feature = "postgres"))]
pub use records::{Records, Scan};
