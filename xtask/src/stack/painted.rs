//! What each call was seen to take of a painted stack, in the client that boots, beside what it can take there at most.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result};

use super::{BAR, CALL, Measured, OF_CLIENT, measure};
use crate::{
    bare_metal::Toolchain,
    build,
    process::Line,
    qemu::{Accel, Qemu},
};

const SCENARIO: &str = "outside";
/// How a line begins that names a call and the bytes.
const SEEN: &str = "stack: ";
/// Less than this cannot be told from nothing: where the painting keeps room for itself (`platform/pc/src/stack.rs`).
const LEAST: u64 = 256;
/// What is written to between the start of the painting's measure and the call: by the closure that makes it.
const PAINTING: u64 = 16;
/// What the platform's own functions may take there, beside a call's bar: the client sees that they take no more.
const PLATFORM: u64 = 256;

/// Boots the client, and says what does not fit; a line each.
///
/// # Errors
///
/// It does not build, or its image cannot be followed.
pub fn check(rust: &Toolchain, qemu: PathBuf) -> Result<Vec<String>> {
    let (image, matrix) = (build::outside(rust)?, crate::matrix()?);
    let scenario = matrix.scenario(SCENARIO)?;
    let machine = matrix.machines_of(scenario)?.into_iter().next().context("it runs on no machine")?;
    let limit: Duration = matrix.timeout;
    let boot = Qemu::new(qemu, Accel::Tcg)?.boot(scenario, machine, &image, limit);
    let measured = measure(&image, CALL, OF_CLIENT, "booted").context("in the client that boots")?;
    let seen = seen(&boot.lines);
    let most = seen.iter().max_by_key(|(_, bytes)| **bytes);
    if let Some((call, bytes)) = most {
        println!(
            "Booted outside of the workspace, {} calls were made on a painted stack, the platform's own",
            seen.len()
        );
        println!("functions among it: the deepest took {bytes} bytes, {call}.");
    }
    let wrong = boot.wrong.into_iter().map(|wrong| format!("the client that boots: {wrong}"));
    Ok(wrong.chain(judge(&measured, &seen)).collect())
}

/// The most that each call was seen to take.
fn seen(lines: &[Line]) -> BTreeMap<&str, u64> {
    let mut all = BTreeMap::new();
    for line in lines {
        let told = line.text.strip_prefix(SEEN).and_then(|told| told.trim_end().split_once(' '));
        if let Some((call, Ok(bytes))) = told.map(|(call, bytes)| (call, bytes.parse::<u64>())) {
            let most = all.entry(call).or_insert(0);
            *most = bytes.max(*most);
        }
    }
    all
}

/// What was not seen, or was more than can be or may be.
fn judge(measured: &Measured, seen: &BTreeMap<&str, u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (call, deepest) in &measured.calls {
        let Some(bytes) = seen.get(call.as_str()) else {
            wrong.push(format!("the client that boots does not make the call {call}"));
            continue;
        };
        if *bytes > deepest.bytes.max(LEAST) + PAINTING {
            let chain = measured.chain(deepest);
            wrong.push(format!("{call} took {bytes} bytes, more than the {} that were summed\n{chain}", deepest.bytes));
        }
        if *bytes > BAR + PLATFORM {
            wrong.push(format!("{call} took {bytes} bytes with the platform, and its bar is {BAR}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{
        super::{chain::Deepest, tests::measured},
        *,
    };
    use crate::process::Stream;

    #[test]
    fn the_most_that_was_told_of_a_call_counts() {
        let line = |text: &str| Line { after: Duration::ZERO, stream: Stream::Out, text: text.into() };
        let lines =
            ["stack: map 300\r", "stack: map 280", "stack: none", "other: map 9000", "stack: unmap 256"].map(line);
        assert_eq!(seen(&lines), BTreeMap::from([("map", 300), ("unmap", 256)]));
    }

    #[test]
    fn what_was_seen_is_held_against_the_sum_and_the_bar() {
        let mut all = measured("", &[("words", 8), ("map", 1700), ("commit", 1900)]);
        let judged = |all: &Measured, map, commit| {
            judge(all, &BTreeMap::from([("words", 256), ("map", map), ("commit", commit)]))
        };
        assert_eq!(judged(&all, 1700 + PAINTING, 1900), [""; 0]);
        assert_eq!(
            judged(&all, 1701 + PAINTING, 1900),
            ["map took 1717 bytes, more than the 1700 that were summed\n    1700  ?"]
        );
        all.calls.insert("commit".into(), Deepest { bytes: 4000, chain: Vec::new() });
        assert_eq!(judged(&all, 256, 2305), ["commit took 2305 bytes with the platform, and its bar is 2048"]);
        all.calls.insert("audit".into(), Deepest::default());
        assert_eq!(judged(&all, 256, 256), ["the client that boots does not make the call audit"]);
    }
}
