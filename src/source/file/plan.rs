//! What is to be read: which inputs, how their rows are told apart, and how they are cut into ranges.

use super::input::{Got, Input, Opened, Packing, Stamp};
use crate::format::{Records, Scan};
use crate::trouble::{Trouble, TroubleKind};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a range: small, so that lanes that run ahead do not hold more than the budget.
const RANGE_BYTES: u64 = 2 << 20;

/// A header is no longer than this.
const LONGEST_HEADER: usize = 1 << 20;

/// How long a pipe may take for its first row.
const FIRST_ROW_WAIT: Duration = Duration::from_secs(3600);

/// How inputs are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How rows are told apart.
    pub records: Records,
    /// How the inputs are compressed, if that is not to be seen.
    pub packing: Option<Packing>,
    /// What the first row is.
    pub header: Header,
}

/// What the first row of an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A row like others. It is not looked at.
    None,
    /// A row like others, which is wanted all the same: it tells what the rows look like.
    Sample,
    /// Not data, but what the columns are called. The same in all inputs.
    Names,
}

/// What a lane reads at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Which range, from 0.
    pub number: u32,
    /// Of which input.
    pub input: usize,
    /// The rows that begin here or behind,
    pub start: u64,
    /// and before here; none for the input's end.
    pub end: Option<u64>,
    /// Where its rows come from, for people and the journal.
    pub origin: Arc<str>,
}

/// What is to be read.
pub struct FilePlan {
    inputs: Vec<Input>,
    ranges: Vec<FileRange>,
    reading: Reading,
    first_row: Option<Vec<u8>>,
    /// What cannot be opened again, by its place among the inputs, with what was read of it.
    begun: Mutex<Vec<(usize, Opened, Vec<u8>)>>,
}

impl FilePlan {
    /// Looks at the inputs, in this order, and cuts them.
    ///
    /// # Errors
    /// When one cannot be read or is not what it should be, or when headers differ.
    pub fn new(paths: &[PathBuf], reading: Reading) -> Result<FilePlan, Trouble> {
        let mut plan = FilePlan { inputs: Vec::new(), ranges: Vec::new(), reading, first_row: None, begun: Mutex::default() };
        for path in paths {
            plan.add(path)?;
        }
        Ok(plan)
    }

    fn add(&mut self, path: &Path) -> Result<(), Trouble> {
        let (mut input, mut opened, mut head) = Input::look(path, self.reading.packing)?;
        let mark = byte_order_mark(&mut opened, &mut head, &input)?;
        let row = match self.reading.header {
            Header::None => None,
            Header::Sample if self.first_row.is_some() => None,
            Header::Sample | Header::Names => first_row(&mut opened, &mut head, mark, &input, self.reading.records)?,
        };
        input.data_start = mark as u64;
        if let Some(row) = row {
            if self.reading.header == Header::Names {
                input.data_start += row.len() as u64;
                self.same_header(&row, &input)?;
            }
            self.first_row.get_or_insert(row);
        }
        let place = self.inputs.len();
        if !input.repeats() {
            head.drain(..usize::try_from(input.data_start).unwrap_or(0).min(head.len()));
            self.begun.get_mut().push((place, opened, head));
        }
        self.cut(place, &input);
        self.inputs.push(input);
        Ok(())
    }

    fn same_header(&self, row: &[u8], input: &Input) -> Result<(), Trouble> {
        match &self.first_row {
            Some(first) if first != row => {
                let message = format!("{} has another header than {}", input.shown, self.inputs[0].shown);
                Err(Trouble::lasting(TroubleKind::Configuration, message))
            }
            _ => Ok(()),
        }
    }

