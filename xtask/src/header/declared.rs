//! The names that the header declares.

use std::collections::BTreeSet;

/// What the header has beside what the library knows: macros of arguments, its own guard, and that nothing failed.
const ONLY_THERE: [&str; 3] = ["COFFERDAM_H", "COFFERDAM_DEVICE", "COFFERDAM_OK"];

pub fn functions(header: &str) -> BTreeSet<String> {
    let code = without_comments(header);
    let calls = code.match_indices('(').filter_map(|(at, _)| name_before(&code, at));
    calls.filter(|name| name.starts_with("cofferdam_") && *name != "cofferdam_device").map(str::to_owned).collect()
}

/// Those of `enum`, and those of `#define` that have a number.
pub fn constants(header: &str) -> BTreeSet<String> {
    let code = without_comments(header);
    let assigned = code.match_indices('=').filter_map(|(at, _)| name_before(&code, at));
    let defined = code.lines().filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
    let all = assigned.chain(defined.map(|name| name.split('(').next().unwrap_or(name)));
    all.filter(|name| name.starts_with("COFFERDAM_") && !ONLY_THERE.contains(name)).map(str::to_owned).collect()
}

/// Those of each struct, behind its name.
pub fn fields(header: &str) -> BTreeSet<String> {
    let code = without_comments(header);
    let mut fields = BTreeSet::new();
    let mut within = None::<String>;
    for line in code.lines() {
        if let Some(name) = line.strip_prefix("struct ").and_then(|rest| rest.strip_suffix(" {")) {
            within = Some(name.to_owned());
        } else if line.starts_with('}') {
            within = None;
        } else if let Some(name) = within.as_ref().filter(|_| line.contains(';')) {
            fields.insert(format!("{name}.{}", name_of(line.trim().trim_end_matches(';'))));
        }
    }
    fields
}

/// The name that a field's declaration gives: before its array bounds, or in the brackets of a pointer to a function.
fn name_of(field: &str) -> &str {
    if let Some((_, rest)) = field.split_once("(*") {
        return rest.split(')').next().unwrap_or(rest);
    }
    let plain = field.split('[').next().unwrap_or(field);
    plain.rsplit([' ', '*', '\t']).next().unwrap_or(plain)
}

/// The name that ends before a place, spaces left out.
fn name_before(code: &str, at: usize) -> Option<&str> {
    let before = code.get(..at)?.trim_end();
    let start = before.rfind(|it: char| !it.is_alphanumeric() && it != '_').map_or(0, |at| at + 1);
    before.get(start..)
}

fn without_comments(header: &str) -> String {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    // A comment at the end of a line leaves spaces there.
    (code + rest).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "#define COFFERDAM_H\n#define COFFERDAM_N 3 /* a */\n#define COFFERDAM_DEVICE(a) \\\n (a)\n\
        enum { COFFERDAM_OK = 0, COFFERDAM_X = 1 };\nstruct cofferdam_a {\n\tuint8_t one[4]; /* x; */\n\tstruct cofferdam_b *two;\n\
        \tvoid (*each)(void *context, int x);\n};\nint cofferdam_f(struct cofferdam_a *a,\n void (*each)(int));\n";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_found() {
        assert_eq!(functions(HEADER), set(&["cofferdam_f"]));
        assert_eq!(constants(HEADER), set(&["COFFERDAM_N", "COFFERDAM_X"]));
        assert_eq!(fields(HEADER), set(&["cofferdam_a.one", "cofferdam_a.two", "cofferdam_a.each"]));
    }
}
