//! What the sources say about rules, line by line: rustfmt has laid them out, so no parser is needed.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result};
use walkdir::WalkDir;

/// Where rules are named, from the root of the repository.
const FOLDERS: [&str; 3] = ["src", "platform", "tests"];
const DRIVER: &str = "src/";
const TESTS: &str = "tests/";
const MODEL: &str = "platform/model/src/";
const MODEL_TESTS: &str = "platform/model/tests/";
/// The table itself, which also says which numbers there are not.
const TABLE: &str = "platform/model/src/judge/rules.rs";
/// How a test says that nothing is reported.
const SILENCE: [&str; 3] = ["[\"\"; 0]", ".check()", "vec![]"];
/// A name in backticks with this many words or more is a test's.
const WORDS_OF_A_TEST: usize = 5;

/// A line of a source, in the test `name` if that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub name: String,
}

impl Place {
    /// Without the folder that goes without saying.
    pub fn short(&self) -> String {
        let file = [MODEL, MODEL_TESTS, DRIVER].iter().find_map(|folder| self.file.strip_prefix(folder));
        format!("{}:{}", file.unwrap_or(&self.file), self.line)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " {}", self.name) }
    }
}

/// A file, by its path from the root of the repository.
#[derive(Debug)]
pub struct Source {
    path: String,
    text: String,
}

/// All files that may name a rule.
///
/// # Errors
///
/// One of them cannot be read.
pub fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for folder in FOLDERS {
        for entry in WalkDir::new(root.join(folder)).sort_by_file_name() {
            let path = entry?.into_path();
            if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                sources.push(Source { path, text });
            }
        }
    }
    Ok(sources)
}

impl Source {
    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    fn place(&self, line: usize) -> Place {
        Place { file: self.path.clone(), line: line + 1, name: String::new() }
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate()
    }

    /// Where the model reports a rule: its number in quotes. Unit tests report nothing, and a list is what is forgiven.
    pub fn reports(&self, number: &str) -> Vec<Place> {
        let quoted = format!("\"{number}\"");
        if !self.path.starts_with(MODEL) || self.path == TABLE || !self.text.contains(&quoted) {
            return Vec::new();
        }
        let end = self.text.find("#[cfg(test)]").unwrap_or(self.text.len());
        let (mut places, mut before) = (Vec::new(), '\n');
        for (line, text) in self.lines().take_while(|(line, _)| *line < self.line_of(end)) {
            let code = code(text);
            for (at, _) in code.match_indices(&quoted) {
                let before = last_visible(&code[..at]).unwrap_or(before);
                places.extend((!"[,".contains(before)).then(|| self.place(line)));
            }
            before = last_visible(code).unwrap_or(before);
        }
        places.dedup();
        places
    }

    fn line_of(&self, byte: usize) -> usize {
        self.text.get(..byte).unwrap_or_default().lines().count()
    }

    /// Where the driver names a rule.
    pub fn driver_names(&self, number: &str) -> Vec<Place> {
        let here = if self.path.starts_with(DRIVER) { self.text.as_str() } else { "" };
        let lines = here.lines().enumerate().filter(|(_, text)| names(comment(text), number));
        lines.map(|(line, _)| self.place(line)).collect()
    }

    /// Where a test of the driver names a rule.
    pub fn test_names(&self, number: &str) -> Vec<Place> {
        let is_test = self.path.starts_with(TESTS) || self.path.starts_with(DRIVER) && self.path.contains("/tests");
        let lines = self.lines().filter(|(_, text)| is_test && names(comment(text), number));
        lines.map(|(line, _)| self.place(line)).collect()
    }

    /// All numbers of rules, with where they are. None in the table: it is what they are measured by.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, Place)> {
        let lines = self.lines().filter(|_| self.path != TABLE);
        let numbers = lines.flat_map(|(line, text)| rules_in(text).map(move |word| (line, word)));
        numbers.map(|(line, word)| (word, self.place(line)))
    }

    /// Tests that a text names in backticks, with where.
    pub fn named_tests(&self) -> impl Iterator<Item = (&str, Place)> {
        let spans = self.lines().flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |s| (line, s)));
        let names = spans.map(|(line, span)| (line, span.rsplit("::").next().unwrap_or(span)));
        let is_test = |name: &str| {
            let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            plain && name.split('_').filter(|word| !word.is_empty()).count() >= WORDS_OF_A_TEST
        };
        names.filter(move |(_, name)| is_test(name)).map(|(line, name)| (name, self.place(line)))
    }

    /// True if there is a function of that name.
    pub fn defines(&self, name: &str) -> bool {
        self.text.contains(&format!("fn {name}("))
    }

    /// The tests of the model, which are sequences made by hand.
    pub fn model_tests(&self) -> Vec<Test> {
        let lines: Vec<&str> =
            if self.path.starts_with(MODEL_TESTS) { self.text.lines().collect() } else { Vec::new() };
        let marks = lines.iter().enumerate().filter(|(_, line)| line.trim() == "#[test]");
        let tests = marks.filter_map(|(mark, line)| {
            let rest = lines.get(mark..)?;
            let end = line.replace("#[test]", "}");
            let length = rest.iter().position(|line| *line == end)?;
            let (at, name) =
                rest.iter().enumerate().find_map(|(at, line)| Some((at, line.trim().strip_prefix("fn ")?)))?;
            let above = lines.get(..mark)?.iter().rev().take_while(|line| line.trim().starts_with("//"));
            let text = above.chain(rest.get(..length)?).map(|line| (*line).to_owned()).collect();
            let name = name.split('(').next()?.to_owned();
            Some(Test { place: Place { name, ..self.place(mark + at) }, lines: text })
        });
        tests.collect()
    }
}

