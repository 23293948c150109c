//! Printing to standard output, whose reader may go away at any time.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line. If nobody reads any more, the program ends as the signal would have it, like any other Unix tool.
pub fn line(text: Arguments<'_>) {
    end_unless_written(std::io::stdout().lock(), |out| out.write_fmt(text).and_then(|()| out.write_all(b"\n")));
}

/// Prints bytes, which need not be text.
pub fn bytes(bytes: &[u8]) {
    end_unless_written(std::io::stdout().lock(), |out| out.write_all(bytes));
}

fn end_unless_written<W: Write>(mut out: W, write: impl FnOnce(&mut W) -> std::io::Result<()>) {
    if let Err(error) = write(&mut out) {
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
