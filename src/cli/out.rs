//! Printing to standard output, whose reader may go away at any time.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line. If nobody reads any more, the program ends as the signal would have it, like any other Unix tool.
pub fn line(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.write_all(b"\n")) {
        if error.kind() == ErrorKind::BrokenPipe {
            let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
        }
        eprintln!("error: standard output cannot be written: {error}");
        std::process::exit(74);
    }
}

/// [`line`] in the manner of `println!`.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}
pub(super) use outln;
