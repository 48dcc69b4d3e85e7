//! `cargo xtask stack`: how much stack each call takes in clients, at most: each call of the front, and each from C.

mod chain;
mod frame;
mod painted;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use console::style;
use iced_x86::Instruction;

use crate::{
    Verdict,
    bare_metal::Toolchain,
    build, c, header,
    image::{Function, Image},
    panics, setup, show,
};
use chain::{Deepest, Graph};
use frame::{Data, Frame};

/// What the client's program is called that is only linked.
const CLIENT: &str = "cofferdam-outside";
/// A C function of it that makes a call of the front has that call's name after this.
const CALL: &str = "call_";
/// What no call may exceed, in bytes: half of a hypervisor's stack.
const BAR: u64 = 2048;

/// The profiles of the client that it is built in, and what they are.
const PROFILES: [(&str, &str); 3] =
    [("release", "default release"), ("lto-fast", "fat LTO, -O3"), ("lto-small", "fat LTO, -Os")];

/// How the library's calls begin, and its own functions. It has one profile.
const CALL_OF_C: &str = "cofferdam_";
const OF_LIBRARY: &str = "cofferdam_c::";
const IN_WORDS: [&str; 3] = ["cofferdam_error_words", "cofferdam_fault_words", "cofferdam_finding_words"];
const LIBRARY: &str = "C, fat LTO, -Os";

/// Functions that call themselves: the end of their path, and how often each can be in a chain.
const MOST: [(&str, u32); 2] = [
    // A page of 1 GiB becomes a table, of which one page of 2 MiB becomes another.
    ("::parts", 2),
    // Its budget begins below 9 descriptors, is less by one each time, and is not divided further at 2 (`Cost::IOTLB`).
    ("::cheapest", 8),
];

/// How a function is called that takes a closure by value, and how those of the client begin, which call nothing of the driver
/// through a pointer.
const BY_VALUE: &str = "::call_once{{vtable.shim}}";
const OF_CLIENT: &str = "cofferdam_outside::";

#[derive(Args)]
pub struct Options {
    /// Calls to show with their deepest chains, beside the deepest of all.
    #[arg(value_name = "CALL")]
    calls: Vec<String>,
}

/// What was found of one profile.
struct Measured {
    what: &'static str,
    calls: BTreeMap<String, Deepest>,
    names: BTreeMap<u64, String>,
    /// Calls of nobody knows whom.
    unknown: usize,
    /// Which of [`MOST`] were needed.
    used: BTreeSet<&'static str>,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let setup::Tools { rust, qemu } = setup::ensure(None)?;
    println!("Rust for bare metal: {rust}");
    let (folder, bin) = (build::OUTSIDE, CLIENT);
    let mut measured = Vec::new();
    for (profile, what) in PROFILES {
        let path = rust.outside(folder, profile, bin, "")?;
        measured.push(measure(&path, CALL, OF_CLIENT, what).with_context(|| format!("in the client, {what}"))?);
    }
    let from_c = [in_c(&rust)?];
    check(&options.calls, measured.iter().chain(&from_c))?;
    println!("Bytes of stack that each call takes at most, without what the platform's own functions take:\n");
    tell(&measured, &options.calls)?;
    println!("From C, without what the client's own functions take:\n");
    tell(&from_c, &options.calls)?;
    let mut wrong = judge(&measured);
    wrong.extend(judge(&from_c).into_iter().map(|wrong| format!("from C, {wrong}")));
    wrong.extend(unneeded(&measured));
    wrong.extend(painted::check(&rust, qemu)?);
    let root = crate::root();
    let uncalled = panics::uncalled(&root.join("src"), "iommu", &root.join(folder).join("src"))?;
    // Types whose `Display` it does not use are among them.
    let uncalled = uncalled.iter().filter(|name| name.starts_with(char::is_lowercase));
    wrong.extend(uncalled.map(|name| format!("nothing in {folder} calls {name}")));
    let unknown: Vec<String> = measured.iter().chain(&from_c).map(|it| it.unknown.to_string()).collect();
    println!("Calls through pointers, by profile: {}", unknown.join(", "));
    println!("{} no call is above its bar: {} wrong", show::mark(wrong.is_empty()), wrong.len());
    wrong.iter().for_each(|wrong| println!("       {wrong}"));
    Ok(if wrong.is_empty() { Verdict::Held } else { Verdict::Failed })
}

