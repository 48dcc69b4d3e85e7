//! `cargo xtask size`: how large the driver is, and that it leaves a guest's registers alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use iced_x86::{CpuidFeature, Instruction, InstructionInfoFactory, Mnemonic, Register};
use object::SectionKind;

use crate::{Verdict, bare_metal::Toolchain, bss, c, header, image::Image, setup, show};

/// Makes every call, with any capacities.
const PROGRAM: &str = "driver";
/// What is not the driver's: the standard library, with the padding between functions; and what calls the driver.
const STANDARD_LIBRARY: &str = "(core, padding)";
const PROGRAM_ITSELF: &str = "(this program)";

/// What an instruction counts for that is the C interface's.
const C_INTERFACE: &str = "(C interface)";

/// A client in C that is only linked, and what its code and its constants may take.
struct Client {
    name: &'static str,
    what: &'static str,
    /// Parts of the names of calls that it does not make.
    without: &'static [&'static str],
    /// What is not to be exceeded, in bytes: what it takes now, and a little more.
    most: u64,
    /// What it is to come to.
    wanted: u64,
}

const CLIENTS: [Client; 2] = [
    Client { name: "all", what: "every call", without: &[], most: 302_000, wanted: 144 << 10 },
    Client {
        name: "small",
        what: "every call but the audit and words",
        without: &["audit", "words"],
        most: 245_000,
        wanted: 104 << 10,
    },
];

/// Bytes of one module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    text: u64,
    data: u64,
    bss: u64,
}

pub fn verb() -> Result<Verdict> {
    let rust = setup::ensure_rust()?;
    println!("Rust for bare metal: {rust}");
    let path = rust.never_run(&[PROGRAM])?.remove(PROGRAM).context("cargo built no program")?;
    let image = Image::read(&path)?;
    let instructions = image.instructions()?;
    println!("{}", table(&sizes(&image, &instructions)?));
    println!("constants and texts of all: {} bytes", image.bytes_of(SectionKind::ReadOnlyData)?);
    let mut wrong = BTreeSet::new();
    for instruction in instructions.iter().filter(|it| touches_guest(it)) {
        let place = image.places(instruction.ip())?.into_iter().next();
        wrong.insert(format!("{:?}: {}", instruction.code(), place.map_or("?".into(), |place| place.to_string())));
    }
    let count = instructions.len();
    println!("{} none of {count} instructions touches a vector, x87 or MMX register", show::mark(wrong.is_empty()));
    wrong.iter().for_each(|wrong| println!("       {wrong}"));
    let all = [clients(&rust)?, bss::check(&rust)?];
    let held = wrong.is_empty() && all.iter().all(|it| *it == Verdict::Held);
    Ok(if held { Verdict::Held } else { Verdict::Failed })
}

/// What the library for C takes in clients.
fn clients(rust: &Toolchain) -> Result<Verdict> {
    let (library, calls) = (c::library(rust)?, header::functions(&crate::root())?.calls);
    let mut verdict = Verdict::Held;
    for Client { name, what, without, most, wanted } in CLIENTS {
        let made = calls.iter().filter(|call| !without.iter().any(|part| call.contains(part)));
        let image = Image::read(&c::client(&library, name, made)?)?;
        let instructions = image.instructions()?;
        let (text, data) = (image.bytes_of(SectionKind::Text)?, image.bytes_of(SectionKind::ReadOnlyData)?);
        println!("\nA client in C, fat LTO at -Os: {what}\n{}", table(&sizes(&image, &instructions)?));
        let (all, held) = (text + data, text + data <= most);
        println!(
            "code {text} and constants {data}: {all} bytes; {wanted} are wanted, {} less",
            all.saturating_sub(wanted)
        );
        println!("{} no more than {most} bytes", show::mark(held));
        if !held {
            verdict = Verdict::Failed;
        }
    }
    Ok(verdict)
}

/// By module of the driver, as it is the innermost one that the instruction or the static comes from.
fn sizes(image: &Image, instructions: &[Instruction]) -> Result<BTreeMap<String, Size>> {
    let mut sizes = BTreeMap::<String, Size>::new();
    for instruction in instructions {
        let places = image.places(instruction.ip())?;
        let module = places.iter().find_map(|place| place.module());
        let ours = || places.iter().any(|place| place.file.starts_with(crate::root()));
        let for_c = || places.iter().any(|place| place.file.starts_with(crate::root().join("capi")));
        let other = || match (for_c(), ours()) {
            (true, _) => C_INTERFACE,
            (false, true) => PROGRAM_ITSELF,
            (false, false) => STANDARD_LIBRARY,
        };
        let module = module.unwrap_or_else(|| other().into());
        sizes.entry(module).or_default().text += instruction.len() as u64;
    }
    for symbol in image.symbols()?.values() {
        let module = module_of(&symbol.name);
        match symbol.kind {
            SectionKind::Data => sizes.entry(module).or_default().data += symbol.bytes,
            SectionKind::UninitializedData => sizes.entry(module).or_default().bss += symbol.bytes,
            _ => {}
        }
    }
    Ok(sizes)
}

