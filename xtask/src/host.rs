//! The tests that run on this machine: `cargo test`, counted.

use std::{process::Command, time::Duration};

use anyhow::Result;

use crate::{
    process::{self, Ending, Streams},
    show,
};

const LIMIT: Duration = Duration::from_secs(30 * 60);

/// How many tests went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
}

impl Count {
    pub fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// The tests of one binary, or the doctests of one crate.
#[derive(Debug, Default)]
struct Suite {
    name: String,
    count: Count,
    seconds: f32,
    results: usize,
    output: Vec<String>,
}

/// Runs the tests and doctests of all packages, and prints a line for each binary.
///
/// # Errors
///
/// cargo could not be started. Tests that fail or do not compile are no error but counted.
pub fn run() -> Result<Count> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--workspace", "--no-fail-fast"]).env("CARGO_TERM_COLOR", "never").current_dir(crate::root());

    let spinner = process::spinner("Host tests");
    let (mut total, mut suite) = (Count::default(), Suite::default());
    let ending = process::watch(&mut command, Streams::Merged, LIMIT, |line| {
        spinner.set_message(format!("Host tests: {}", line.text.trim()));
        if let Some(name) = name(&line.text) {
            let done = std::mem::replace(&mut suite, Suite { name, ..Suite::default() });
            total.add(spinner.suspend(|| done.tell()));
        } else {
            suite.take(line.text);
        }
    });
    spinner.finish_and_clear();
    let ending = ending?;
    let compiled = !suite.name.is_empty();
    let last = suite.tell();
    total.add(last);
    if let Some(why) = unexplained(ending, total) {
        if !compiled {
            suite.output.iter().for_each(|line| println!("    {line}"));
        }
        println!("  {} cargo test: {why}", show::mark(false));
        total.failed += 1;
    }
    Ok(total)
}

/// Why the whole failed although no test did.
fn unexplained(ending: Ending, total: Count) -> Option<String> {
    match ending {
        Ending::TimedOut(limit) => Some(format!("no end after {} s, killed", limit.as_secs())),
        _ if total.failed > 0 => None,
        Ending::Exited(status) if !status.success() => Some(format!("it ended with {status}")),
        Ending::Hopeless(words) => Some(format!("it was killed after it said: {words}")),
        Ending::Exited(_) if total.passed == 0 => Some("it ran no test".into()),
        Ending::Exited(_) => None,
    }
}

impl Suite {
    fn take(&mut self, line: String) {
        if let Some((count, seconds)) = result(&line) {
            self.count.add(count);
            self.seconds += seconds;
            self.results += 1;
        }
        self.output.push(line);
    }

    /// What counts: a binary that ended without a result is one failure more.
    fn count(&self) -> Count {
        let crashed = usize::from(!self.name.is_empty() && self.results == 0);
        Count { failed: self.count.failed + crashed, ..self.count }
    }

    /// Prints the suite, with its output if something failed. What comes before the first suite is the compiler's.
    fn tell(&self) -> Count {
        let count = self.count();
        if self.name.is_empty() || count == Count::default() {
            return count;
        }
        let Count { passed, failed, ignored } = count;
        let seconds = self.seconds;
        let mut line = format!("  {} {}: {passed} passed", show::mark(failed == 0), self.name);
        if failed > 0 {
            line += &format!(", {failed} failed");
        }
        if ignored > 0 {
            line += &format!(", {ignored} ignored");
        }
        println!("{line}, {seconds:.2} s");
        if failed > 0 {
            let told = self.output.iter().skip_while(|line| *line != "failures:");
            let from = if self.results == 0 { self.output.len().saturating_sub(30) } else { usize::MAX };
            told.chain(self.output.iter().skip(from)).for_each(|line| println!("    {line}"));
        }
        count
    }
}

/// The name in the line that opens a suite: `Running unittests src/lib.rs (target/debug/deps/cofferdam-0123)` or
/// `Doc-tests cofferdam`.
fn name(line: &str) -> Option<String> {
    if let Some(package) = line.strip_prefix("   Doc-tests ") {
        return Some(format!("{package}, doctests"));
    }
    let (source, file) = line.strip_prefix("     Running ")?.split_once(" (")?;
    let file = file.rsplit('/').next()?.trim_end_matches(')');
    let package = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
    Some(format!("{package}, {}", source.trim_start_matches("unittests ")))
}

/// The numbers and the seconds in `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
fn result(line: &str) -> Option<(Count, f32)> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let field = |name| numbers.split("; ").find_map(|field| field.strip_suffix(name)?.trim().parse().ok());
    let count = Count { passed: field(" passed")?, failed: field(" failed")?, ignored: field(" ignored")? };
    let seconds = numbers.rsplit_once("finished in ").and_then(|(_, time)| time.strip_suffix('s')?.parse().ok());
    Some((count, seconds.unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    fn suites(output: &str) -> Vec<(String, Count)> {
        let (mut suites, mut suite) = (Vec::new(), Suite::default());
        for line in output.lines() {
            match name(line) {
                Some(name) => suites.push(std::mem::replace(&mut suite, Suite { name, ..Suite::default() })),
                None => suite.take(line.into()),
            }
        }
        suites.push(suite);
        suites.iter().map(|suite| (suite.name.clone(), suite.count())).filter(|(name, _)| !name.is_empty()).collect()
    }

    #[test]
    fn tests_and_doctests_are_counted() {
        let output = "
   Compiling cofferdam v0.1.0
     Running unittests src/lib.rs (/t/debug/deps/cofferdam-a1b2)
test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.52s
     Running tests/two-cells.rs (target/debug/deps/two_cells-a1b2)
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
error: 1 target failed:
   Doc-tests cofferdam
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
all doctests ran in 0.5s; merged doctests compilation took 0.4s";
        let count = |passed, failed, ignored| Count { passed, failed, ignored };
        let wanted = [
            ("cofferdam, src/lib.rs".to_owned(), count(12, 1, 2)),
            ("two_cells, tests/two-cells.rs".to_owned(), count(3, 0, 0)),
            ("cofferdam, doctests".to_owned(), count(5, 0, 0)),
        ];
        assert_eq!(suites(output), wanted);
    }

    #[test]
    fn a_binary_that_dies_before_its_result_is_a_failure() {
        let output = "     Running unittests src/lib.rs (t/deps/a-1)\ntest x ... ok\nprocess didn't exit successfully";
        assert_eq!(suites(output), [("a, src/lib.rs".to_owned(), Count { failed: 1, ..Count::default() })]);
    }

    #[test]
    fn a_failure_that_no_test_explains_is_one() {
        let ended = |code| Ending::Exited(ExitStatus::from_raw(code << 8));
        let (none, good, bad) =
            (Count::default(), Count { passed: 1, ..Count::default() }, Count { failed: 1, ..Count::default() });
        assert_eq!(unexplained(ended(0), good), None);
        assert_eq!(unexplained(ended(101), bad), None);
        assert!(unexplained(ended(101), none).is_some_and(|why| why.contains("101")));
        assert!(unexplained(ended(101), good).is_some());
        assert!(unexplained(ended(0), none).is_some_and(|why| why.contains("no test")));
        assert!(unexplained(Ending::TimedOut(LIMIT), bad).is_some());
    }
}
