//! Bytes to rows and back. No I/O here.

#[cfg(any(feature = "files", feature = "postgres"))]
mod compress;
pub mod copy_text;
#[cfg(feature = "files")]
pub mod csv;
#[cfg(feature = "files")]
pub mod json_lines;
mod json_text;
mod output;
#[cfg(any(feature = "files", feature = "postgres"))]
mod records;
#[cfg(feature = "files")]
pub mod text_lines;

#[cfg(any(feature = "files", feature = "postgres"))]
pub use compress::Compression;
pub use copy_text::PADDING;
pub use output::Output;
#[cfg(any(feature = "files", feature = "postgres"))]
pub use records::{Records, Scan};
