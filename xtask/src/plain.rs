//! What an image says that is not written in Rust: plain lines, which become the records that are judged.

use cofferdam_report::{MARK, Record};

use crate::process::Line;

/// How lines begin that say something: the image runs; something held, or did not; it came to its end.
const STARTED: &str = "started: ";
const HELD: &str = "ok     ";
const FAILED: &str = "FAILED ";
const FINISHED: &str = "finished: ";

/// True for the line by which an image says that it runs.
pub fn is_start(line: &str) -> bool {
    line.starts_with(STARTED)
}

/// The same lines, those that say something as records.
pub fn as_records(lines: &[Line]) -> Vec<Line> {
    let text = |line: &Line| record(&line.text).map_or_else(|| line.text.clone(), |record| format!("{MARK}{record}"));
    lines.iter().map(|line| Line { after: line.after, stream: line.stream, text: text(line) }).collect()
}

fn record(line: &str) -> Option<String> {
    let expect = |what, ok| Record::Expect { what, ok, seen: "" };
    let record = if let Some(scenario) = line.strip_prefix(STARTED) {
        Record::Started { scenario, memory_mib: 0, tsc_mhz: 0 }
    } else if let Some(what) = line.strip_prefix(HELD) {
        expect(what, true)
    } else if let Some(what) = line.strip_prefix(FAILED) {
        expect(what, false)
    } else {
        line.strip_prefix(FINISHED).map(|_| Record::Finished)?
    };
    serde_json::to_string(&record).ok()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

    use super::*;
    use crate::{
        judge::{Expected, judge},
        process::{Ending, Stream},
    };

    fn judged(texts: &[&str], code: i32) -> String {
        let line = |text: &&str| Line { after: Duration::ZERO, stream: Stream::Out, text: (*text).into() };
        let lines: Vec<_> = texts.iter().map(line).collect();
        let ending = Ending::Exited(ExitStatus::from_raw(code << 8));
        judge(Expected::Success, &as_records(&lines), ending).join("\n")
    }

    #[test]
    fn plain_lines_are_judged_as_records_are() {
        let (started, held, finished) = ("started: x", "ok     it \"holds\"", "finished: 1 checks, 0 failed");
        assert_eq!(judged(&[started, "log", held, finished], 33), "");
        for (reported, says) in [
            (judged(&[held, finished], 33), "never started"),
            (judged(&[started, finished], 33), "expected nothing"),
            (judged(&[started, held], 33), "finished"),
            (judged(&[started, held, "FAILED it breaks", finished], 33), "expected: it breaks"),
            (judged(&[started, held, finished], 35), "says that it failed"),
        ] {
            assert!(reported.contains(says), "{says}: {reported}");
        }
    }
}
