//! Compression of whole chunks.

use super::Output;
use std::io;

/// Appends `bytes` as a gzip member.
#[cfg(feature = "compression")]
pub(crate) fn gzip(bytes: &[u8], level: u32, out: &mut Output) -> io::Result<()> {
    use std::io::Write;
    out.grow(bytes.len());
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
    encoder.write_all(bytes).and_then(|()| encoder.finish().map(drop))
}

/// Appends `bytes` as a zstd frame with a checksum.
#[cfg(feature = "compression")]
pub(crate) fn zstd(bytes: &[u8], level: i32, out: &mut Output) -> io::Result<()> {
    use std::cell::RefCell;
    thread_local! {
        /// A compressor's tables are large: one for each worker, and not one for each chunk.
        static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(kept_level, _)| *kept_level != level) {
            let mut compressor = zstd::bulk::Compressor::new(level)?;
            compressor.include_checksum(true)?;
            *kept = Some((level, compressor));
        }
        let (_, compressor) = kept.as_mut().expect("just made");
        out.grow(zstd::zstd_safe::compress_bound(bytes.len()));
        let written = compressor.compress_to_buffer(bytes, out.spare())?;
        out.commit(written);
        Ok(())
    })
}

#[cfg(not(feature = "compression"))]
pub(crate) fn gzip(_: &[u8], _: u32, _: &mut Output) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this program was built without the feature `compression`"))
}

#[cfg(not(feature = "compression"))]
pub(crate) fn zstd(_: &[u8], _: i32, _: &mut Output) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this program was built without the feature `compression`"))
}
