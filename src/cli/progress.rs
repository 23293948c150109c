//! What a person sees while a run is on: one live line on a terminal, now and then a log line elsewhere.

use super::values::{show_count, show_duration, show_size};
use crate::engine::Handle;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the live line changes.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often there is a log line where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The same where somebody wants to see it in any case.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The line that is on the screen, so that log lines can go above it.
static LINE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Standard error for log lines, above the live line if there is one.
pub fn above_the_line() -> impl Write {
    AboveTheLine
}

struct AboveTheLine;

impl Write for AboveTheLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match LINE.lock().clone() {
            Some(line) => line.suspend(|| io::stderr().write_all(bytes))?,
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Takes the live line off the screen.
pub fn clear() {
    if let Some(line) = LINE.lock().take() {
        line.finish_and_clear();
    }
}

/// Whether to show a live line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// As a live line on a terminal; elsewhere as a line every ten seconds.
    Auto,
    /// Also elsewhere: as a line every second.
    Always,
    /// Never.
    Never,
}

/// Shows how a run goes until it is dropped.
pub struct Progress {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows the run behind `handle`, which expects about `expected` rows.
    pub fn show(handle: Handle, title: String, expected: Option<u64>, when: When, quiet: bool) -> Progress {
        let over = Arc::new(AtomicBool::new(false));
        if quiet || when == When::Never {
            return Progress { over, thread: None };
        }
        let live = io::stderr().is_terminal();
        let every = if when == When::Always { SAY_EVERY } else { LOG_EVERY };
        let stop = over.clone();
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || if live { draw(&handle, &title, expected, &stop) } else { log(&handle, &title, expected, every, &stop) });
        Progress { over, thread: thread.ok() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn draw(handle: &Handle, title: &str, expected: Option<u64>, over: &AtomicBool) {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    line.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a valid template"));
    *LINE.lock() = Some(line.clone());
    let began = Instant::now();
    while !over.load(Ordering::SeqCst) {
        line.set_message(describe(handle, title, expected, began.elapsed()));
        line.tick();
        std::thread::park_timeout(DRAW_EVERY);
    }
    clear();
}

fn log(handle: &Handle, title: &str, expected: Option<u64>, every: Duration, over: &AtomicBool) {
    let began = Instant::now();
    let mut next = every;
    while !over.load(Ordering::SeqCst) {
        std::thread::park_timeout(DRAW_EVERY);
        if began.elapsed() >= next {
            next += every;
            eprintln!("{}", describe(handle, title, expected, began.elapsed()));
        }
    }
}

/// Rows, rate, bytes, states, memory, time left.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn describe(handle: &Handle, title: &str, expected: Option<u64>, elapsed: Duration) -> String {
    let metrics = handle.metrics();
    let status = handle.status();
    let rows = metrics.rows_admitted;
    let rate = rows as f64 / elapsed.as_secs_f64().max(0.001);
    let states = metrics.states.iter().filter(|state| state.chunks > 0).map(|state| format!("{} {}", state.state, state.chunks));
    let mut text = format!(
        "{title}: {} rows, {}/s, {} out, [{}], memory {}",
        show_count(rows),
        show_count(rate as u64),
        show_size(metrics.bytes.written),
        states.collect::<Vec<_>>().join(", "),
        show_size(metrics.memory.resident_bytes),
    );
    let read = rows + metrics.rows_carried_over;
    if let Some(expected) = expected.filter(|expected| *expected > read && rows > 0) {
        text.push_str(&format!(", about {} left", show_duration((expected - read) as f64 / rate)));
    }
    if status.state != "active" {
        text.push_str(&format!(", {}", status.state));
        if let Some(reason) = status.reason {
            text.push_str(&format!(" ({reason})"));
        }
    }
    text
}
