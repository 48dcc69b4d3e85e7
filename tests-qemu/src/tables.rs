//! The hardware's own tables, read back as the hardware finds them: from its registers on, with bit positions taken
//! from the specification alone (VT-d 5.10, sections 9.1, 9.3, 9.8, 11.4.3, 11.4.5), not from the driver.

use core::ptr;

use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};

/// What the entries that map a page have in common, over all tables of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves {
    /// The unit has snoop control.
    pub snoop_control: bool,
    /// How many there are, of 4 KiB, 2 MiB and 1 GiB.
    pub by_size: [u64; 3],
    /// How many have SNP.
    pub snooped: u64,
    /// How many entries that lead to a table have SNP, which is reserved there.
    pub snooped_tables: u64,
    /// Functions with a context entry.
    pub functions: u64,
    /// Buses with a context table, whatever functions are asked for.
    pub context_tables: u64,
}

impl Leaves {
    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.by_size.iter().sum()
    }
}

const ECAP: u32 = 0x10;
const RTADDR: u32 = 0x20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Of the root table.
    Root,
    /// Of a context table.
    Context,
    /// It leads to a table; its level, from 1 for the lowest.
    Table(u64),
    /// It maps a page; its level.
    Page(u64),
}

/// Registers as the platform maps them, if it does.
pub fn mapped(hal: &impl Hal, window: RegisterWindow) -> Option<MappedRegisters> {
    Some(MappedRegisters { window, first: hal.map_registers(window)? })
}

/// Counts what the functions of which `is_asked` is true reach.
///
/// # Safety
///
/// As for [`live_words`].
pub unsafe fn count_leaves(hal: &impl Hal, window: RegisterWindow, is_asked: impl Fn(u16) -> bool) -> Leaves {
    // SAFETY: every unit has this register.
    let ecap = mapped(hal, window).map_or(0, |registers| unsafe { hal.read64(registers, ECAP) });
    let mut leaves = Leaves { snoop_control: ecap >> 7 & 1 == 1, ..Leaves::default() };
    let mut each = |entry, _: u64, word: u64| match entry {
        // Each of both comes as two words.
        Entry::Root => leaves.context_tables += 1,
        Entry::Context => leaves.functions += 1,
        Entry::Table(_) => leaves.snooped_tables += word >> 11 & 1,
        Entry::Page(level) => {
            leaves.snooped += word >> 11 & 1;
            if let Some(count) = leaves.by_size.get_mut(level as usize - 1) {
                *count += 1;
            }
        }
    };
    // SAFETY: passed on from the caller.
    unsafe { live_words(hal, window, is_asked, &mut each) };
    leaves.functions /= 2;
    leaves.context_tables /= 2;
    leaves
}

/// Tells each word of each entry in use, with where it is, of the tables of a unit that is in legacy mode: all of the root
/// table, and of the rest what belongs to the functions of which `is_asked` is true.
///
/// # Safety
///
/// `window` is a unit's, its tables are the driver's, nobody changes them, and memory is mapped one to one.
pub unsafe fn live_words(
    hal: &impl Hal,
    window: RegisterWindow,
    is_asked: impl Fn(u16) -> bool,
    each: &mut dyn FnMut(Entry, u64, u64),
) {
    // SAFETY: every unit has this register.
    let root = mapped(hal, window).map_or(0, |registers| unsafe { hal.read64(registers, RTADDR) }) & ADDRESS;
    for bus in 0..256 {
        let Some((context_table, _)) = tell_present(root, bus, Entry::Root, each) else { continue };
        for devfn in (0..256).filter(|devfn| is_asked((bus << 8 | devfn) as u16)) {
            if let Some((lower, upper)) = tell_present(context_table & ADDRESS, devfn, Entry::Context, each) {
                walk(lower & ADDRESS, (upper & 7) + 2, each);
            }
        }
    }
}

/// Tells both words of an entry of a root or context table if it is present, and gives them.
fn tell_present(table: u64, index: u64, kind: Entry, each: &mut dyn FnMut(Entry, u64, u64)) -> Option<(u64, u64)> {
    let at = table + 16 * index;
    let (lower, upper) = (word(at), word(at + 8));
    (lower & 1 == 1).then(|| {
        each(kind, at, lower);
        each(kind, at + 8, upper);
        (lower, upper)
    })
}

fn walk(table: u64, level: u64, each: &mut dyn FnMut(Entry, u64, u64)) {
    for at in (table..).step_by(8).take(512) {
        let entry = word(at);
        match (entry & 3, level, entry >> 7 & 1) {
            (0, ..) => {}
            (_, 1, _) | (_, _, 1) => each(Entry::Page(level), at, entry),
            _ => {
                each(Entry::Table(level), at, entry);
                walk(entry & ADDRESS, level - 1, each);
            }
        }
    }
}

/// A word of a table.
fn word(at: u64) -> u64 {
    let word: *const u64 = ptr::with_exposed_provenance(at as usize);
    // SAFETY: of a table of the driver's, mapped one to one, as the caller of `live_words` says.
    unsafe { word.read_volatile() }
}
