//! A linked image: its symbols, its instructions, and the lines of the source that they come from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use addr2line::Loader;
use anyhow::{Context, Result, anyhow, bail};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use object::{
    Object, ObjectSection, ObjectSymbol, Relocation, RelocationKind, RelocationTarget, SectionKind, SymbolKind,
};

/// An image and its line tables.
pub struct Image {
    path: PathBuf,
    bytes: Vec<u8>,
    lines: Loader,
}

/// A named piece of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    pub bytes: u64,
    pub kind: SectionKind,
}

/// A function of an image, which may go by several names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    pub names: Vec<String>,
    /// Where the next begins, at the earliest.
    pub end: u64,
}

impl Function {
    /// True if all its names begin so.
    pub fn is_of(&self, start: &str) -> bool {
        self.names.iter().all(|name| name.starts_with(start))
    }

    /// True if it puts something into words.
    pub fn is_formatter(&self) -> bool {
        self.names.iter().any(|name| name.contains(" as core::fmt::") || name.starts_with("core::fmt::"))
    }

    /// True if one of its names ends so.
    pub fn is_called(&self, end: &str) -> bool {
        self.names.iter().any(|name| name.ends_with(end))
    }
}

/// A line of the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub function: String,
    pub file: PathBuf,
    pub line: u32,
}

impl Place {
    /// The driver's module that the line is in, if it is the driver's: the first part of its path below `src`.
    pub fn module(&self) -> Option<String> {
        let file = self.file.strip_prefix(crate::root().join("src")).ok()?;
        let first = Path::new(file.components().next()?.as_os_str());
        Some(first.file_stem()?.to_string_lossy().into_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.strip_prefix(crate::root()).unwrap_or(&self.file);
        write!(f, "{}:{}, in {}", file.display(), self.line, self.function)
    }
}

impl Image {
    /// # Errors
    ///
    /// There is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = Loader::new(path).map_err(|error| anyhow!("no line tables in {}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), bytes, lines })
    }

    fn file(&self) -> Result<object::File<'_>> {
        object::File::parse(&*self.bytes).with_context(|| format!("{} is no image", self.path.display()))
    }

    /// Its functions and statics, by address.
    ///
    /// # Errors
    ///
    /// It is no image, or was stripped.
    pub fn symbols(&self) -> Result<BTreeMap<u64, Symbol>> {
        let file = self.file()?;
        let symbols = file.symbols().filter(|it| matches!(it.kind(), SymbolKind::Text | SymbolKind::Data));
        let symbols: BTreeMap<_, _> = symbols
            .filter_map(|it| {
                let kind = file.section_by_index(it.section_index()?).ok()?.kind();
                let name = format!("{:#}", rustc_demangle::demangle(it.name().ok()?));
                Some((it.address(), Symbol { name, bytes: it.size(), kind }))
            })
            .collect();
        if symbols.is_empty() {
            bail!("{} has no symbols", self.path.display());
        }
        Ok(symbols)
    }

    /// Its functions by address: every name, and where it ends.
    ///
    /// # Errors
    ///
    /// It is no image, or was stripped.
    pub fn functions(&self) -> Result<BTreeMap<u64, Function>> {
        let file = self.file()?;
        let mut functions = BTreeMap::<u64, Function>::new();
        for symbol in file.symbols().filter(|it| it.kind() == SymbolKind::Text && it.size() != 0) {
            let function = functions.entry(symbol.address()).or_default();
            function.end = function.end.max(symbol.address() + symbol.size());
            function.names.push(format!("{:#}", rustc_demangle::demangle(symbol.name()?)));
        }
        if functions.is_empty() {
            bail!("{} has no symbols", self.path.display());
        }
        Ok(functions)
    }

    /// The addresses that its constant tables hold, by the slot: those that are filled in when it is loaded, as in the global
    /// offset table, or were by a linker that kept its relocations; but none in memory that may be written later.
    ///
    /// # Errors
    ///
    /// It is no image.
    pub fn slots(&self) -> Result<BTreeMap<u64, u64>> {
        let file = self.file()?;
        let is_constant =
            |name: &str| name == ".got" || name.starts_with(".data.rel.ro") || name.starts_with(".rodata");
        let sections = || file.sections().filter(|it| it.name().is_ok_and(is_constant));
        let ranges: Vec<_> = sections().map(|it| it.address()..it.address() + it.size()).collect();
        let filled = file.dynamic_relocations().into_iter().flatten();
        let filled = filled.filter(|(slot, _)| ranges.iter().any(|range| range.contains(slot)));
        let filled = filled.map(|(slot, relocation)| (slot, relocation.addend() as u64));
        Ok(filled.chain(sections().flat_map(|it| kept(&file, &it, 64))).collect())
    }

    /// The addresses that instructions hold as numbers, by where in the image: of one whose linker kept its relocations.
    ///
    /// # Errors
    ///
    /// It is no image.
    pub fn numbers(&self) -> Result<BTreeMap<u64, u64>> {
        let file = self.file()?;
        let sections = file.sections().filter(|it| it.kind() == SectionKind::Text);
        Ok(sections.flat_map(|it| kept(&file, &it, 32)).collect())
    }

    /// The bytes of its constants, by where they begin.
    ///
    /// # Errors
    ///
    /// It is no image.
    pub fn constants(&self) -> Result<BTreeMap<u64, Vec<u8>>> {
        let file = self.file()?;
        let is_constant = |kind| matches!(kind, SectionKind::ReadOnlyData | SectionKind::ReadOnlyString);
        let sections = file.sections().filter(|it| is_constant(it.kind()));
        sections.map(|it| Ok((it.address(), it.data()?.to_vec()))).collect()
    }

    /// Bytes of all sections of one kind.
    ///
    /// # Errors
    ///
    /// It is no image.
    pub fn bytes_of(&self, kind: SectionKind) -> Result<u64> {
        Ok(self.file()?.sections().filter(|it| it.kind() == kind).map(|it| it.size()).sum())
    }

    /// Every instruction of it, in order.
    ///
    /// # Errors
    ///
    /// It is no image, or holds bytes that are no instruction.
    pub fn instructions(&self) -> Result<Vec<Instruction>> {
        let mut all = Vec::new();
        for section in self.file()?.sections().filter(|it| it.kind() == SectionKind::Text) {
            let mut decoder = Decoder::with_ip(64, section.data()?, section.address(), DecoderOptions::NONE);
            all.extend(decoder.iter());
        }
        if let Some(bad) = all.iter().find(|it| it.is_invalid()) {
            bail!("{}: no instruction at {:#x}", self.path.display(), bad.ip());
        }
        Ok(all)
    }

    /// Those of these functions, in order: of an image that has other code as well.
    ///
    /// # Errors
    ///
    /// As of [`instructions`](Self::instructions).
    pub fn instructions_of(&self, functions: &BTreeMap<u64, Function>) -> Result<Vec<Instruction>> {
        let (file, mut all) = (self.file()?, Vec::<Instruction>::new());
        for (start, function) in functions {
            let mut sections = file.sections().filter(|it| it.kind() == SectionKind::Text);
            let bytes = sections.find_map(|it| it.data_range(*start, function.end - start).ok()?);
            let bytes = bytes.with_context(|| format!("{}: no code at {start:#x}", self.path.display()))?;
            if all.last().is_none_or(|last| last.next_ip() <= *start) {
                all.extend(Decoder::with_ip(64, bytes, *start, DecoderOptions::NONE).iter());
            }
        }
        if let Some(bad) = all.iter().find(|it| it.is_invalid()) {
            bail!("{}: no instruction at {:#x}", self.path.display(), bad.ip());
        }
        Ok(all)
    }

    /// The lines that an instruction comes from: its own, then that of each function which it was inlined into.
    ///
    /// # Errors
    ///
    /// The line tables are torn.
    pub fn places(&self, address: u64) -> Result<Vec<Place>> {
        let torn = |error| anyhow!("{}: {error}", self.path.display());
        let mut frames = self.lines.find_frames(address).map_err(torn)?;
        let mut places = Vec::new();
        while let Some(frame) = frames.next().map_err(|error| anyhow!("{}: {error}", self.path.display()))? {
            let name = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let function = name.map_or_else(|| "?".into(), |name| short(&name).to_owned());
            let Some(location) = frame.location else { continue };
            // Line 0 stands for no line, and then the file means nothing either.
            let (Some(file), Some(line @ 1..)) = (location.file, location.line) else { continue };
            places.push(Place { function, file: file.into(), line });
        }
        Ok(places)
    }
}

