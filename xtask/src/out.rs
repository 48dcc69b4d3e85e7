//! What is said on stdout. It may end on a full disk, or with somebody who has read enough.

use std::{
    fmt,
    io::{self, Write},
    sync::Mutex,
};

use anyhow::{Result, bail};

static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// The standard library's panics where it cannot print.
macro_rules! println {
    () => { crate::out::say(format_args!("\n")) };
    ($($text:tt)*) => { crate::out::say(format_args!("{}\n", format_args!($($text)*))) };
}

macro_rules! print {
    ($($text:tt)*) => { crate::out::say(format_args!($($text)*)) };
}

/// Prints a text. If that fails, what is under way goes on all the same, and [`check`] tells of it.
pub fn say(text: fmt::Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(text) {
        FAILED.lock().unwrap_or_else(|held| held.into_inner()).get_or_insert(error);
    }
}

/// # Errors
///
/// Something was not printed, and not because nobody reads on.
pub fn check() -> Result<()> {
    let flushed = io::stdout().flush().err();
    let failed = FAILED.lock().unwrap_or_else(|held| held.into_inner()).take().or(flushed);
    match failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        Some(error) => bail!("not all could be printed: {error}"),
        None => Ok(()),
    }
}
