//! Named places at which a test may have the process crash. Compiled in only with the feature `failpoints`, which releases do not have.
//!
//! `SLUICEGATE_CRASH_AT=NAME:N` aborts the process when it reaches the place `NAME` for the `N`-th time, counted from 1, without any
//! clearing up. `SLUICEGATE_CRASH_LOG=FILE` writes down every place that is reached, one a line.

/// Crashes here if this place and this time were asked for.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &'static str) {
    use parking_lot::Mutex;
    use std::collections::HashMap;
    use std::io::Write;
    static REACHED: Mutex<Option<HashMap<&'static str, u64>>> = Mutex::new(None);
    let mut reached = REACHED.lock();
    let times = reached.get_or_insert_default().entry(name).or_default();
    *times += 1;
    if let Some(path) = std::env::var_os("SLUICEGATE_CRASH_LOG") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{name}")).expect("the log of crash points can be written");
    }
    if std::env::var("SLUICEGATE_CRASH_AT").is_ok_and(|wanted| wanted == format!("{name}:{times}")) {
        std::process::abort();
    }
}

/// Nothing, in a program for users.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn reach(_: &'static str) {}
