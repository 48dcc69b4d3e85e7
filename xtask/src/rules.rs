//! `cargo xtask rules`: each rule of a correct driver, where the model checks it, which tests prove that, and where the
//! driver names it.
//!
//! `docs/rules.md` has the rules in words.
//!
//! How a rule is named: by its number in quotes where the model reports it and where a test of the model expects that; in
//! a comment in the driver, and in a test that keeps the rule and breaks nothing.

mod document;
mod public;
mod scan;

use std::{fmt, fs};

use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_model::rules::{RULES, Status};
use comfy_table::{Table, presets};
use console::style;

use crate::{Verdict, show};
use scan::{Place, Source, Test};

#[derive(Args)]
pub struct Options {
    /// Rules to show with every place, instead of all with one place of each kind.
    #[arg(value_name = "NUMBER")]
    numbers: Vec<String>,
    /// Writes into docs/rules.md where each rule is checked.
    #[arg(long, conflicts_with = "numbers")]
    write: bool,
}

/// A rule: its number, what it is about, and what the model does about it.
type Rule = (&'static str, &'static str, Status);

/// Where a rule is found.
#[derive(Debug, Default)]
struct Found {
    /// Where the model reports it.
    model: Vec<Place>,
    /// Tests that break it and expect the report.
    broken: Vec<Place>,
    /// Tests that name it and expect no report.
    kept: Vec<Place>,
    /// Where the driver names it.
    driver: Vec<Place>,
    /// Where a test of the driver names it.
    tests: Vec<Place>,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let root = crate::root();
    let sources = scan::read(&root)?;
    let found = search(RULES, &sources);
    let file = root.join(document::FILE);
    let mut document = fs::read_to_string(&file).with_context(|| format!("cannot read {}", document::FILE))?;
    if options.write {
        document = document::written(&document, RULES, &found);
        fs::write(&file, &document).with_context(|| format!("cannot write {}", document::FILE))?;
    }
    if options.numbers.is_empty() {
        print!("{}", table(RULES, &found));
    }
    for number in &options.numbers {
        match RULES.iter().zip(&found).find(|(rule, _)| rule.0.eq_ignore_ascii_case(number)) {
            Some((rule, found)) => print!("{}", Detail(rule, found)),
            None => bail!("there is no rule {number}"),
        }
    }
    let mut wrong = judge(RULES, &found, &sources);
    wrong.extend(document::judge(&document, RULES, &found));
    wrong.extend(public::bare(&root)?);
    for line in &wrong {
        println!("  {} {line}", show::mark(false));
    }
    let count = |name| RULES.iter().filter(|rule| word(rule.2) == name).count();
    let (checked, shown, not_yet) = (count("checked"), count("shown"), count("not yet"));
    println!("{} rules: {checked} checked, {shown} shown, {not_yet} not yet; {} wrong", RULES.len(), wrong.len());
    Ok(if wrong.is_empty() { Verdict::Held } else { Verdict::Failed })
}

/// What the model does about a rule, in a word.
fn word(status: Status) -> &'static str {
    match status {
        Status::Checked => "checked",
        Status::Shown(_) => "shown",
        Status::NotYet(_) => "not yet",
    }
}

/// What the sources have of each rule.
fn search(rules: &[Rule], sources: &[Source]) -> Vec<Found> {
    let tests: Vec<Test> = sources.iter().flat_map(Source::model_tests).collect();
    let found = rules.iter().map(|(number, ..)| Found {
        model: sources.iter().flat_map(|source| source.reports(number)).collect(),
        broken: tests.iter().filter(|test| test.breaks(number)).map(|test| test.place.clone()).collect(),
        kept: tests.iter().filter(|test| test.keeps(number)).map(|test| test.place.clone()).collect(),
        driver: sources.iter().flat_map(|source| source.driver_names(number)).collect(),
        tests: sources.iter().flat_map(|source| source.test_names(number)).collect(),
    });
    found.collect()
}

impl Found {
    fn kinds(&self) -> [(&'static str, &[Place]); 4] {
        [("model", &self.model), ("broken by", &self.broken), ("kept by", &self.kept), ("driver", &self.driver)]
    }
}

/// What is wrong with the table, or with what names its rules; a line each.
fn judge(rules: &[Rule], found: &[Found], sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((number, _, status), found) in rules.iter().zip(found) {
        for (kind, places) in found.kinds().iter().take(3) {
            if *status == Status::Checked && places.is_empty() {
                wrong.push(match *kind {
                    "model" => format!("{number} is checked, says the table, but the model never reports it"),
                    kind => format!("{number} is checked, says the table, but it is {kind} no test"),
                });
            }
        }
    }
    for source in sources {
        let unknown = source.numbers().filter(|(number, _)| !rules.iter().any(|rule| rule.0 == *number));
        wrong.extend(unknown.map(|(number, place)| format!("{place} names {number}, and there is no such rule")));
        let gone = source.named_tests().filter(|(name, _)| !sources.iter().any(|source| source.defines(name)));
        wrong.extend(gone.map(|(name, place)| format!("{place} names the test {name}, which is gone")));
    }
    wrong
}

/// A line a rule: for each kind the first place, and how many more there are.
fn table(rules: &[Rule], found: &[Found]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["rule", "status", "model", "broken by", "kept by", "driver", "what it is about"]);
    for ((number, about, status), found) in rules.iter().zip(found) {
        let mut row = vec![(*number).to_owned(), word(*status).to_owned()];
        row.extend(found.kinds().map(|(_, places)| match places {
            [] => String::new(),
            [place] => place.short(),
            [place, more @ ..] => format!("{} +{}", place.short(), more.len()),
        }));
        row.push(match status {
            Status::Checked => (*about).to_owned(),
            Status::Shown(why) | Status::NotYet(why) => format!("{about} ({why})"),
        });
        table.add_row(row);
    }
    let lines = table.lines().map(|line| format!("{}\n", coloured(line.trim_end())));
    lines.collect()
}

