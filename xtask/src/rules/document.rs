//! The rules as people read them: `docs/rules.md`, a heading a rule.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_model::rules::Status;

use super::{Found, Rule, scan::Place};

/// From the root of the repository.
pub const FILE: &str = "docs/rules.md";
const HEADING: &str = "### ";
const SECTION: &str = "- Specification: ";
const CHECKED: &str = "- Checked: ";

/// What is wrong with the document; a line each.
pub fn judge(document: &str, rules: &[Rule], found: &[Found]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut lines = BTreeMap::<&str, usize>::new();
    for (number, line, _) in entries(document) {
        if let Some(before) = lines.insert(number, line) {
            wrong.push(format!("{FILE}:{line} has {number} a second time, after line {before}"));
        }
        if !rules.iter().any(|rule| rule.0 == number) {
            wrong.push(format!("{FILE}:{line} has {number}, and there is no such rule"));
        }
    }
    for (rule, found) in rules.iter().zip(found) {
        let Some((_, line, text)) = entries(document).into_iter().find(|(number, ..)| *number == rule.0) else {
            wrong.push(format!("{FILE} lacks {}", rule.0));
            continue;
        };
        let says = |what: &str| text.lines().find_map(|line| line.strip_prefix(what)).filter(|it| !it.is_empty());
        if !text.lines().any(|line| line.ends_with('.') && !line.starts_with('-')) {
            wrong.push(format!("{FILE}:{line} has no sentence for {}", rule.0));
        }
        if says(SECTION).is_none() {
            wrong.push(format!("{FILE}:{line} names no section for {}", rule.0));
        }
        if says(CHECKED) != Some(&checked(rule, found)) {
            let how = "`cargo xtask rules --write` mends that";
            wrong.push(format!("{FILE}:{line} does not say where {} is checked as it is: {how}", rule.0));
        }
    }
    wrong
}

/// The document with the places of check as they are.
pub fn written(document: &str, rules: &[Rule], found: &[Found]) -> String {
    let mut now = None;
    let lines = document.lines().map(|line| {
        if let Some(number) = line.strip_prefix(HEADING) {
            now = rules.iter().zip(found).find(|(rule, _)| rule.0 == number);
        }
        match now.filter(|_| line.starts_with(CHECKED)) {
            Some((rule, found)) => format!("{CHECKED}{}\n", checked(rule, found)),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// The number, the line and the text of each entry.
fn entries(document: &str) -> Vec<(&str, usize, &str)> {
    let mut entries = Vec::new();
    let heading = format!("\n{HEADING}");
    let mut rest = document.split_once(&heading);
    while let Some((_, after)) = rest {
        rest = after.split_once(&heading);
        let text = rest.map_or(after, |(text, _)| text);
        let before = document.len() - after.len();
        let line = document.get(..before).unwrap_or_default().lines().count();
        entries.push((text.lines().next().unwrap_or_default(), line, text));
    }
    entries
}

/// Where a rule is checked: files, since lines change too often; none of the driver, since what it does is not a check.
fn checked((_, _, status): &Rule, found: &Found) -> String {
    let tests = files(found.broken.iter().chain(&found.kept).chain(&found.tests));
    let by = match status {
        Status::Checked => format!("by the model in {}", files(&found.model)),
        Status::Shown(why) => format!("by what follows: {why}"),
        Status::NotYet(why) => format!("not by the model: {why}"),
    };
    if tests.is_empty() { by } else { format!("{by}; tests in {tests}") }
}

fn files<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let files: BTreeSet<_> = places.into_iter().map(|place| format!("`{}`", place.file)).collect();
    Vec::from_iter(files).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 2] = [("R1", "one thing", Status::Checked), ("R2", "another", Status::Shown("it is seen"))];
    const GOOD: &str = "# Rules\n\n## A part\n\n### R1\n\nOne does it.\n\n- Specification: 1.2\n- Checked: by the model in \
        `m.rs`; tests in `a.rs`, `b.rs`\n\n### R2\n\nOne does that,\nand more.\n\n- Specification: none\n- Checked: by what \
        follows: it is seen\n";

    fn found() -> [Found; 2] {
        let place = |file: &str, line| Place { file: file.into(), line, name: String::new() };
        let first = Found {
            model: vec![place("m.rs", 1), place("m.rs", 2)],
            broken: vec![place("b.rs", 1)],
            kept: vec![place("a.rs", 1)],
            driver: vec![place("d.rs", 1)],
            ..Found::default()
        };
        [first, Found { driver: vec![place("d.rs", 1)], ..Found::default() }]
    }

    fn wrong(document: &str) -> Vec<String> {
        judge(document, &RULES, &found())
    }

    #[test]
    fn a_document_that_says_what_is_so_is_well() {
        assert_eq!(wrong(GOOD), [""; 0]);
        assert_eq!(written(GOOD, &RULES, &found()), GOOD);
    }

    #[test]
    fn a_rule_that_is_lacking_doubled_or_unknown_is_named() {
        let (first, second) = GOOD.split_once("### R2").unwrap();
        assert_eq!(wrong(first), ["docs/rules.md lacks R2"]);
        let twice = wrong(&format!("{GOOD}\n### R2{second}"));
        assert_eq!(twice, ["docs/rules.md:20 has R2 a second time, after line 12"]);
        let unknown = wrong(&format!("{GOOD}\n### R3\n"));
        assert_eq!(unknown, ["docs/rules.md:20 has R3, and there is no such rule"]);
    }

    #[test]
    fn a_rule_needs_a_sentence_a_section_and_the_right_place() {
        let is = "docs/rules.md:5";
        assert_eq!(wrong(&GOOD.replace("One does it.\n", "")), [format!("{is} has no sentence for R1")]);
        assert_eq!(wrong(&GOOD.replace("- Specification: 1.2\n", "")), [format!("{is} names no section for R1")]);
        let moved = GOOD.replace("`m.rs`", "`n.rs`");
        let how = "`cargo xtask rules --write` mends that";
        assert_eq!(wrong(&moved), [format!("{is} does not say where R1 is checked as it is: {how}")]);
        assert_eq!(written(&moved, &RULES, &found()), GOOD);
    }
}
