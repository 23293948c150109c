//! The second guard: how much memory the process really has, whatever the permits say.

use crate::cgroup::{Groups, Usage};
use crate::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// How often resident memory is measured: by real time, as memory is real whatever clock the run goes by.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// What the process may use beyond what it had at the start and the permits: stacks, buffers, the allocator's slack.
const ALLOWANCE_BYTES: u64 = 24 << 20;

/// Of a control group's limit, this share in percent is where reading stops.
const GROUP_PERCENT: u64 = 90;

/// Measures resident memory and says when it is too much.
pub(super) struct Guard {
    system: Option<System>,
    pid: Option<Pid>,
    /// Above this many resident bytes, reading stops.
    ceiling: u64,
    groups: Groups,
    next: Instant,
    was_short: bool,
    resident: Arc<Resident>,
}

/// Resident bytes of the process, as last measured.
#[derive(Default)]
pub(super) struct Resident {
    pub now: AtomicU64,
    pub peak: AtomicU64,
}

/// What the guard found.
pub(super) struct Verdict {
    pub is_short: bool,
    pub warning: Option<String>,
}

impl Guard {
    /// For a process whose permits may cover `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Guard {
        let mut guard = Guard {
            system: System::new().ok(),
            // A model has no memory of its own to look at, and what the machine has must not decide anything there.
            pid: if cfg!(sluicegate_model) { None } else { sysinfo::get_current_pid().ok() },
            ceiling: u64::MAX,
            groups: if cfg!(sluicegate_model) { Groups::default() } else { Groups::of_this_process() },
            next: Instant::now(),
            was_short: false,
            resident: Arc::default(),
        };
        guard.ceiling = guard.measure() + limit_bytes as u64 + ALLOWANCE_BYTES;
        guard
    }

    /// Where the latest measurement can be read.
    pub fn resident(&self) -> Arc<Resident> {
        self.resident.clone()
    }

    fn measure(&mut self) -> u64 {
        let (Some(pid), Some(system)) = (self.pid, &mut self.system) else { return 0 };
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, ProcessRefreshKind::nothing().with_memory());
        let resident = system.process(pid).map_or(0, sysinfo::Process::memory);
        self.resident.now.store(resident, Ordering::Relaxed);
        self.resident.peak.fetch_max(resident, Ordering::Relaxed);
        resident
    }

    /// Measures, if it is time to.
    pub fn look(&mut self) -> Option<Verdict> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + MEASURE_EVERY;
        let resident = self.measure();
        let group = self.groups.tightest();
        let group_is_short = group.is_some_and(|usage| usage.used >= usage.limit / 100 * GROUP_PERCENT);
        let is_short = resident > self.ceiling || group_is_short;
        let warning = (is_short && !self.was_short).then(|| match group {
            Some(Usage { used, limit }) if group_is_short => {
                format!("the control group has {used} of {limit} bytes in use: reading one chunk at a time until that falls")
            }
            _ => {
                format!("the process has {resident} bytes resident, more than the {} it should: reading one chunk at a time", self.ceiling)
            }
        });
        self.was_short = is_short;
        Some(Verdict { is_short, warning })
    }
}
