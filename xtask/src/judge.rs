//! Whether a boot went as its scenario wants: a pure function of what the guest printed and how QEMU ended.

use cofferdam_report::{EXIT_CRASHED, EXIT_FAILED, EXIT_OK, MARK, Record};

use crate::process::{Ending, Line, Stream};

/// What a scenario is expected to come to.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// It ends by itself, and all that it expected held.
    Success,
    /// The driver refuses the machine, with a message that holds all these words.
    Refusal(&'a [String]),
    /// It crashes, and a line of its report holds all these words.
    Crash(&'a [String]),
}

/// The records among the lines of a boot.
#[derive(Debug, Default)]
pub struct Records {
    pub all: Vec<Record<String>>,
    /// Lines that hold a record which cannot be read.
    pub torn: Vec<String>,
}

/// Takes the records out of the serial log.
pub fn records(lines: &[Line]) -> Records {
    let mut records = Records::default();
    for line in lines.iter().filter(|line| line.stream == Stream::Out) {
        match cofferdam_report::json(&line.text).map(serde_json::from_str) {
            Some(Ok(record)) => records.all.push(record),
            Some(Err(_)) => records.torn.push(line.text.clone()),
            // A mark behind the start: something else was printed into the record.
            None if line.text.contains(MARK) => records.torn.push(line.text.clone()),
            None => {}
        }
    }
    records
}

/// Everything that did not go as expected, in words; empty if all held.
pub fn judge(expected: Expected<'_>, lines: &[Line], ending: Ending) -> Vec<String> {
    let records = records(lines);
    let mut wrong = Vec::new();
    let wanted = match expected {
        Expected::Success => EXIT_OK,
        Expected::Refusal(_) => EXIT_FAILED,
        Expected::Crash(_) => EXIT_CRASHED,
    };
    match ending {
        Ending::Hopeless(words) => wrong.push(format!("the CPU could not go on, so QEMU was killed: {words}")),
        Ending::TimedOut(limit) => wrong.push(format!("hung: no end after {} s, killed", limit.as_secs_f32())),
        Ending::Exited(status) if status.code() == Some(exit_status(wanted)) => {}
        Ending::Exited(status) => wrong.push(format!("QEMU ended with {status}: {}", meaning(status.code()))),
    }
    wrong.extend(records.torn.iter().map(|line| format!("a torn record: {line}")));

    let count = |which: fn(&Record<String>) -> bool| records.all.iter().filter(|record| which(record)).count();
    match count(|record| matches!(record, Record::Started { .. })) {
        // A crash may come first.
        0 if matches!(expected, Expected::Crash(_)) => {}
        0 => wrong.push("it never started".into()),
        1 => {}
        n => wrong.push(format!("it started {n} times")),
    }
    wrong.extend(records.all.iter().filter_map(|record| match record {
        Record::Expect { what, ok: false, seen } => Some(format!("expected: {what}; seen: {seen}")),
        _ => None,
    }));
    let refusals = || {
        records.all.iter().filter_map(|record| match record {
            Record::Refused { error } => Some(error),
            _ => None,
        })
    };
    match expected {
        Expected::Success => {
            wrong.extend(refusals().map(|error| format!("refused: {error}")));
            if count(|record| matches!(record, Record::Expect { .. })) == 0 {
                wrong.push("it expected nothing".into());
            }
            if !matches!(records.all.last(), Some(Record::Finished)) {
                wrong.push("its last record is not that it finished".into());
            }
        }
        Expected::Crash(words) => {
            let log = || lines.iter().filter(|line| line.stream == Stream::Out).map(|line| line.text.as_str());
            if !log().any(|line| holds(line, words)) {
                wrong.push(format!("no line of the crash's report holds the words {words:?}"));
            }
        }
        Expected::Refusal(words) => {
            let said: Vec<_> = refusals().map(String::as_str).collect();
            if said.is_empty() {
                wrong.push("nothing was refused".into());
            } else if !said.iter().any(|error| holds(error, words)) {
                wrong.push(format!("the refusal does not hold the words {words:?}: {}", said.join("; ")));
            }
        }
    }
    wrong
}

/// Which scenario ran instead of the one that was to, in words.
pub fn is_another(bin: &str, records: &Records) -> Option<String> {
    records.all.iter().find_map(|record| match record {
        Record::Started { scenario, .. } if scenario != bin => Some(format!("{scenario} ran, not {bin}")),
        _ => None,
    })
}

/// True if QEMU says that KVM cannot run the guest on; it waits for ever then. What it prints behind that are the CPU's registers
/// and the instruction.
pub fn is_hopeless(line: &Line) -> bool {
    let words = ["KVM internal error", "error: kvm run failed", "KVM: entry failed"];
    line.stream == Stream::Err && words.iter().any(|words| line.text.starts_with(words))
}

fn holds(text: &str, words: &[String]) -> bool {
    words.iter().all(|word| text.contains(word))
}

/// QEMU's exit status after a guest wrote `value` to `isa-debug-exit`.
fn exit_status(value: u32) -> i32 {
    (2 * value + 1).cast_signed()
}

fn meaning(code: Option<i32>) -> &'static str {
    match code {
        Some(code) if code == exit_status(EXIT_OK) => "the guest says that all went well",
        Some(code) if code == exit_status(EXIT_FAILED) => "the guest says that it failed",
        Some(code) if code == exit_status(EXIT_CRASHED) => "the guest crashed",
        Some(0) => "the machine was switched off or reset, by a triple fault for one",
        Some(1) => "QEMU could not start the machine, or died",
        _ => "no guest ends like that, so QEMU itself died",
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

    use super::*;

    const STARTED: &str = r#"@cofferdam {"Started":{"scenario":"x","memory_mib":256,"tsc_mhz":1000}}"#;
    const HELD: &str = r#"@cofferdam {"Expect":{"what":"a","ok":true,"seen":"b"}}"#;
    const BROKEN: &str = r#"@cofferdam {"Expect":{"what":"blocked","ok":false,"seen":"0x55"}}"#;
    const REFUSED: &str = r#"@cofferdam {"Refused":{"error":"no DMAR table was found"}}"#;
    const FINISHED: &str = r#"@cofferdam "Finished""#;

    fn exited(code: i32) -> Ending {
        Ending::Exited(ExitStatus::from_raw(code << 8))
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| Line { after: Duration::ZERO, stream: Stream::Out, text: (*text).into() };
        texts.iter().map(line).collect()
    }

    fn success(texts: &[&str], ending: Ending) -> String {
        judge(Expected::Success, &lines(texts), ending).join("\n")
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn refusal(texts: &[&str], ending: Ending, words: &[&str]) -> String {
        judge(Expected::Refusal(&owned(words)), &lines(texts), ending).join("\n")
    }

    fn crash(texts: &[&str], ending: Ending, words: &[&str]) -> String {
        judge(Expected::Crash(&owned(words)), &lines(texts), ending).join("\n")
    }

    #[test]
    fn the_statuses_are_those_of_the_device() {
        assert_eq!([EXIT_OK, EXIT_FAILED, EXIT_CRASHED].map(exit_status), [33, 35, 37]);
    }

    #[test]
    fn a_good_run_passes_whatever_else_is_printed() {
        assert_eq!(success(&["SeaBIOS", STARTED, "log", HELD, FINISHED, "bye"], exited(33)), "");
    }

    #[test]
    fn each_thing_that_is_missing_or_wrong_fails_a_run() {
        let all = [STARTED, HELD, FINISHED];
        let with = |more: &'static str| [STARTED, HELD, more, FINISHED];
        for (told, says) in [
            (success(&[HELD, FINISHED], exited(33)), "never started"),
            (success(&with(STARTED), exited(33)), "started 2 times"),
            (success(&[STARTED, FINISHED], exited(33)), "expected nothing"),
            (success(&[STARTED, HELD], exited(33)), "finished"),
            (success(&[STARTED, FINISHED, HELD], exited(33)), "finished"),
            (success(&with(BROKEN), exited(33)), "expected: blocked; seen: 0x55"),
            (success(&with(REFUSED), exited(33)), "refused: no DMAR"),
            (success(&with(r#"@cofferdam {"Expect":{"what":"x"#), exited(33)), "torn"),
            (success(&with(r#"@cofferdam {"Unheard":{}}"#), exited(33)), "torn"),
            (success(&with(r#"12 ms: @cofferdam {"Expect":{}}"#), exited(33)), "torn"),
            (success(&all, exited(35)), "says that it failed"),
            (success(&all, exited(37)), "crashed"),
            (success(&all, exited(0)), "switched off"),
            (success(&all, exited(1)), "could not start"),
            (success(&all, Ending::Exited(ExitStatus::from_raw(6))), "QEMU itself died"),
            (success(&all, Ending::TimedOut(Duration::from_secs(60))), "hung: no end after 60 s"),
            (
                success(&all, Ending::Hopeless("KVM internal error. Suberror: 1".into())),
                "could not go on, so QEMU was killed: KVM",
            ),
        ] {
            assert!(told.contains(says), "{says}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        assert_eq!(success(&[], exited(1)).lines().count(), 4);
    }

    #[test]
    fn kvm_says_on_stderr_that_it_cannot_go_on() {
        let line = |stream, text: &str| is_hopeless(&Line { after: Duration::ZERO, stream, text: text.into() });
        assert!(line(Stream::Err, "KVM internal error. Suberror: 1"));
        assert!(line(Stream::Err, "error: kvm run failed Bad address"));
        assert!(line(Stream::Err, "KVM: entry failed, hardware error 0x80000021"));
        assert!(!line(Stream::Out, "KVM internal error. Suberror: 1"), "a guest may say what it likes");
        assert!(!line(Stream::Err, "qemu-system-x86_64: warning: host doesn't support requested feature"));
    }

    #[test]
    fn what_qemu_says_on_stderr_is_no_record() {
        let mut all = lines(&[STARTED, HELD, FINISHED]);
        all.iter_mut().for_each(|line| line.stream = Stream::Err);
        assert!(records(&all).all.is_empty());
    }

    #[test]
    fn a_refusal_passes_only_with_its_words_and_its_status() {
        assert_eq!(refusal(&[STARTED, REFUSED], exited(35), &["DMAR", "found"]), "");
        assert_eq!(refusal(&[STARTED, HELD, REFUSED, FINISHED], exited(35), &[]), "");
        for (told, says) in [
            (refusal(&[STARTED, REFUSED], exited(35), &["DMAR", "queue"]), "does not hold the words"),
            (refusal(&[STARTED, REFUSED], exited(33), &[]), "went well"),
            (refusal(&[STARTED, REFUSED], exited(37), &[]), "crashed"),
            (refusal(&[STARTED], exited(35), &[]), "nothing was refused"),
            (refusal(&[REFUSED], exited(35), &[]), "never started"),
            (refusal(&[STARTED, BROKEN, REFUSED], exited(35), &[]), "expected: blocked"),
            (refusal(&[STARTED, REFUSED], Ending::TimedOut(Duration::from_secs(60)), &[]), "hung"),
        ] {
            assert!(told.contains(says), "{says}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }

    #[test]
    fn a_crash_passes_only_with_its_report_and_its_status() {
        let report = "exception 14 (#PF), error code 0x0";
        assert_eq!(crash(&[report], exited(37), &["exception 14", "#PF"]), "");
        assert_eq!(crash(&[STARTED, HELD, report], exited(37), &["#PF"]), "");
        for (told, says) in [
            (crash(&[report, "rip #GP"], exited(37), &["exception", "#GP"]), "holds the words"),
            (crash(&[report], exited(33), &["#PF"]), "went well"),
            (crash(&[report], exited(0), &["#PF"]), "triple fault"),
            (crash(&[STARTED, BROKEN, report], exited(37), &["#PF"]), "expected: blocked"),
            (crash(&[report], Ending::TimedOut(Duration::from_secs(60)), &["#PF"]), "hung"),
        ] {
            assert!(told.contains(says), "{says}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }
}