/// # Errors
///
/// One of `named` is no call.
fn check<'m>(named: &[String], measured: impl Iterator<Item = &'m Measured>) -> Result<()> {
    let calls: BTreeSet<&String> = measured.flat_map(|it| it.calls.keys()).collect();
    if let Some(name) = named.iter().find(|name| !calls.contains(name)) {
        bail!(
            "there is no call {name}; there are {}",
            Vec::from_iter(calls.into_iter().map(String::as_str)).join(", ")
        );
    }
    Ok(())
}

/// Prints what each call takes, and the deepest chain of each profile and of each of `named`.
///
/// # Errors
///
/// A profile lacks a call.
fn tell(measured: &[Measured], named: &[String]) -> Result<()> {
    let calls: BTreeSet<&String> = measured.iter().flat_map(|it| it.calls.keys()).collect();
    for Measured { calls: has, what, .. } in measured {
        if let Some(lost) = calls.iter().find(|call| !has.contains_key(**call)) {
            bail!("the client has no {CALL}{lost}: {what}");
        }
    }
    print!("{}", table(&calls, measured));
    for measured in measured {
        let deepest = measured.calls.iter().max_by_key(|(_, deepest)| deepest.bytes).map(|(call, _)| call);
        for call in deepest.into_iter().chain(named) {
            if let Some(deepest) = measured.calls.get(call) {
                let (name, what) = (style(call).bold(), measured.what);
                println!("\n{name}, {what}: {} bytes\n{}", deepest.bytes, measured.chain(deepest));
            }
        }
    }
    println!();
    Ok(())
}

/// What is above its bar; a line each.
fn judge(measured: &[Measured]) -> Vec<String> {
    let mut wrong = Vec::new();
    let calls: BTreeSet<&String> = measured.iter().flat_map(|it| it.calls.keys()).collect();
    for call in calls {
        let most = measured.iter().filter_map(|it| it.calls.get(call)).map(|deepest| deepest.bytes).max();
        if let Some(most) = most.filter(|most| *most > BAR) {
            wrong.push(format!("{call} takes up to {most} bytes, and its bar is {BAR}"));
        }
    }
    wrong
}

/// What bounds nothing; a line each.
fn unneeded(measured: &[Measured]) -> impl Iterator<Item = String> {
    let unused = MOST.iter().filter(|(end, _)| !measured.iter().any(|it| it.used.contains(end)));
    unused.map(|(end, _)| format!("nothing that is called {end} calls itself, so it needs no bound"))
}

/// A line a call, a column a profile. What is above its bar is marked.
fn table(calls: &BTreeSet<&String>, measured: &[Measured]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let profiles = measured.iter().map(|it| it.what);
    table.set_header(["call"].into_iter().chain(profiles).chain(["bar"]));
    for call in calls {
        let mut row = vec![(*call).clone()];
        row.extend(measured.iter().map(|measured| {
            let bytes = measured.calls.get(*call).map_or(0, |deepest| deepest.bytes);
            if bytes > BAR { format!("! {bytes}") } else { bytes.to_string() }
        }));
        row.push(BAR.to_string());
        table.add_row(row);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

impl Measured {
    /// A chain, a line a function.
    fn chain(&self, deepest: &Deepest) -> String {
        let name = |function| self.names.get(function).map_or("?", String::as_str);
        let lines = deepest.chain.iter().map(|(function, bytes)| format!("  {bytes:>6}  {}\n", plain(name(function))));
        lines.collect::<String>().trim_end().to_owned()
    }
}

/// A function's name without type parameters, of which the platform is one everywhere.
fn plain(name: &str) -> String {
    let (mut plain, mut kept, mut before) = (String::new(), Vec::new(), ' ');
    for c in name.chars() {
        if c == '<' {
            // `<impl Type>` is a part of the path, what follows a name are its parameters.
            kept.push(!before.is_alphanumeric() && before != '_');
        }
        if !kept.contains(&false) {
            plain.push(c);
        }
        if c == '>' && before != '-' {
            kept.pop();
        }
        before = c;
    }
    plain
}

/// The constants of an image.
struct Constants<'a> {
    functions: &'a BTreeMap<u64, Function>,
    slots: BTreeMap<u64, u64>,
    numbers: BTreeMap<u64, u64>,
    bytes: BTreeMap<u64, Vec<u8>>,
    /// The addresses that instructions take.
    taken: BTreeSet<u64>,
}

impl Data for Constants<'_> {
    fn slot(&self, address: u64) -> Option<u64> {
        self.slots.get(&address).copied()
    }

    fn numbers(&self, it: &Instruction) -> Vec<u64> {
        self.numbers.range(it.ip()..it.next_ip()).map(|(_, number)| *number).collect()
    }

    fn word(&self, address: u64) -> Option<i32> {
        let (start, bytes) = self.bytes.range(..=address).next_back()?;
        let rest = bytes.get(usize::try_from(address - start).ok()?..)?;
        Some(i32::from_le_bytes(*rest.first_chunk()?))
    }

    fn begins(&self, address: u64) -> bool {
        self.taken.contains(&address)
    }

    fn probes(&self, function: u64) -> bool {
        self.functions.get(&function).is_some_and(|it| it.is_called("__rust_probestack"))
    }
}

