//! Which file uses what another one defines.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};

use super::tree::{Module, Named, Tree};

/// As many names may lead from one to the next, or more if there is a circle of imports of a name.
const MAX_STEPS: usize = 64;

/// A line of one file that uses what another defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: PathBuf,
    pub line: usize,
    pub to: PathBuf,
    /// The modules, from the root of the crate.
    pub modules: [String; 2],
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} uses {}", self.from.display(), self.line, self.to.display())
    }
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

impl Tree {
    /// All of them, each once. A module that exports what a module below it defines does not use it.
    pub fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (here, module) in self.modules.iter().enumerate() {
            let imports = module.imports.iter().map(|import| (&import.named, import.exported));
            for (named, exported) in imports.chain(module.named.iter().map(|named| (named, false))) {
                let Some(Target::Module(to) | Target::Item(to)) = self.resolve(here, &named.path, 0) else { continue };
                let Some(target) = self.modules.get(to) else { continue };
                let below = target.path.len() > module.path.len() && target.path.starts_with(&module.path);
                if target.file != module.file && !(exported && below) {
                    arrows.insert(arrow(module, named, target));
                }
            }
        }
        arrows
    }

    fn resolve(&self, here: usize, path: &[String], steps: usize) -> Option<Target> {
        let (first, mut rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(here),
            "super" => Target::Module(self.modules.get(here)?.parent?),
            name => self.step(here, name, rest.is_empty(), steps)?,
        };
        while let (Target::Module(module), [name, more @ ..]) = (target, rest) {
            let next = match name.as_str() {
                "super" => Some(Target::Module(self.modules.get(module)?.parent?)),
                name => self.step(module, name, more.is_empty(), steps),
            };
            // What a macro defines is not seen, so it is the module's where it is looked for.
            let Some(next) = next else { break };
            (target, rest) = (next, more);
        }
        Some(target)
    }

    /// What a name means in a module. What is not the last of a path is a module rather than a function of that name.
    fn step(&self, module: usize, name: &str, last: bool, steps: usize) -> Option<Target> {
        if steps > MAX_STEPS {
            return None;
        }
        let it = self.modules.get(module)?;
        let child = it.children.get(name).map(|child| Target::Module(*child));
        let item = it.items.contains(name).then_some(Target::Item(module));
        let own = if last { item.or(child) } else { child.or(item) };
        let bound = |import: &&super::tree::Import| import.name.as_deref() == Some(name);
        let mut imports = it.imports.iter().filter(bound);
        let imported = || imports.find_map(|import| self.resolve(module, &import.named.path, steps + 1));
        own.or_else(imported).or_else(|| {
            let globs = it.imports.iter().filter(|import| import.name.is_none());
            let modules = globs.filter_map(|import| match self.resolve(module, &import.named.path, steps + 1)? {
                Target::Module(other) if other != module => Some(other),
                _ => None,
            });
            modules.into_iter().find_map(|other| self.step(other, name, last, steps + 1))
        })
    }
}

fn arrow(from: &Module, named: &Named, to: &Module) -> Arrow {
    let modules = [from.path.join("::"), to.path.join("::")];
    Arrow { from: from.file.clone(), line: named.line, to: to.file.clone(), modules }
}

/// Files that use each other in a circle, and the first arrow from each to each other.
pub fn circles(arrows: &BTreeSet<Arrow>) -> Vec<Vec<&Arrow>> {
    let files: Vec<&PathBuf> =
        Vec::from_iter(arrows.iter().flat_map(|arrow| [&arrow.from, &arrow.to]).collect::<BTreeSet<_>>());
    let number = |file: &PathBuf| files.binary_search(&file).unwrap_or_default();
    let graph = DiGraphMap::<usize, ()>::from_edges(arrows.iter().map(|it| (number(&it.from), number(&it.to))));
    let mut circles: Vec<Vec<&Arrow>> = Vec::new();
    for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
        let within = |file: &PathBuf| circle.contains(&number(file));
        let mut seen = BTreeSet::new();
        let arrows = arrows.iter().filter(|it| within(&it.from) && within(&it.to));
        circles.push(arrows.filter(|it| seen.insert((&it.from, &it.to))).collect());
    }
    circles.sort();
    circles
}
