//! Chunks one behind the other in a file, or in one file for each part.

use super::output_file::{FileOptions, OutputFile, partial_name};
use super::{Delivery, Position, Sink, SinkError, ToBytes, Written, bytes_of};
use crate::processor::HandlerError;
use crate::trouble::{Trouble, TroubleKind};
use std::collections::HashSet;
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
    target: PathBuf,
    /// None once it has its final name.
    file: Option<OutputFile>,
    rows: u64,
    /// What the last flush made durable: bytes and rows.
    durable: (u64, u64),
}

impl Output {
    fn new((name, target): (Arc<str>, PathBuf), file: Option<OutputFile>, durable: (u64, u64)) -> Output {
        Output { name, target, file, rows: durable.1, durable }
    }
}

impl FileSink {
    /// Bytes of memory that each open file keeps.
    pub const BUFFER_BYTES: usize = OutputFile::BUFFER_BYTES;

    /// Creates the files.
    ///
    /// # Errors
    /// When one of them cannot be created, exists and may not be replaced, or is being written by somebody else.
    pub fn create<T: AsRef<Path>>(targets: impl IntoIterator<Item = T>, options: FileOptions) -> Result<FileSink, Trouble> {
        let output = |named: (Arc<str>, PathBuf)| {
            let file = OutputFile::create("output", &named.1, options)?;
            Ok(Output::new(named, Some(file), (0, 0)))
        };
        Ok(FileSink { files: named(targets).map(output).collect::<Result<_, Trouble>>()? })
    }

    /// With these bytes before the first chunk of each file. They count as no row.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn beginning_with(mut self, head: &[u8]) -> Result<FileSink, Trouble> {
        for file in self.files.iter_mut().filter_map(|output| output.file.as_mut()) {
            file.append(head)?;
        }
        Ok(self)
    }

    /// Goes on where the journal says that the files are durable: `durable` are its last positions.
    ///
    /// A file that has its final name already, from a run that was killed while it gave names, is left as it is.
    ///
    /// # Errors
    /// As [`FileSink::create`], and when bytes that should be there are not.
    pub fn resume<T: AsRef<Path>>(
        targets: impl IntoIterator<Item = T>,
        options: FileOptions,
        durable: &[Position],
    ) -> Result<FileSink, Trouble> {
        let output = |(name, target): (Arc<str>, PathBuf)| {
            let Some(position) = durable.iter().find(|position| position.output == name) else {
                let file = OutputFile::create("output", &target, options)?;
                return Ok(Output::new((name, target), Some(file), (0, 0)));
            };
            let at = (position.bytes, position.rows);
            let has_partial = partial_name(&target).symlink_metadata().is_ok();
            let is_finished = !has_partial && target.metadata().is_ok_and(|found| found.len() == at.0);
            let file = if is_finished { None } else { Some(OutputFile::resume("output", &target, options, at.0)?) };
            Ok(Output::new((name, target), file, at))
        };
        Ok(FileSink { files: named(targets).map(output).collect::<Result<_, Trouble>>()? })
    }

    /// The final names.
    pub fn targets(&self) -> Vec<PathBuf> {
        self.files.iter().map(|output| output.target.clone()).collect()
    }
}

/// What the journal calls outputs that belong together: by file name, or by the whole path where two have the same name.
pub fn output_names<T: AsRef<Path>>(targets: &[T]) -> Vec<Arc<str>> {
    let short: Vec<Arc<str>> = targets.iter().map(|target| file_name(target.as_ref())).collect();
    if short.iter().collect::<HashSet<_>>().len() == short.len() {
        return short;
    }
    targets.iter().map(|target| target.as_ref().to_string_lossy().into()).collect()
}

fn named<T: AsRef<Path>>(targets: impl IntoIterator<Item = T>) -> impl Iterator<Item = (Arc<str>, PathBuf)> {
    let targets: Vec<PathBuf> = targets.into_iter().map(|target| target.as_ref().to_owned()).collect();
    output_names(&targets).into_iter().zip(targets)
}

/// The name of a file without its directory, for the journal.
pub(super) fn file_name(path: &Path) -> Arc<str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into()
}

impl<P: ToBytes> Sink<P> for FileSink {
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError> {
        let Some(output) = self.files.get_mut(delivery.part as usize) else {
            let message = format!("chunk {} belongs to output {}, of {}", delivery.id, delivery.part, self.files.len());
            return Err(SinkError::Chunk(HandlerError::new("part", message)));
        };
        let Some(file) = &mut output.file else {
            let message = format!("{} is complete, and chunk {} comes behind it", output.target.display(), delivery.id);
            return Err(Trouble::lasting(TroubleKind::Internal, message).into());
        };
        let at = file.length();
        let bytes = bytes_of(delivery)?;
        file.append(bytes)?;
        output.rows += delivery.payload.rows();
        Ok(Written { at: Some(at), bytes: bytes.len() as u64 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        for output in &mut self.files {
            if let Some(file) = output.file.as_mut().filter(|file| output.durable.0 < file.length()) {
                file.flush()?;
                output.durable = (file.length(), output.rows);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        for output in &mut self.files {
            if let Some(file) = &mut output.file {
                file.finish()?;
                output.file = None;
            }
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