/// A function that is reached through a pointer, and how far from the start of a table that lies, if it does in one.
type Callback = (Option<u64>, u64);

impl Constants<'_> {
    /// The function at an address, or those of the table that begins there and ends where another does, each with how far from
    /// its start the pointer lies: a closure that is called through `dyn` is in such a table.
    fn callbacks_at(&self, pointer: u64) -> BTreeSet<Callback> {
        let (mut found, mut tables, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![(None, pointer)]);
        while let Some((offset, at)) = waiting.pop() {
            if let Some(function) = self.functions.get(&at) {
                if !function.is_called(BY_VALUE) && !function.is_formatter() {
                    found.insert((offset, at));
                }
            } else if tables.insert(at) {
                let end = self.taken.range(at + 1..).next().copied().unwrap_or(u64::MAX);
                waiting.extend(self.slots.range(at..end).map(|(slot, held)| (Some(slot - at), *held)));
            }
        }
        found
    }

    /// The functions that a call of this one may lead to through pointers.
    fn callbacks(&self, start: u64, frames: &BTreeMap<u64, Frame>) -> BTreeSet<Callback> {
        let (mut callbacks, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![start]);
        while let Some(function) = waiting.pop() {
            let Some(frame) = frames.get(&function).filter(|_| seen.insert(function)) else { continue };
            waiting.extend(frame.calls.keys());
            for callback in frame.pointers.iter().flat_map(|pointer| self.callbacks_at(*pointer)) {
                waiting.push(callback.1);
                callbacks.insert(callback);
            }
        }
        callbacks
    }
}

/// The same of a client in C that makes all calls of the library but those that say something in words, where a formatter calls
/// whatever it finds.
fn in_c(rust: &Toolchain) -> Result<Measured> {
    let mut functions = header::functions(&crate::root())?;
    functions.calls.retain(|call| !IN_WORDS.contains(&call.as_str()));
    let client = c::followed(&c::library(rust)?, &functions)?;
    let mut measured = measure(&client, CALL_OF_C, OF_LIBRARY, LIBRARY).context("in the client in C")?;
    measured.calls.retain(|call, _| !call.starts_with("platform_"));
    Ok(measured)
}

