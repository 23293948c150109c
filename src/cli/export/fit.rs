//! How much memory an export takes: what was asked for, or what there is where nothing was.

use super::super::args::ExportArgs;
use super::super::exit::Failure;
use super::super::values::show_size;
use crate::cgroup::{Groups, Usage};
use crate::definitions;
use crate::export::Settings;
use crate::source::postgres::{ChunkLimits, Compression};

/// What a process takes beside the data whose limit is set: stacks, buffers, tables. The engine's second guard allows as much.
const BESIDE_BYTES: usize = 24 << 20;

/// The same of an export with one connection, one worker and small chunks.
const BESIDE_SMALL_BYTES: usize = 12 << 20;

/// Settings by the command line and by what the control group leaves.
pub fn settings(args: &ExportArgs) -> Result<Settings, Failure> {
    let defaults = Settings::default();
    let asked = Asked {
        memory_limit: args.memory_limit,
        chunk_bytes: args.chunk_bytes,
        connections: args.connections.map(usize::from),
        workers: args.workers.map(usize::from),
    };
    let chunk = ChunkLimits { bytes: defaults.limits.bytes, rows: args.chunk_rows.unwrap_or(u64::MAX) };
    let settings = asked.over(Settings { definition: definitions::chunk(), limits: chunk, compression: Compression::None, ..defaults });
    check_memory(&settings)?;
    let Some(group) = Groups::of_this_process().tightest() else { return Ok(settings) };
    match fit(&settings, &asked, group) {
        Fit::Fits => Ok(settings),
        Fit::Reduced(reduced) => {
            tracing::warn!("{}", describe(&reduced, group));
            Ok(*reduced)
        }
        Fit::TooLarge => {
            let (room, limit) = (show_size(group.room()), show_size(settings.memory_limit as u64));
            tracing::warn!(
                "--memory-limit {limit} is more than the control group has: it has {room} left, and a process needs some beside"
            );
            Ok(settings)
        }
        Fit::Never { needed } => Err(never(group, needed)),
    }
}

/// What the command line says; `None` is left to us.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    memory_limit: Option<usize>,
    chunk_bytes: Option<usize>,
    connections: Option<usize>,
    workers: Option<usize>,
}

impl Asked {
    /// `settings`, where it was not asked for others.
    fn over(&self, settings: Settings) -> Settings {
        let limits = ChunkLimits { bytes: self.chunk_bytes.unwrap_or(settings.limits.bytes), ..settings.limits };
        Settings {
            limits,
            memory_limit: self.memory_limit.unwrap_or(settings.memory_limit),
            connections: self.connections.unwrap_or(settings.connections),
            workers: self.workers.unwrap_or(settings.workers),
            ..settings
        }
    }
}

/// Whether an export fits into its control group.
#[derive(Debug)]
enum Fit {
    Fits,
    /// With less than the defaults.
    Reduced(Box<Settings>),
    /// What was asked for does not; the engine's second guard has to see to it.
    TooLarge,
    /// Not even at its smallest, which needs so many bytes.
    Never {
        needed: u64,
    },
}

/// Takes as little as it must: smaller chunks first, then fewer connections and workers.
fn fit(settings: &Settings, asked: &Asked, group: Usage) -> Fit {
    let room = usize::try_from(group.room()).unwrap_or(usize::MAX);
    if settings.memory_limit.saturating_add(BESIDE_BYTES) <= room {
        return Fit::Fits;
    }
    if asked.memory_limit.is_some() {
        return Fit::TooLarge;
    }
    let Settings { limits, connections, workers, .. } = settings;
    let with = |bytes: usize, connections: usize, workers: usize| {
        let limits = ChunkLimits { bytes: bytes.min(limits.bytes), ..*limits };
        asked.over(Settings { limits, connections, workers, ..settings.clone() })
    };
    let smallest = with(16 << 10, 1, 1);
    let least = if smallest.connections == 1 && smallest.workers == 1 { BESIDE_SMALL_BYTES } else { BESIDE_BYTES };
    let smaller = [
        (with(limits.bytes, *connections, *workers), BESIDE_BYTES),
        (with(64 << 10, *connections, *workers), BESIDE_BYTES),
        (with(64 << 10, 1, 1), BESIDE_BYTES),
        (smallest.clone(), least),
    ];
    for (settings, beside) in smaller {
        let memory_limit = room.saturating_sub(beside);
        if memory_limit >= settings.memory_floor() {
            return Fit::Reduced(Box::new(Settings { memory_limit, ..settings }));
        }
    }
    Fit::Never { needed: (smallest.memory_floor() + least) as u64 }
}