/// The addresses of so many bits that a linker put into a section, by where, if it kept its relocations.
fn kept(file: &object::File<'_>, section: &object::Section<'_, '_>, bits: u8) -> Vec<(u64, u64)> {
    let absolute = |it: &Relocation| it.kind() == RelocationKind::Absolute && it.size() == bits;
    let relocations = section.relocations().filter(|(_, it)| absolute(it));
    let address = |it: &Relocation| match it.target() {
        RelocationTarget::Symbol(index) => Some(file.symbol_by_index(index).ok()?.address()),
        _ => None,
    };
    relocations.filter_map(|(at, it)| Some((at, address(&it)?.wrapping_add_signed(it.addend())))).collect()
}

/// A name without its type parameters, which may be longer than a line, and without the hash that rustc puts at its end.
fn short(name: &str) -> &str {
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|it| it.is_ascii_hexdigit()) => name,
        _ => name,
    };
    match name.find('<') {
        Some(0) | None => name,
        Some(end) => name.get(..end).unwrap_or(name).trim_end_matches(':'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_to_what_identifies_the_function() {
        for (name, cut) in [
            ("cofferdam::vtd::unit::Unit::begin::h0123456789abcdef", "cofferdam::vtd::unit::Unit::begin"),
            ("release<cofferdam_no_panic::platform::Platform, 64, 16, 256>", "release"),
            ("core::panicking::assert_failed::<usize, usize>", "core::panicking::assert_failed"),
            ("<str as core::fmt::Debug>::fmt", "<str as core::fmt::Debug>::fmt"),
            ("a::hide", "a::hide"),
        ] {
            assert_eq!(short(name), cut);
        }
    }

    #[test]
    fn a_line_of_the_driver_is_in_a_module() {
        let module = |file| Place { function: "f".into(), file: crate::root().join(file), line: 1 }.module();
        assert_eq!(module("src/vtd/unit.rs").as_deref(), Some("vtd"));
        assert_eq!(module("src/iommu.rs").as_deref(), Some("iommu"));
        assert_eq!(module("tests-qemu/no-panic/src/calls.rs"), None);
        assert_eq!(module("/rustc/core/src/slice.rs"), None);
    }
}
