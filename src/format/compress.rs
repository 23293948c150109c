//! Compression of whole chunks.

use super::Output;
use serde::Serialize;
use std::borrow::Cow;
use std::io;

/// What happens to the lines of a chunk before they are written. Each chunk is compressed for itself, so that workers can do it side by
/// side and the output can be cut behind any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// A gzip member.
    Gzip {
        /// From 1, fast, to 9, small.
        level: u32,
    },
    /// A zstd frame.
    Zstd {
        /// From 1, fast, to 22, small.
        level: i32,
    },
}

impl Compression {
    /// Reads a method with its level, like `zstd:9`.
    ///
    /// # Errors
    /// There is no such method or level.
    pub fn parse(text: &str) -> Result<Compression, String> {
        let (method, level) = text.split_once(':').map_or((text, None), |(method, level)| (method, Some(level)));
        let level = |default: i32, most: i32| match level.map(str::parse::<i32>) {
            None => Ok(default),
            Some(Ok(level)) if (1..=most).contains(&level) => Ok(level),
            Some(_) => Err(format!("the level of {method} goes from 1 to {most}")),
        };
        match method {
            "none" => Ok(Compression::None),
            "gzip" | "gz" => Ok(Compression::Gzip { level: level(6, 9)?.unsigned_abs() }),
            "zstd" | "zst" => Ok(Compression::Zstd { level: level(3, 22)? }),
            _ => Err(format!("`{method}` is no method; there are none, gzip and zstd, each with a level behind a colon if you like")),
        }
    }

    /// Appends `bytes`, compressed. No bytes stay no bytes: not even an empty member.
    pub(crate) fn pack(self, bytes: &[u8], out: &mut Output) -> io::Result<()> {
        match self {
            _ if bytes.is_empty() => Ok(()),
            Compression::None => io::Write::write_all(out, bytes),
            Compression::Gzip { level } => gzip(bytes, level, out),
            Compression::Zstd { level } => zstd(bytes, level, out),
        }
    }

    /// `bytes`, compressed.
    ///
    /// # Errors
    /// When this program cannot compress so.
    pub fn packed(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Output::default();
        self.pack(bytes, &mut out)?;
        Ok(out.bytes().to_vec())
    }

    /// What [`Compression::pack`] was given.
    pub(crate) fn unpack(self, bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        match self {
            _ if bytes.is_empty() => Ok(bytes.into()),
            Compression::None => Ok(bytes.into()),
            Compression::Gzip { .. } => ungzip(bytes).map(Cow::Owned),
            Compression::Zstd { .. } => unzstd(bytes).map(Cow::Owned),
        }
    }
}

/// Appends `bytes` as a gzip member.
#[cfg(feature = "compression")]
fn gzip(bytes: &[u8], level: u32, out: &mut Output) -> io::Result<()> {
    use std::io::Write;
    out.grow(bytes.len());
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
    encoder.write_all(bytes).and_then(|()| encoder.finish().map(drop))
}

/// Appends `bytes` as a zstd frame with a checksum.
#[cfg(feature = "compression")]
fn zstd(bytes: &[u8], level: i32, out: &mut Output) -> io::Result<()> {
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

#[cfg(feature = "compression")]
fn ungzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(bytes), &mut lines).map(|_| lines)
}

#[cfg(feature = "compression")]
fn unzstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    zstd::stream::decode_all(bytes)
}

#[cfg(not(feature = "compression"))]
use absent::{gzip, ungzip, unzstd, zstd};

/// What stands in for the feature.
#[cfg(not(feature = "compression"))]
mod absent {
    use super::Output;
    use std::io;

    fn absent<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this program was built without the feature `compression`"))
    }

    pub fn gzip(_: &[u8], _: u32, _: &mut Output) -> io::Result<()> {
        absent()
    }

    pub fn zstd(_: &[u8], _: i32, _: &mut Output) -> io::Result<()> {
        absent()
    }

    pub fn ungzip(_: &[u8]) -> io::Result<Vec<u8>> {
        absent()
    }

    pub fn unzstd(_: &[u8]) -> io::Result<Vec<u8>> {
        absent()
    }
}
