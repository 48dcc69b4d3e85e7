//! What a history asks of the driver: mostly what is possible, and often what goes together.

use cofferdam::addr::Rights;

use crate::history::History;
use crate::oracle::{Edit, Slot};
use crate::pages::Extent;

/// Addresses of the last edits, which devices then try.
const RECENT: usize = 32;
/// Where memory is mapped: first page, pages, and how often.
const PLACES: [(u64, u64, u64); 6] = [
    (0, 3072, 14),
    // In pages of 1 GiB, of which two fit in.
    (0x4_0000, 0x8_0000, 2),
    // Around the addresses of interrupts.
    (0xfec00, 0x500, 1),
    // Around the ends of 39 and of 48 bits.
    ((1 << 27) - 0x300, 0x600, 1),
    ((1 << 36) - 0x300, 0x600, 1),
    ((1 << 45) - 0x300, 0x300, 1),
];

impl History<'_> {
    /// Up to eight edits at once, most of which are possible.
    pub(crate) fn edits(&mut self) -> Vec<Edit> {
        let most = if self.random.one_in(3) { self.random.between(2, 8) as usize } else { 1 };
        let mut edits = Vec::new();
        // What is asked for is not always possible, and what goes together comes together.
        for _ in 0..3 * most {
            let count = edits.len();
            self.suggest(&mut edits);
            let is_in_vain = match self.oracle.stage(&edits) {
                Ok(after) => after.routes.in_vain,
                Err(_) => !self.random.one_in(24),
            };
            if is_in_vain {
                edits.truncate(count);
            }
            if edits.len() >= most {
                break;
            }
        }
        if edits.is_empty() {
            self.suggest(&mut edits);
        }
        for edit in &edits {
            let (Edit::Map(_, first, Extent { end, .. })
            | Edit::Unmap(_, first, end)
            | Edit::Protect(_, first, end, _)) = *edit
            else {
                continue;
            };
            let middle = self.random.between(first, end - 1);
            self.recent.extend([first, end - 1, middle, first.saturating_sub(1), end]);
        }
        let old = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..old);
        edits
    }

    fn suggest(&mut self, edits: &mut Vec<Edit>) {
        if self.remaps() && self.random.one_in(5) {
            return self.suggest_route(edits);
        }
        let slots: Vec<Slot> = self.oracle.slots().collect();
        let (cell, other) = (self.random.of(&slots), self.random.of(&slots));
        let device = self.random.below(self.oracle.devices.len() as u64) as usize;
        let rights = self.random.of(&[Rights::READ, Rights::WRITE, Rights::all(), Rights::all()]);
        let full = self.oracle.cell(cell).pages.len() > 40;
        let shared = self.random.one_in(4);
        match self.random.below(if full { 16 } else { 40 }) {
            0..4 => {
                let (first, end, _) = self.part(cell);
                edits.push(Edit::Unmap(cell, first, end));
            }
            4..8 => {
                let (first, end, _) = self.part(cell);
                edits.push(Edit::Protect(cell, first, end, rights));
            }
            8..10 => {
                // Memory moves from one cell to another, or to another address.
                let (first, end, output) = self.part(cell);
                // As much as a table of 4 KiB pages has may lie anywhere.
                let anywhere = end - first <= 1100 && self.random.one_in(2);
                let to = match self.oracle.root() == Some(other) {
                    true => output,
                    false if anywhere => self.random.below(3072),
                    false => first,
                };
                edits.push(Edit::Unmap(cell, first, end));
                edits.push(Edit::Map(other, to, Extent { end: to + (end - first), output, rights, shared }));
            }
            10 => {
                // The same addresses lead elsewhere.
                let (first, end, _) = self.part(cell);
                edits.push(Edit::Unmap(cell, first, end));
                let output = self.output(cell, first);
                edits.push(Edit::Map(cell, first, Extent { end, output, rights, shared }));
            }
            // Those that share a source-id leave together, or not at all.
            11..14 => {
                let others = self.oracle.sharing(device).filter(|other| self.oracle.devices[*other].cell.is_some());
                edits.push(Edit::Release(device));
                edits.extend(others.map(Edit::Release));
            }
            14 if self.random.one_in(3) => edits.push(Edit::Destroy(cell)),
            14 => edits.push(Edit::Wrong(cell, self.random.below(3) as u8)),
            15..18 => edits.extend([Edit::Release(device), self.assignment(device, cell)]),
            18..26 => edits.push(self.assignment(device, cell)),
            _ if self.oracle.root() == Some(cell) => {
                // Memory that other cells have, too.
                let (first, end) = self.anywhere();
                let output = self.output(other, first);
                edits.push(Edit::Map(cell, output, Extent { end: output + (end - first), output, rights, shared }));
            }
            _ => {
                let (first, end) = self.anywhere();
                // What is shared is memory that another cell may share as well.
                let output = self.output(if shared { other } else { cell }, first);
                edits.push(Edit::Map(cell, first, Extent { end, output, rights, shared }));
            }
        }
    }

    /// With a device-TLB and messages more often than not, where that can be.
    fn assignment(&mut self, index: usize, cell: Slot) -> Edit {
        let device = &self.oracle.devices[index];
        let facts = &self.oracle.units[device.unit];
        let (can, remaps) = (facts.device_tlbs && device.function.ats.is_some(), facts.remaps);
        let device_tlb = if can { !self.random.one_in(4) } else { self.random.one_in(24) };
        let messages = match (self.remaps(), remaps) {
            (false, _) => 0,
            (_, true) if self.random.one_in(40) => 64,
            (_, true) => self.random.of(&[0, 1, 1, 2, 3, 4, 8]),
            (_, false) => u16::from(self.random.one_in(24)),
        };
        Edit::Assign(index, cell, device_tlb, messages)
    }

    /// Part of what a cell has, or all of one extent, or something else; and where it leads.
    fn part(&mut self, cell: Slot) -> (u64, u64, u64) {
        let pages = &self.oracle.cell(cell).pages;
        let count = pages.len() as u64;
        if count == 0 || self.random.one_in(12) {
            let (first, end) = self.anywhere();
            return (first, end, self.output(cell, first));
        }
        let (first, extent) = pages.iter().nth(self.random.below(count) as usize).expect("below the count");
        let last = extent.end - 1;
        let start = if self.random.one_in(2) { first } else { self.random.between(first, last) };
        let end = match self.random.below(4) {
            0 => (start + 1 + self.random.below(3)).min(extent.end),
            1 => self.random.between(start, last) + 1,
            // Perhaps across a border, too.
            2 if self.random.one_in(4) => extent.end + 1,
            _ => extent.end,
        };
        (start, end, extent.output + (start - first))
    }

    /// A range of pages, which begins at a boundary more often than not.
    pub(crate) fn anywhere(&mut self) -> (u64, u64) {
        let weights: u64 = PLACES.iter().map(|(.., weight)| weight).sum();
        let mut choice = self.random.below(weights);
        let mut place = PLACES[0];
        for candidate in PLACES {
            if choice < candidate.2 {
                place = candidate;
                break;
            }
            choice -= candidate.2;
        }
        let (base, pages, _) = place;
        if pages == 0x8_0000 && self.large {
            let grain = if self.random.one_in(4) { 0x4_0000 } else { 0x200 };
            let first = base + self.random.below(pages / grain) * grain;
            let count = if grain == 0x200 { grain * self.random.between(1, 6) } else { grain };
            return (first, first + count);
        }
        let grain = self.random.of(&[1, 1, 0x200]);
        let first = base + self.random.below(pages) / grain * grain;
        let left = (base + pages - first).max(1);
        let count = match self.random.below(4) {
            0 => self.random.between(1, left.min(1100)),
            1 => (0x200 * self.random.between(1, 3)).min(left),
            _ => self.random.between(1, 4.min(left)),
        };
        (first, first + count)
    }

    /// Memory for pages from `first` on, more often than not with the alignment that large pages need.
    fn output(&mut self, cell: Slot, first: u64) -> u64 {
        if self.random.one_in(60) {
            // At the end of what the machine has, or in the interrupts' range.
            return self.random.of(&[(1 << 27) - 0x20, 0xfee00]);
        }
        if first >= 0x4_0000 {
            return 0x10_0000 * (1 + cell as u64) + (first & 0xf_ffff);
        }
        let base = 0x6_0000 + 0x4000 * cell as u64 + first;
        match self.random.below(4) {
            0 => base ^ 5,
            1 => base + 0x200 * self.random.below(4),
            _ => base,
        }
    }
}
