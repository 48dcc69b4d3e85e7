//! Child processes: every wait has a limit, and no child outlives xtask.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use wait_timeout::ChildExt;

/// A child that prints more than this on one stream goes on without being heard.
const MAX_OUTPUT: u64 = 16 << 20;
/// What a child has printed before it ended may still be on its way.
const DRAIN: Duration = Duration::from_millis(200);

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A line that a child printed.
#[derive(Clone, Debug)]
pub struct Line {
    /// Time since the child was started.
    pub after: Duration,
    pub stream: Stream,
    pub text: String,
}

/// How a child came to its end.
#[derive(Clone, Debug)]
pub enum Ending {
    /// By itself, or by a signal of somebody else.
    Exited(ExitStatus),
    /// It was killed after its time limit.
    TimedOut(Duration),
    /// It was killed after it had printed this line, after which it would only have hung.
    Hopeless(String),
}

impl Ending {
    pub fn success(&self) -> bool {
        matches!(self, Ending::Exited(status) if status.success())
    }
}

/// How the output streams of a child are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Each by itself: neither tears a line of the other.
    Apart,
    /// Both through one pipe, as [`Stream::Out`]: their order is kept.
    Merged,
}

/// Runs `command` without input, hands each line to `each` as it comes, and kills the child after `limit`.
///
/// # Errors
///
/// The child could not be started or waited for.
pub fn watch(command: &mut Command, streams: Streams, limit: Duration, each: impl FnMut(Line)) -> Result<Ending> {
    watch_until(command, streams, limit, |_| false, each)
}

/// The same, but a child that prints a line of which `is_hopeless` is true is killed as soon as it is quiet.
///
/// # Errors
///
/// As for [`watch`].
pub fn watch_until(
    command: &mut Command,
    streams: Streams,
    limit: Duration,
    is_hopeless: impl Fn(&Line) -> bool,
    mut each: impl FnMut(Line),
) -> Result<Ending> {
    let began = Instant::now();
    let (lines, heard) = mpsc::channel();
    command.stdin(Stdio::null());
    let mut child = match streams {
        Streams::Apart => {
            let mut child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
            child.stdout.take().into_iter().for_each(|out| listen(out, Stream::Out, began, lines.clone()));
            child.stderr.take().into_iter().for_each(|err| listen(err, Stream::Err, began, lines.clone()));
            child
        }
        Streams::Merged => {
            let (reader, writer) = io::pipe()?;
            let child = start(command.stdout(writer.try_clone()?).stderr(writer));
            command.stdout(Stdio::null()).stderr(Stdio::null()); // or this end of the pipe stays open
            listen(reader, Stream::Out, began, lines.clone());
            child?
        }
    };
    drop(lines);

    let mut last_words = None;
    let ending = loop {
        let left = limit.saturating_sub(began.elapsed());
        match heard.recv_timeout(left.min(DRAIN)) {
            Ok(line) => {
                if last_words.is_none() && is_hopeless(&line) {
                    last_words = Some(line.text.clone());
                }
                each(line);
            }
            // A grandchild may hold the pipe for ever; the child's own end counts.
            Err(RecvTimeoutError::Timeout) if let Some(status) = child.try_wait()? => break Ending::Exited(status),
            Err(RecvTimeoutError::Timeout) if let Some(words) = last_words => {
                kill(child, limit)?;
                break Ending::Hopeless(words);
            }
            Err(RecvTimeoutError::Timeout) if left.is_zero() => break Ending::TimedOut(kill(child, limit)?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match child.wait_timeout(left)? {
                Some(status) => break Ending::Exited(status),
                None => break Ending::TimedOut(kill(child, limit)?),
            },
        }
    };
    while let Ok(line) = heard.recv_timeout(DRAIN) {
        each(line);
    }
    Ok(ending)
}

fn start(command: &mut Command) -> Result<Child> {
    let parent = rustix::process::getpid();
    let die_with_parent = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have gone before the line above.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and neither allocates nor takes a lock.
    unsafe { command.pre_exec(die_with_parent) };
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("cannot start {name}"))
}

fn kill(mut child: Child, limit: Duration) -> io::Result<Duration> {
    child.kill()?;
    child.wait()?;
    Ok(limit)
}

fn listen(from: impl Read + Send + 'static, stream: Stream, began: Instant, to: Sender<Line>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from.take(MAX_OUTPUT));
        let mut bytes = Vec::new();
        while from.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            if to.send(Line { after: began.elapsed(), stream, text }).is_err() {
                return;
            }
        }
        if from.into_inner().limit() == 0 {
            let text = format!("(all after {MAX_OUTPUT} bytes is cut off)");
            let _ = to.send(Line { after: began.elapsed(), stream, text });
        }
    });
}