/// Colours the status, which is the second word of a line.
fn coloured(line: &str) -> String {
    let colours =
        [("checked", style("checked").green()), ("shown", style("shown").cyan()), ("not yet", style("not yet").dim())];
    let status = line.trim_start().split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    match colours.into_iter().find(|(word, _)| status.starts_with(word)) {
        Some((word, styled)) => line.replacen(word, &styled.to_string(), 1),
        None => line.to_owned(),
    }
}

/// One rule with all its places.
struct Detail<'a>(&'a Rule, &'a Found);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self((number, about, status), found) = self;
        writeln!(f, "{} {about}: {}", style(number).bold(), word(*status))?;
        for (kind, places) in found.kinds() {
            for place in places {
                writeln!(f, "  {kind:<10} {place}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: [Rule; 2] = [("R1", "one thing", Status::Checked), ("R2", "another", Status::Shown("it is seen"))];

    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        judge(&RULE, &search(&RULE, &sources), &sources)
    }

    const MODEL: (&str, &str) = ("platform/model/src/unit.rs", "journal.violation(\"R1\", \"so\");\n");
    const BROKEN: &str = "#[test]\nfn broken() {\n    assert_eq!(driver.rules(), [\"R1\"]);\n}\n";
    const KEPT: &str = "#[test]\nfn kept() {\n    // R1\n    driver.machine.check();\n}\n";

    #[test]
    fn a_rule_that_is_reported_broken_and_kept_is_well() {
        let tests = [BROKEN, KEPT].concat();
        assert_eq!(wrong(&[MODEL, ("platform/model/tests/a.rs", &tests)]), [""; 0]);
    }

    #[test]
    fn a_checked_rule_needs_a_place_in_the_model_and_both_tests() {
        let is = "R1 is checked, says the table, but";
        let tests = [BROKEN, KEPT].concat();
        let unreported = format!("{is} the model never reports it");
        assert_eq!(wrong(&[("platform/model/tests/a.rs", &tests)]), [unreported]);
        assert_eq!(wrong(&[MODEL, ("platform/model/tests/a.rs", BROKEN)]), [format!("{is} it is kept by no test")]);
        assert_eq!(wrong(&[MODEL, ("platform/model/tests/a.rs", KEPT)]), [format!("{is} it is broken by no test")]);
        let elsewhere = wrong(&[MODEL, ("tests/a.rs", &tests)]);
        assert_eq!(elsewhere.len(), 2, "tests of the driver break nothing by hand");
    }

    #[test]
    fn a_number_that_no_rule_has_is_named_with_its_place() {
        let tests = [BROKEN, KEPT].concat();
        let driver = ("src/vtd/unit.rs", "//! So (R2).\n\n// R1, R3\n");
        let found = wrong(&[MODEL, ("platform/model/tests/a.rs", &tests), driver]);
        assert_eq!(found, ["src/vtd/unit.rs:3 names R3, and there is no such rule"]);
    }

    #[test]
    fn a_test_that_is_named_and_gone_is_named_with_its_place() {
        let tests = [BROKEN, KEPT].concat();
        let text = "Found by `a::what_is_planted_here_is_found` and `a_name`.\nfn what_is_planted_here_is_found() {\n";
        let here = ("platform/model/README.md", text);
        let files = [MODEL, ("platform/model/tests/a.rs", &tests), here];
        assert_eq!(wrong(&files), [""; 0]);
        let renamed = text.replace("fn what_is", "fn all_that_is");
        let gone = wrong(&[MODEL, ("platform/model/tests/a.rs", &tests), (here.0, &renamed)]);
        assert_eq!(gone, ["platform/model/README.md:1 names the test what_is_planted_here_is_found, which is gone"]);
    }

    #[test]
    fn the_table_has_a_line_a_rule_and_says_why_one_is_not_checked() {
        let place = |line| Place { file: "platform/model/src/unit.rs".into(), line, name: String::new() };
        let found = [Found { model: vec![place(1), place(9)], ..Found::default() }, Found::default()];
        let text = table(&RULE, &found);
        let text = console::strip_ansi_codes(&text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("R1") && lines[1].contains("unit.rs:1 +1") && lines[1].ends_with("one thing"));
        assert!(lines[2].contains("shown") && lines[2].ends_with("another (it is seen)"));
    }
}