    /// Ranges whose bounds depend on the input alone.
    fn cut(&mut self, place: usize, input: &Input) {
        let whole = (input.data_start, None);
        let bounds = match input.stamp {
            Some(Stamp { bytes, .. }) if input.packing == Packing::None && self.reading.records == Records::Lines => {
                let inner = (1..).map(|step| step * RANGE_BYTES).skip_while(|at| *at <= input.data_start).take_while(|at| *at < bytes);
                let starts: Vec<u64> = std::iter::once(input.data_start).chain(inner).collect();
                (0..starts.len()).map(|index| (starts[index], starts.get(index + 1).copied())).collect()
            }
            _ => vec![whole],
        };
        for (start, end) in bounds {
            let number = u32::try_from(self.ranges.len()).unwrap_or(u32::MAX);
            let origin = match end {
                Some(end) => format!("{} bytes {start}-{}", input.shown, end - 1),
                None if start == input.data_start => input.shown.to_string(),
                None => format!("{} bytes {start}-end", input.shown),
            };
            self.ranges.push(FileRange { number, input: place, start, end, origin: origin.into() });
        }
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// What is read at a time, in order.
    pub fn ranges(&self) -> &[FileRange] {
        &self.ranges
    }

    /// How the inputs are read.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// The first row of the inputs with its line end, if it was wanted and there is one.
    pub fn first_row(&self) -> Option<&[u8]> {
        self.first_row.as_deref()
    }

    /// Whether everything can be read again, as a run that was cut off has to.
    pub fn repeats(&self) -> bool {
        self.inputs.iter().all(Input::repeats)
    }

    /// Bytes of all files together, as they lie there.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().filter_map(|input| input.stamp).map(|stamp| stamp.bytes).sum()
    }

    /// How it is cut, for the journal: has to be the same for a run that goes on.
    pub fn describe(&self) -> Value {
        let inputs =
            self.inputs.iter().map(|input| json!({ "path": &*input.shown, "packing": input.packing, "stamp": input.stamp.map(describe) }));
        json!({ "inputs": inputs.collect::<Vec<_>>(), "range_bytes": RANGE_BYTES })
    }

    /// Takes over an input that was begun, with what was read of it.
    pub(super) fn take_begun(&self, place: usize) -> Option<(Opened, Vec<u8>)> {
        let mut begun = self.begun.lock();
        let found = begun.iter().position(|(of, ..)| *of == place)?;
        let (_, opened, head) = begun.swap_remove(found);
        Some((opened, head))
    }
}

/// Nanoseconds do not fit into a number of JSON that everybody reads.
fn describe(stamp: Stamp) -> Value {
    json!({ "bytes": stamp.bytes, "modified": stamp.modified.to_string() })
}

/// Reads until `head` has `length` bytes, if there are as many.
fn fill(opened: &mut Opened, head: &mut Vec<u8>, length: usize, input: &Input) -> Result<(), Trouble> {
    while head.len() < length && !opened.ended {
        let have = head.len();
        head.resize(length, 0);
        let got = opened.read(&mut head[have..], FIRST_ROW_WAIT, input);
        let count = if let Ok(Got::Bytes(count)) = got { count } else { 0 };
        head.truncate(have + count);
        got?;
    }
    Ok(())
}

/// The length of the byte order mark.
fn byte_order_mark(opened: &mut Opened, head: &mut Vec<u8>, input: &Input) -> Result<usize, Trouble> {
    fill(opened, head, 3, input)?;
    match &head[..] {
        [0xef, 0xbb, 0xbf, ..] => Ok(3),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            let message = format!("{} is UTF-16, and only UTF-8 is read; `iconv -f UTF-16 -t UTF-8` makes it so", input.shown);
            Err(Trouble::lasting(TroubleKind::Configuration, message))
        }
        _ => Ok(0),
    }
}

/// The first row behind the mark, with its line end.
fn first_row(opened: &mut Opened, head: &mut Vec<u8>, mark: usize, input: &Input, records: Records) -> Result<Option<Vec<u8>>, Trouble> {
    let mut scan = Scan::default();
    loop {
        if let Some(length) = records.end(&head[mark.min(head.len())..], &mut scan) {
            return Ok(Some(head[mark..mark + length].to_vec()));
        }
        if opened.ended {
            let rest = &head[mark.min(head.len())..];
            return Ok((!rest.is_empty()).then(|| rest.to_vec()));
        }
        if head.len() > LONGEST_HEADER {
            let message = format!("the first row of {} is longer than 1 MiB; is it of this format?", input.shown);
            return Err(Trouble::lasting(TroubleKind::Configuration, message));
        }
        let more = head.len() + 4096;
        fill(opened, head, more, input)?;
    }
}