/// Says what is being done: a spinner on a terminal, one line elsewhere.
pub fn spinner(what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        eprintln!("{what} ...");
    }
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// Runs `command` behind a spinner that says `what`.
///
/// # Errors
///
/// It could not be started, took longer than `limit` or failed; the error holds all that it printed.
pub fn quietly(what: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let spinner = spinner(what);
    let mut all = String::new();
    let ending = watch(command, Streams::Merged, limit, |line| {
        spinner.set_message(format!("{what}: {}", line.text.trim()));
        let _ = writeln!(all, "{}", line.text);
    });
    spinner.finish_and_clear();
    match ending? {
        Ending::Exited(status) if status.success() => Ok(()),
        Ending::Exited(status) => bail!("{}\nfailed with {status}: {}", all.trim_end(), words(command)),
        Ending::TimedOut(limit) => bail!("{}\ntook longer than {limit:?}: {}", all.trim_end(), words(command)),
        Ending::Hopeless(_) => bail!("{}\nwas killed: {}", all.trim_end(), words(command)),
    }
}

/// The stdout of a short command that needs no spinner; `None` if it cannot be started or fails.
pub fn answer(command: &mut Command) -> Option<String> {
    let mut out = String::new();
    let ending = watch(command, Streams::Apart, Duration::from_secs(20), |line| {
        if line.stream == Stream::Out {
            let _ = writeln!(out, "{}", line.text);
        }
    });
    ending.is_ok_and(|ending| ending.success()).then_some(out)
}

/// A command as one would type it.
pub fn words(command: &Command) -> String {
    let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=+./,:@%".contains(&b));
    let quoted = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        if plain(&word) && !word.is_empty() { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set = set.map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)));
    let rest = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    set.chain(rest).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, streams: Streams, limit: Duration) -> (Vec<String>, Ending) {
        let mut lines = Vec::new();
        let ending =
            watch(Command::new("sh").args(["-c", script]), streams, limit, |line| lines.push(line.text)).unwrap();
        (lines, ending)
    }

    #[test]
    fn the_lines_and_the_status_come_back() {
        let (lines, ending) = sh("printf 'a\\r\\nb'; exit 33", Streams::Apart, Duration::from_secs(10));
        assert_eq!(lines, ["a", "b"]);
        assert!(matches!(ending, Ending::Exited(status) if status.code() == Some(33)));
    }

    #[test]
    fn merged_streams_keep_their_order() {
        let script = "for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done";
        let (lines, _) = sh(script, Streams::Merged, Duration::from_secs(10));
        let wanted: Vec<_> = (1..=8).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
        assert_eq!(lines, wanted);
    }

    #[test]
    fn a_child_that_hangs_is_killed_and_what_it_said_is_kept() {
        let began = Instant::now();
        for script in ["echo here; exec sleep 60", "echo here; exec sleep 60 >/dev/null 2>&1"] {
            let (lines, ending) = sh(script, Streams::Apart, Duration::from_millis(300));
            assert_eq!(lines, ["here"]);
            assert!(matches!(ending, Ending::TimedOut(_)));
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    /// What it says in the same breath is kept: it says why.
    #[test]
    fn a_child_that_says_that_it_is_lost_is_killed_at_once() {
        let began = Instant::now();
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo here; echo lost: one >&2; echo two >&2; exec sleep 60"]);
        let is_hopeless = |line: &Line| line.stream == Stream::Err && line.text.starts_with("lost");
        let limit = Duration::from_secs(60);
        let ending = watch_until(&mut command, Streams::Apart, limit, is_hopeless, |line| lines.push(line.text));
        assert!(matches!(ending.unwrap(), Ending::Hopeless(words) if words == "lost: one"));
        lines.sort();
        assert_eq!(lines, ["here", "lost: one", "two"]);
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_does_not_keep_us() {
        let began = Instant::now();
        let (lines, ending) = sh("sleep 30 & echo done", Streams::Merged, Duration::from_secs(60));
        assert_eq!(lines, ["done"]);
        assert!(ending.success() && began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("apt-get");
        command.args(["install", "it's a"]).env("LC_ALL", "C").env_remove("HOME");
        assert_eq!(words(&command), r"LC_ALL=C apt-get install 'it'\''s a'");
    }
}
