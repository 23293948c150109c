//! Chunks one behind the other in a file, or in one file for each part.

use super::output_file::{FileOptions, OutputFile};
use super::{Delivery, Position, Sink, SinkError, Written};
use crate::chunk::Payload;
use crate::processor::HandlerError;
use crate::trouble::Trouble;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes payloads that are bytes: part 0 to the first file, part 1 to the second, and so on.
///
/// While the run is on, a file is called `NAME.partial`; a file under its final name is complete.
pub struct FileSink {
    files: Vec<Output>,
}

struct Output {
    name: Arc<str>,
    file: OutputFile,
    rows: u64,
    /// What the last flush made durable.
    durable: (u64, u64),
    finished: bool,
}

impl FileSink {
    /// Bytes of memory that each open file keeps.
    pub const BUFFER_BYTES: usize = OutputFile::BUFFER_BYTES;

    /// Creates the files.
    ///
    /// # Errors
    /// When one of them cannot be created, exists and may not be replaced, or is being written by somebody else.
    pub fn create<T: AsRef<Path>>(targets: impl IntoIterator<Item = T>, options: FileOptions) -> Result<FileSink, Trouble> {
        let output = |target: T| {
            let file = OutputFile::create(target.as_ref(), options)?;
            Ok(Output { name: file_name(target.as_ref()), file, rows: 0, durable: (0, 0), finished: false })
        };
        Ok(FileSink { files: targets.into_iter().map(output).collect::<Result<_, Trouble>>()? })
    }

    /// The final names.
    pub fn targets(&self) -> Vec<PathBuf> {
        self.files.iter().map(|output| output.file.target().to_owned()).collect()
    }
}

/// The name of a file without its directory, for the journal.
pub(super) fn file_name(path: &Path) -> Arc<str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into()
}

impl<P: Payload + AsRef<[u8]>> Sink<P> for FileSink {
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError> {
        let Some(output) = self.files.get_mut(delivery.part as usize) else {
            let message = format!("chunk {} belongs to output {}, of {}", delivery.id, delivery.part, self.files.len());
            return Err(SinkError::Chunk(HandlerError::new("part", message)));
        };
        let at = output.file.length();
        let bytes = (*delivery.payload).as_ref();
        output.file.append(bytes)?;
        output.rows += delivery.payload.rows();
        Ok(Written { at: Some(at), bytes: bytes.len() as u64 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        for output in self.files.iter_mut().filter(|output| output.durable.0 < output.file.length()) {
            output.file.flush()?;
            output.durable = (output.file.length(), output.rows);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        for output in self.files.iter_mut().filter(|output| !output.finished) {
            output.file.finish()?;
            output.finished = true;
        }
        Ok(())
    }

    fn positions(&self) -> Vec<Position> {
        self.files.iter().map(|output| Position { output: output.name.clone(), bytes: output.durable.0, rows: output.durable.1 }).collect()
    }

    fn buffer_bytes(&self) -> usize {
        self.files.len() * OutputFile::BUFFER_BYTES
    }
}