/// The module that a static belongs to, by its name.
fn module_of(name: &str) -> String {
    let name = name.trim_start_matches('<');
    match name.strip_prefix("cofferdam::") {
        Some(rest) => rest.split("::").next().unwrap_or(rest).to_owned(),
        None if name.starts_with("core::") => STANDARD_LIBRARY.to_owned(),
        None => PROGRAM_ITSELF.to_owned(),
    }
}

fn table(sizes: &BTreeMap<String, Size>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["module", "text", "data", "bss"]);
    let row = |name: &str, it: &Size| [name.to_owned(), it.text.to_string(), it.data.to_string(), it.bss.to_string()];
    let is_driver = |name: &str| !name.starts_with('(');
    let mut total = Size::default();
    for (name, size) in sizes.iter().filter(|(name, _)| is_driver(name)) {
        table.add_row(row(name, size));
        let Size { text, data, bss } = size;
        total = Size { text: total.text + text, data: total.data + data, bss: total.bss + bss };
    }
    table.add_row(row("cofferdam", &total));
    sizes.iter().filter(|(name, _)| !is_driver(name)).for_each(|(name, size)| {
        table.add_row(row(name, size));
    });
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// True if an instruction reads or writes what a hypervisor leaves to its guests: SSE, AVX, AMX, x87 and MMX state.
fn touches_guest(instruction: &Instruction) -> bool {
    use CpuidFeature::{AVX, FPU, FPU287, FPU387, FXSR, MMX, XSAVE, XSAVEC, XSAVEOPT, XSAVES};
    let guest =
        |it: Register| it.is_vector_register() || it.is_st() || it.is_mm() || it.is_k() || it.is_tmm() || it.is_bnd();
    // Those that name no register, as EMMS, FNINIT and VZEROUPPER.
    let state = [AVX, FPU, FPU287, FPU387, FXSR, MMX, XSAVE, XSAVEC, XSAVEOPT, XSAVES];
    InstructionInfoFactory::new().info(instruction).used_registers().iter().any(|it| guest(it.register()))
        || instruction.cpuid_features().iter().any(|feature| state.contains(feature))
        || matches!(instruction.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn an_instruction_that_touches_the_guests_registers_is_seen() {
        let touches = |bytes: &[u8]| touches_guest(&Decoder::new(64, bytes, DecoderOptions::NONE).decode());
        for (bytes, what) in [
            (&b"\x0f\x28\xc1"[..], "movaps xmm0, xmm1"),
            (b"\x0f\x11\x07", "movups [rdi], xmm0"),
            (b"\xc5\xf8\x77", "vzeroupper"),
            (b"\xd9\xe8", "fld1"),
            (b"\xdb\xe3", "fninit"),
            (b"\x0f\x77", "emms"),
            (b"\x0f\x6f\xc1", "movq mm0, mm1"),
            (b"\x0f\xae\x07", "fxsave [rdi]"),
            (b"\x0f\xae\x17", "ldmxcsr [rdi]"),
        ] {
            assert!(touches(bytes), "{what}");
        }
        for (bytes, what) in [
            (&b"\x48\x89\xc8"[..], "mov rax, rcx"),
            (b"\x0f\xae\xf8", "sfence"),
            (b"\x66\x0f\xae\x37", "clwb [rdi]"),
            (b"\x66\x0f\xae\x3f", "clflushopt [rdi]"),
            (b"\x0f\xae\x3f", "clflush [rdi]"),
            (b"\xf3\x90", "pause"),
            (b"\x0f\xa2", "cpuid"),
            (b"\xf3\x48\xa5", "rep movsq"),
        ] {
            assert!(!touches(bytes), "{what}");
        }
    }

    #[test]
    fn a_static_belongs_to_the_first_part_of_its_path() {
        assert_eq!(module_of("cofferdam::hal::cache::Method::get::FOUND"), "hal");
        assert_eq!(module_of("<cofferdam::hal::cache::Method>::get::FOUND"), "hal");
        assert_eq!(module_of("cofferdam_no_panic::anything::NUMBER"), PROGRAM_ITSELF);
        assert_eq!(module_of("core::ascii::TABLE"), STANDARD_LIBRARY);
    }
}