/// A test of the model.
#[derive(Debug)]
pub struct Test {
    pub place: Place,
    lines: Vec<String>,
}

impl Test {
    /// True if it expects the report of a rule: its number in quotes, with or without the sentence that follows.
    pub fn breaks(&self, number: &str) -> bool {
        let quoted = [format!("\"{number}\""), format!("\"{number}: ")];
        self.lines.iter().any(|line| quoted.iter().any(|quoted| code(line).contains(quoted)))
    }

    /// True if it names the rule, and expects that nothing is reported.
    pub fn keeps(&self, number: &str) -> bool {
        let named = self.breaks(number) || self.lines.iter().any(|line| names(comment(line), number));
        named && self.lines.iter().any(|line| SILENCE.iter().any(|silence| code(line).contains(silence)))
    }
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The comment of a line.
fn comment(line: &str) -> &str {
    line.split_once("//").map_or("", |(_, comment)| comment)
}

fn last_visible(text: &str) -> Option<char> {
    text.trim_end().chars().next_back()
}

/// The numbers of rules in a text.
pub fn rules_in(text: &str) -> impl Iterator<Item = &str> {
    words(text).filter(|word| parts(word).is_some())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Letter, number and rest of a rule's number.
fn parts(word: &str) -> Option<(char, u32, &str)> {
    let letter = word.chars().next().filter(|letter| "RC".contains(*letter))?;
    let rest = word.get(1..)?.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = word.get(1..word.len() - rest.len())?;
    Some((letter, digits.parse().ok()?, rest)).filter(|(_, _, rest)| ["", "b"].contains(rest))
}

/// True if a text names the rule, by itself or as one of `R62 to R64`.
fn names(text: &str, number: &str) -> bool {
    if text.is_empty() {
        return false;
    }
    let wanted = parts(number);
    let words: Vec<&str> = words(text).collect();
    let within = |from: &str, to: &str| match (parts(from), wanted, parts(to)) {
        (Some(from), Some(wanted), Some(to)) => from.0 == wanted.0 && from <= wanted && wanted <= to,
        _ => false,
    };
    let ranges = words.windows(3).any(|three| matches!(three, [from, "to", to] if within(from, to)));
    ranges || words.contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(places: &[Place]) -> Vec<usize> {
        places.iter().map(|place| place.line).collect()
    }

    #[test]
    fn a_report_is_a_quoted_number_in_code_that_is_no_list_or_test() {
        let text = "\
//! assert_eq!(found[0].rule, \"R1\");
let forgives = [\"R2\", \"R1\"];
journal.violation(\"R1\", \"in a line\");
journal
    .violation(
        \"R1\",
let rule = if so { \"R1\" } else { \"R2\" };
#[cfg(test)]
assert_eq!(rule, \"R1\");
";
        let source = Source::new("platform/model/src/unit.rs", text);
        assert_eq!(lines(&source.reports("R1")), [3, 6, 7]);
        assert_eq!(lines(&source.reports("R2")), [7]);
        assert!(Source::new(TABLE, text).reports("R1").is_empty());
        assert!(Source::new("src/unit.rs", text).reports("R1").is_empty());
    }

    #[test]
    fn a_test_begins_with_its_comment_and_ends_at_its_brace() {
        let text = "\
fn helper() {
    // R9
}

/// R1: as it should be.
#[test]
#[ignore = \"slow\"]
fn first() {
    if so {
        driver.machine.check();
    }
}

mod inner {
    #[test]
    fn second() {
        // R3
        assert_eq!(driver.rules(), [\"R2\"]);
        says(&driver, \"R6b: a window\");
    }
}
";
        let tests = Source::new("platform/model/tests/a.rs", text).model_tests();
        let names: Vec<String> = tests.iter().map(|test| test.place.to_string()).collect();
        assert_eq!(names, ["platform/model/tests/a.rs:8 first", "platform/model/tests/a.rs:16 second"]);
        assert!(tests[0].keeps("R1") && !tests[0].breaks("R1") && !tests[0].keeps("R9"));
        assert!(tests[1].breaks("R2") && tests[1].breaks("R6b") && !tests[1].breaks("R6"));
        assert!(!tests[1].keeps("R2") && !tests[1].keeps("R3"), "it does not expect silence");
        assert!(Source::new("tests/a.rs", text).model_tests().is_empty());
    }

    #[test]
    fn the_driver_names_a_rule_in_a_comment_by_itself_or_in_a_range() {
        let text = "//! (R62 to R64)\nlet text = \"R1\"; // R2, R33b\n// R6\n";
        let source = Source::new("src/vtd/fault.rs", text);
        let lines = |number| lines(&source.driver_names(number));
        assert_eq!((lines("R62"), lines("R63"), lines("R64")), (vec![1], vec![1], vec![1]));
        assert_eq!((lines("R33b"), lines("R33"), lines("R1"), lines("R61")), (vec![2], vec![], vec![], vec![]));
        assert_eq!(lines("R6b"), [0; 0]);
    }

    #[test]
    fn a_number_is_a_word_of_its_own() {
        let source = Source::new("src/a.rs", "// R1, (R33b): C5. RW R CR2 R2x xR3 R4_ \"R6\"");
        let numbers: Vec<&str> = source.numbers().map(|(number, _)| number).collect();
        assert_eq!(numbers, ["R1", "R33b", "C5", "R6"]);
    }
}
