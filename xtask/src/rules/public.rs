//! Public documentation that cites a rule by its number alone: who reads it cannot know what that is.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, TraitItem, Visibility};

use super::scan;
use crate::layers::tree::{Tree, is_test};

/// The root module of the driver.
const DRIVER: &str = "src/lib.rs";

/// The lines of the driver's public documentation that cite a rule without a link to it.
///
/// What is `pub` counts as public: the linter sees to it that whoever uses the crate can reach it.
///
/// # Errors
///
/// The driver cannot be read.
pub fn bare(root: &Path) -> Result<Vec<String>> {
    let tree = Tree::read(root, Path::new(DRIVER))?;
    let mut wrong = Vec::new();
    for module in tree.modules.iter().filter(|module| module.is_file) {
        let text = fs::read_to_string(root.join(&module.file))
            .with_context(|| format!("cannot read {}", module.file.display()))?;
        let file = syn::parse_file(&text)?;
        let mut reader = Reader::default();
        if module.is_public {
            reader.documents(&file.attrs);
        }
        file.items.iter().for_each(|item| reader.item(item));
        reader.found.sort();
        let found = reader.found.into_iter();
        wrong.extend(
            found.map(|(line, number)| format!("{}:{line} cites {number} without a link", module.file.display())),
        );
    }
    Ok(wrong)
}

#[derive(Default)]
struct Reader {
    found: Vec<(usize, String)>,
}

impl Reader {
    fn documents(&mut self, attributes: &[Attribute]) {
        for attribute in attributes {
            if let Meta::NameValue(it) = &attribute.meta
                && it.path.is_ident("doc")
                && let Expr::Lit(text) = &it.value
                && let Lit::Str(text) = &text.lit
            {
                let line = attribute.pound_token.spans[0].start().line;
                self.found.extend(without_link(&text.value()).map(|number| (line, number)));
            }
        }
    }

    fn public(&mut self, visibility: &Visibility, attributes: &[Attribute]) {
        if matches!(visibility, Visibility::Public(_)) {
            self.documents(attributes);
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Const(it) => self.public(&it.vis, &it.attrs),
            Item::Fn(it) => self.public(&it.vis, &it.attrs),
            Item::Static(it) => self.public(&it.vis, &it.attrs),
            Item::Struct(it) => self.public(&it.vis, &it.attrs),
            Item::Type(it) => self.public(&it.vis, &it.attrs),
            Item::Use(it) => self.public(&it.vis, &it.attrs),
            Item::Enum(it) => {
                self.public(&it.vis, &it.attrs);
                it.variants.iter().for_each(|variant| {
                    self.public(&it.vis, &variant.attrs);
                    variant.fields.iter().for_each(|field| self.public(&it.vis, &field.attrs));
                });
            }
            Item::Trait(it) => {
                self.public(&it.vis, &it.attrs);
                for item in &it.items {
                    match item {
                        TraitItem::Const(item) => self.public(&it.vis, &item.attrs),
                        TraitItem::Fn(item) => self.public(&it.vis, &item.attrs),
                        TraitItem::Type(item) => self.public(&it.vis, &item.attrs),
                        _ => {}
                    }
                }
            }
            Item::Impl(it) if !is_test(&it.attrs) => {
                for item in &it.items {
                    match item {
                        ImplItem::Const(item) => self.public(&item.vis, &item.attrs),
                        ImplItem::Fn(item) => self.public(&item.vis, &item.attrs),
                        _ => {}
                    }
                }
            }
            Item::Mod(it) => {
                if is_test(&it.attrs) {
                    return;
                }
                self.public(&it.vis, &it.attrs);
                it.content.iter().flat_map(|(_, items)| items).for_each(|item| self.item(item));
            }
            _ => {}
        }
        if let Item::Struct(it) = item {
            it.fields.iter().for_each(|field| self.public(&field.vis, &field.attrs));
        }
    }
}

/// The rules that a line of documentation cites by their numbers alone.
fn without_link(line: &str) -> impl Iterator<Item = String> {
    let mut rest = line.to_owned();
    // `[R12](somewhere/rules#r12)`, whatever else the text of the link says.
    while let Some((start, end)) = link(&rest) {
        rest.replace_range(start..end, " ");
    }
    Vec::from_iter(scan::rules_in(&rest).map(str::to_owned)).into_iter()
}

/// Where a link to a rule that its text cites begins and ends.
fn link(line: &str) -> Option<(usize, usize)> {
    line.match_indices("](").find_map(|(middle, _)| {
        let start = line.get(..middle)?.rfind('[')?;
        let end = middle + line.get(middle..)?.find(')')? + 1;
        let (text, target) = (line.get(start..middle)?, line.get(middle + 2..end - 1)?);
        let (page, rule) = target.rsplit_once('#')?;
        let is_that = scan::rules_in(text).all(|number| number.eq_ignore_ascii_case(rule));
        (page.contains("rules") && is_that).then_some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        without_link(text).collect()
    }

    #[test]
    fn a_number_needs_a_link_to_its_own_rule() {
        for good in ["[R12](crate::guide::rules#r12) and CR2", "as ([`R33b`](../docs/rules.md#r33b)) says"] {
            assert_eq!(found(good), [""; 0], "{good}");
        }
        assert_eq!(found("so (R12, C3)"), ["R12", "C3"]);
        assert_eq!(found("`R12`, [R13](crate::guide::rules#r14), [R15](crate::guide#r15)"), ["R12", "R13", "R15"]);
        assert_eq!(found("[R12](crate::guide::rules#r12) to R14"), ["R14"]);
    }

    #[test]
    fn public_documentation_is_read_and_no_other() {
        let root = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("src")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(root.path().join(path), text).unwrap();
        write("src/lib.rs", "//! R1\npub mod a;\nmod b;\n#[cfg(test)]\npub mod tests;\n/// R2\npub fn f() {}\n");
        write(
            "src/a.rs",
            "//! R3\n\n/// R4\npub(crate) struct A {\n/// R5\npub a: u8,\n/// R6\nb: u8 }\n// R7\npub fn g() {}\n",
        );
        write(
            "src/b.rs",
            "//! R8\n/// R9\npub enum B {\n/// R10\nA {\n/// R11\na: u8 } }\nimpl B {\n/// R12\npub fn f() {}\n/// R13\n\
             fn g() {} }\npub trait T {\n/// R14\nfn h(); }\n#[cfg(test)]\nmod tests {\n/// R15\npub fn t() {} }\n",
        );
        write("src/tests.rs", "//! R16\n");
        let lines: Vec<String> = bare(root.path()).unwrap();
        let cited: Vec<_> = lines.iter().map(|line| line.split_once(" cites ").unwrap()).collect();
        let wanted = [
            ("src/lib.rs:1", 1),
            ("src/lib.rs:6", 2),
            ("src/a.rs:1", 3),
            ("src/a.rs:5", 5),
            ("src/b.rs:2", 9),
            ("src/b.rs:4", 10),
            ("src/b.rs:6", 11),
            ("src/b.rs:9", 12),
            ("src/b.rs:14", 14),
        ];
        let wanted = wanted.map(|(place, number)| (place, format!("R{number} without a link")));
        assert_eq!(cited, wanted.iter().map(|(place, rest)| (*place, rest.as_str())).collect::<Vec<_>>());
    }
}
