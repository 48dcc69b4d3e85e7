//! The hardware's own tables, read back as the hardware finds them: from its registers on, with bit positions taken
//! from the specification anew (VT-d 5.10, sections 9.1, 9.3, 9.8, 11.4.3, 11.4.5), not from the driver.

use core::ptr;

use cofferdam::hal::{Hal, Window};

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

/// Walks all tables of a unit that is in legacy mode.
///
/// # Safety
///
/// `window` is a unit's, its tables are the driver's, nobody changes them, and memory is mapped one to one.
pub unsafe fn count_leaves(hal: &impl Hal, window: Window) -> Leaves {
    // SAFETY: every unit has these registers.
    let ecap = unsafe { hal.read64(window, ECAP) };
    // SAFETY: as above.
    let root = unsafe { hal.read64(window, RTADDR) } & ADDRESS;
    let mut leaves = Leaves { snoop_control: ecap >> 7 & 1 == 1, ..Leaves::default() };
    for root_entry in words(root).step_by(2).filter(|entry| entry & 1 == 1) {
        let mut halves = words(root_entry & ADDRESS);
        while let (Some(lower), Some(upper)) = (halves.next(), halves.next()) {
            if lower & 1 == 1 {
                leaves.functions += 1;
                walk(lower & ADDRESS, (upper & 7) + 2, &mut leaves);
            }
        }
    }
    leaves
}

fn walk(table: u64, level: u64, leaves: &mut Leaves) {
    for entry in words(table).filter(|entry| entry & 3 != 0) {
        let snooped = entry >> 11 & 1;
        if level > 1 && entry >> 7 & 1 == 0 {
            leaves.snooped_tables += snooped;
            walk(entry & ADDRESS, level - 1, leaves);
        } else {
            leaves.snooped += snooped;
            if let Some(count) = leaves.by_size.get_mut(level as usize - 1) {
                *count += 1;
            }
        }
    }
}

/// The 512 words of a table.
fn words(table: u64) -> impl Iterator<Item = u64> {
    (0..512).map(move |index| {
        let word: *const u64 = ptr::with_exposed_provenance(table as usize + index * 8);
        // SAFETY: a table of the driver's, mapped one to one, as the caller of `count_leaves` says.
        unsafe { word.read_volatile() }
    })
}