fn describe(settings: &Settings, group: Usage) -> String {
    let Settings { limits, connections, workers, memory_limit, .. } = settings;
    let (room, of) = (show_size(group.room()), show_size(group.limit));
    let (limit, chunk) = (show_size(*memory_limit as u64), show_size(limits.bytes as u64));
    format!(
        "the control group has {room} left of {of}, so this export takes --memory-limit {limit} --chunk-bytes {chunk} \
         --connections {connections} --workers {workers}"
    )
}

fn never(group: Usage, needed: u64) -> Failure {
    let (room, of, needed) = (show_size(group.room()), show_size(group.limit), show_size(needed));
    Failure::configuration(format!("the control group has {room} left of {of}, and an export needs {needed} at least"))
        .advise("Give it more memory, take fewer connections, or say by --memory-limit that it is to be tried all the same.")
}

/// Less than this, and the limit would be a promise that cannot be kept.
pub fn check_memory(settings: &Settings) -> Result<(), Failure> {
    let Settings { limits, connections, workers, memory_limit, .. } = settings;
    let floor = settings.memory_floor();
    if *memory_limit >= floor {
        return Ok(());
    }
    let (limit, floor, chunk) = (show_size(*memory_limit as u64), show_size(floor as u64), show_size(limits.bytes as u64));
    Err(Failure::configuration(format!(
        "--memory-limit {limit} is less than the {floor} that {connections} connections, {workers} workers and chunks of {chunk} need; \
         allow more, or take fewer connections and workers or smaller chunks"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(asked: Asked, room: u64) -> String {
        let settings = Settings { connections: 2, workers: 2, memory_limit: 32 << 20, ..Settings::default() };
        let group = Usage { used: 1 << 20, limit: (1 << 20) + room };
        match fit(&asked.over(settings), &asked, group) {
            Fit::Reduced(settings) => describe(&settings, group),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_asked_for_is_reduced_to_what_there_is() {
        let asked = Asked::default();
        assert_eq!(fitted(asked, 56 << 20), "Fits");
        insta::assert_snapshot!(fitted(asked, 40 << 20), @"the control group has 40.0 MiB left of 41.0 MiB, so this export takes --memory-limit 16.0 MiB --chunk-bytes 256.0 KiB --connections 2 --workers 2");
        insta::assert_snapshot!(fitted(asked, 27 << 20), @"the control group has 27.0 MiB left of 28.0 MiB, so this export takes --memory-limit 3.0 MiB --chunk-bytes 64.0 KiB --connections 2 --workers 2");
        insta::assert_snapshot!(fitted(asked, 16 << 20), @"the control group has 16.0 MiB left of 17.0 MiB, so this export takes --memory-limit 4.0 MiB --chunk-bytes 16.0 KiB --connections 1 --workers 1");
        insta::assert_snapshot!(fitted(asked, 12 << 20), @"Never { needed: 13783040 }");
    }

    #[test]
    fn what_was_asked_for_stays() {
        assert_eq!(fitted(Asked { memory_limit: Some(64 << 20), ..Asked::default() }, 32 << 20), "TooLarge");
        let many = Asked { connections: Some(8), chunk_bytes: Some(512 << 10), ..Asked::default() };
        insta::assert_snapshot!(fitted(many, 50 << 20), @"the control group has 50.0 MiB left of 51.0 MiB, so this export takes --memory-limit 26.0 MiB --chunk-bytes 512.0 KiB --connections 8 --workers 2");
        insta::assert_snapshot!(fitted(many, 40 << 20), @"Never { needed: 49287168 }");
    }
}