/// What a client's functions take that make a call each: those whose names begin with `call`, and go on as plain names do. The
/// names of its own begin with `of_client`.
fn measure(path: &Path, call: &str, of_client: &str, what: &'static str) -> Result<Measured> {
    let image = Image::read(path)?;
    let functions = image.functions()?;
    let instructions = image.instructions_of(&functions)?;
    let (slots, numbers, bytes) = (image.slots()?, image.numbers()?, image.constants()?);
    let taken = instructions.iter().filter(|it| it.is_ip_rel_memory_operand()).map(Instruction::ip_rel_memory_address);
    let taken = taken.chain(numbers.values().copied()).collect();
    let data = Constants { functions: &functions, slots, numbers, bytes, taken };
    let mut entries = BTreeMap::new();
    for (start, function) in &functions {
        let names = function.names.iter().filter_map(|name| name.strip_prefix(call)).filter(|rest| !rest.contains(':'));
        entries.extend(names.map(|name| (name.to_owned(), *start)));
    }
    if entries.is_empty() {
        bail!("{} has no function {call}..", path.display());
    }
    let mut waiting: Vec<u64> = entries.values().copied().collect();
    let mut frames = BTreeMap::new();
    while let Some(start) = waiting.pop() {
        if frames.contains_key(&start) {
            continue;
        }
        let function = functions.get(&start).with_context(|| format!("no function begins at {start:#x}"))?;
        if function.names.iter().any(|name| panics::only_panics(name)) {
            // Nothing of the driver leads there, and what a client prints then is its own.
            frames.insert(start, Frame::default());
            continue;
        }
        let frame = Frame::of(part(&instructions, start, function), &data);
        let frame = frame.with_context(|| format!("the stack of {}", function.names.join(", ")))?;
        waiting.extend(frame.calls.keys());
        let callbacks = frame.pointers.iter().flat_map(|pointer| data.callbacks_at(*pointer));
        waiting.extend(callbacks.map(|(_, function)| function));
        frames.insert(start, frame);
    }
    let names: BTreeMap<u64, String> = functions.iter().map(|(start, it)| (*start, it.names.join(" = "))).collect();
    let name = |function| names.get(&function).cloned().unwrap_or_default();
    let entry = |function| MOST.iter().find(|(end, _)| functions.get(&function).is_some_and(|it| it.is_called(end)));
    let most = |function| entry(function).map(|(_, most)| *most);
    let used = Graph::new(&frames, most, name)?.bounded().filter_map(entry).map(|(end, _)| *end).collect();
    let mut calls = BTreeMap::new();
    for (call, start) in entries {
        // Each may be called wherever such a pointer is, once in a chain.
        let callbacks = data.callbacks(start, &frames);
        let mut frames = frames.clone();
        let of_client = |function| functions.get(function).is_some_and(|it| it.is_of(of_client));
        for (_, Frame { calls, taken_at_unknown, .. }) in frames.iter_mut().filter(|(function, _)| !of_client(function))
        {
            for (pointer, taken) in taken_at_unknown {
                let may_be = |offset: Option<u64>| offset.is_none() || pointer.is_none() || offset == *pointer;
                for (_, callback) in callbacks.iter().filter(|(offset, _)| may_be(*offset)) {
                    let most = calls.entry(*callback).or_default();
                    *most = (*most).max(*taken);
                }
            }
        }
        let is_callback = |function| callbacks.iter().any(|(_, callback)| *callback == function);
        let most = |function| most(function).or(is_callback(function).then_some(1));
        calls.insert(call, Graph::new(&frames, most, name)?.deepest(start));
    }
    let unknown = frames.values().map(|frame| frame.unknown).sum();
    Ok(Measured { what, calls, names, unknown, used })
}

/// The instructions of a function.
fn part<'a>(instructions: &'a [Instruction], start: u64, function: &Function) -> &'a [Instruction] {
    let at = |address| instructions.partition_point(|it| it.ip() < address);
    instructions.get(at(start)..at(function.end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn measured(what: &'static str, calls: &[(&str, u64)]) -> Measured {
        let deepest = |bytes| Deepest { bytes, chain: vec![(1, bytes)] };
        let calls = calls.iter().map(|(call, bytes)| ((*call).to_owned(), deepest(*bytes))).collect();
        let used = MOST.iter().map(|(end, _)| *end).collect();
        Measured { what, calls, names: BTreeMap::new(), unknown: 0, used }
    }

    #[test]
    fn a_call_above_its_bar_in_one_profile_is_wrong() {
        let good = || measured("", &[("commit", 2048), ("audit", 1)]);
        assert_eq!(judge(&[good(), good(), good()]), [""; 0]);
        let bad = measured("", &[("commit", 2049), ("audit", 1)]);
        assert_eq!(judge(&[good(), good(), bad]), ["commit takes up to 2049 bytes, and its bar is 2048"]);
    }

    #[test]
    fn a_bound_that_nothing_needs_is_wrong() {
        let mut some = measured("", &[("commit", 1)]);
        some.used.remove("::cheapest");
        let unneeded = Vec::from_iter(unneeded(&[some]));
        assert_eq!(unneeded, ["nothing that is called ::cheapest calls itself, so it needs no bound"]);
    }

    #[test]
    fn a_call_that_a_profile_lacks_is_an_error() {
        let all = || measured("whole", &[("commit", 1), ("map", 1)]);
        assert!(tell(&[all(), all(), all()], &["map".to_owned()]).is_ok());
        let error = tell(&[all(), measured("small", &[("map", 1)]), all()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "the client has no call_commit: small");
        let error = check(&["unmap".to_owned()], [all()].iter()).unwrap_err();
        assert_eq!(error.to_string(), "there is no call unmap; there are commit, map");
    }

    #[test]
    fn a_name_loses_its_type_parameters() {
        for (name, short) in [
            ("a::Iommu<H,_,_>::commit", "a::Iommu::commit"),
            ("a::map::<impl a::Table<F>>::fill", "a::map::<impl a::Table>::fill"),
            ("<a::Map<I,F> as core::Iterator>::fold", "<a::Map as core::Iterator>::fold"),
            ("a::f::<fn(u8) -> u8>", "a::f::<fn(u8) -> u8>"),
            ("call_map", "call_map"),
        ] {
            assert_eq!(plain(name), short);
        }
    }
}
