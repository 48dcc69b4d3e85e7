//! What has to hold, step by step.

use core::fmt::Write;

use cofferdam::Coherency;
use cofferdam::addr::{IovaRange, PhysAddr, Region, Rights};
use cofferdam::fault::{Access, Cause};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Edu, Leaves, Words};

use crate::memory::{CELL_BYTES, Memory, PAGE};
use crate::stage::{Player, Stage, input};

/// Pages of a cell's memory, by their offset; none is the first of a large page.
pub(crate) const SCRATCH: u64 = 0x2_0000;
pub(crate) const SOURCE: u64 = 0x21_0000;
const UNMAPPED: u64 = 0x40_5000;
const REMAPPED: u64 = 0x60_7000;
const COPY: u64 = 0x80_3000;
/// Offsets past the cell's memory.
const READ_ONLY: u64 = 2 * CELL_BYTES;
const NOWHERE: u64 = 3 * CELL_BYTES;

/// `edu` moves less than a page at a time.
const HALF: u64 = PAGE / 2;

impl Player {
    /// Has the device copy a page within the cell's memory.
    fn copy(&self, from: u64, to: u64) {
        for part in [0, HALF] {
            self.device.read(input(from + part), HALF);
            self.device.write(input(to + part), HALF);
        }
    }
}

pub(crate) fn region(offset: u64, output: PhysAddr, bytes: u64, rights: Rights) -> Result<Region, Words> {
    Region::new(input(offset), output, bytes, rights)
        .ok_or_else(|| Words::new(format_args!("no region of {bytes} bytes at {offset:#x}")))
}

fn page(offset: u64) -> Result<IovaRange, Words> {
    IovaRange::new(input(offset), PAGE).ok_or_else(|| Words::new(format_args!("no page at {offset:#x}")))
}

/// Step 1.
impl Stage<'_> {
    /// What the driver says of a device's source-ids is what the unit sees, which a bridge may have replaced.
    pub(crate) fn each_device_is_who_the_driver_says(&self) {
        for (own, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            let (sender, ids) = (own.sender, own.requesters.ids());
            let shares = own.requesters.shared_with(other.device.source());
            let what = Words::new(format_args!(
                "device {}: its requests carry a source-id that the driver says, and that device {} {}",
                own.name,
                other.name,
                if shares { "shares" } else { "does not have" }
            ));
            let ok = ids.contains(&sender) && other.requesters.ids().contains(&sender) == shares;
            let mut seen = Words::new(format_args!("{sender}; the driver says"));
            ids.iter().for_each(|id| _ = write!(seen, " {id}"));
            self.report.expect(ok, what.as_str(), format_args!("{}", seen.as_str()));
        }
    }

    /// Before any cell owns it, a device is blocked, and the fault is read.
    pub(crate) fn blocked_without_a_cell(&self) {
        for (name, player) in [("first", &self.a), ("second", &self.b)] {
            let device = &player.device;
            for access in [Access::Read, Access::Write] {
                let what = Words::new(format_args!("no cell owns the {name} device yet: its {access} is blocked"));
                self.expect_fault(what.as_str(), device, access, input(SOURCE));
            }
            for memory in [&self.a, &self.b] {
                self.try_memory(device, "no cell", memory, None);
            }
        }
    }

    /// Each cell gets its memory and its device.
    pub(crate) fn make_cells(&self) -> Result<(), Words> {
        for player in [&self.a, &self.b] {
            let output = player.memory.block.base();
            self.iommu.map(player.cell, region(0, output, CELL_BYTES, Rights::all())?)?;
            self.assign(&player.device, player)?;
            let coherency = Words::new(format_args!("{}", self.iommu.coherency(player.cell)?));
            self.report.tell(Record::Cell {
                name: player.name,
                input: input(0).as_u64(),
                output: output.as_u64(),
                bytes: CELL_BYTES,
                coherency: coherency.as_str(),
            });
        }
        Ok(())
    }

    /// Tries all ways to `target`'s memory and reports what the device can do with it.
    fn try_memory(&self, device: &Edu, owner: &str, target: &Player, scratch: Option<(&Memory, u64)>) -> Rights {
        let physical = cofferdam::addr::Iova::new(target.memory.block.base().as_u64() + SOURCE);
        let by_input = self.reach(device, input(SOURCE), &target.memory, SOURCE, scratch);
        let by_address = self.reach(device, physical, &target.memory, SOURCE, scratch);
        let rights = by_input | by_address;
        let memory = Words::new(format_args!("memory of {}", target.name));
        self.tell_reach(format_args!("{} in {owner}", device.source()), memory.as_str(), rights);
        rights
    }
}

/// Step 2.
impl Stage<'_> {
    /// Each device copies a page within its own cell; the other cell's memory is untouched, byte for byte.
    pub(crate) fn copies_stay_within_the_cell(&self) {
        for (own, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            self.clear_faults();
            own.copy(SOURCE, COPY);
            let faults = self.faults(&own.device);
            let what = Words::new(format_args!("device {} copies a page within its cell", own.name));
            let copied = own.memory.holds_copy(COPY, SOURCE);
            let seen = faults.first().map(|fault| Words::new(format_args!("{fault}"))).unwrap_or_default();
            self.report.expect(copied && faults.is_empty(), what.as_str(), format_args!("{}", seen.as_str()));

            let touched = own.memory.touched_outside(COPY..COPY + PAGE).map(|offset| (own.name, offset));
            let touched = touched.or(other.memory.touched_outside(0..0).map(|offset| (other.name, offset)));
            let what = Words::new(format_args!("device {} touches nothing else, in either cell", own.name));
            match touched {
                None => self.report.expect(true, what.as_str(), format_args!("128 MiB compared")),
                Some((name, at)) => {
                    self.report.expect(false, what.as_str(), format_args!("memory of {name} at {at:#x}"))
                }
            };
            own.memory.restore(COPY..COPY + PAGE);

            let scratch = Some((&own.memory, SCRATCH));
            let own_rights = self.try_memory(&own.device, own.name, own, scratch);
            let other_rights = self.try_memory(&own.device, own.name, other, scratch);
            let what =
                Words::new(format_args!("device {} reaches its own cell's memory and not the other's", own.name));
            let ok = own_rights == Rights::all() && other_rights.is_empty();
            self.report.expect(ok, what.as_str(), format_args!("own {own_rights}, other {other_rights}"));
        }
    }
}

/// Step 3.
impl Stage<'_> {
    /// What the cell does not map is blocked, and what it may only read cannot be written.
    pub(crate) fn what_is_not_granted_is_blocked(&self) -> Result<(), Words> {
        let device = &self.a.device;
        for access in [Access::Read, Access::Write] {
            let what = Words::new(format_args!("device A: a {access} at an address that A does not map is blocked"));
            self.expect_fault(what.as_str(), device, access, input(NOWHERE));
        }
        self.tell_reach(format_args!("{} in A", device.source()), "unmapped", Rights::empty());

        let constant = Memory::new(self.pc, PAGE, 0xcc)?;
        self.iommu.map(self.a.cell, region(READ_ONLY, constant.block.base(), PAGE, Rights::READ)?)?;
        // The write comes first: one that meets a cached translation may be blocked without a record.
        let what = "device A: a write to a read-only region is blocked";
        self.expect_fault(what, device, Access::Write, input(READ_ONLY));
        let rights = self.reach(device, input(READ_ONLY), &constant, 0, Some((&self.a.memory, SCRATCH)));
        let what = "device A reads a read-only region and does not write it";
        self.report.expect(rights == Rights::READ, what, format_args!("{rights}"));
        self.tell_reach(format_args!("{} in A", device.source()), "read-only page", rights);
        Ok(())
    }
}

/// Step 4.
impl Stage<'_> {
    /// A page that was used, so that its translation is cached, is out of reach as soon as it is unmapped.
    pub(crate) fn an_unmapped_page_is_gone_at_once(&self) -> Result<(), Words> {
        let (player, scratch) = (&self.a, Some((&self.a.memory, SCRATCH)));
        let reach = |offset| self.reach(&player.device, input(offset), &player.memory, offset, scratch);
        let used = reach(UNMAPPED);
        let before = self.iommu.statistics();
        self.iommu.unmap(player.cell, page(UNMAPPED)?)?;
        let after = self.iommu.statistics();
        let what = "device A: a page that was in use is blocked as soon as it is unmapped";
        let rights = reach(UNMAPPED);
        self.report.expect(used == Rights::all() && rights.is_empty(), what, format_args!("{used}, then {rights}"));
        let what = "device A: the read of an unmapped page leaves a fault";
        self.expect_fault(what, &player.device, Access::Read, input(UNMAPPED));

        let rights = (reach(UNMAPPED - PAGE), reach(UNMAPPED + PAGE));
        let what = "device A: the pages beside it stay as they were";
        self.report.expect(rights == (Rights::all(), Rights::all()), what, format_args!("{}, {}", rights.0, rights.1));

        let (descriptors, doorbells) = (after.descriptors - before.descriptors, after.doorbells - before.doorbells);
        let (what, expected) = match self.has_queue() {
            true => ("unmapping a page costs one invalidation, one wait and one doorbell", (2, 1)),
            false => ("unmapping a page costs nothing in a queue that is not there", (0, 0)),
        };
        let seen = format_args!("{descriptors} descriptors, {doorbells} doorbells");
        self.report.expect((descriptors, doorbells) == expected, what, seen);

        self.iommu.map(player.cell, self.own_page(UNMAPPED)?)?;
        let rights = reach(UNMAPPED);
        let what = "device A: mapped again, the page is in reach again";
        self.report.expect(rights == Rights::all(), what, format_args!("{rights}"));
        Ok(())
    }

    /// A page that was used is remapped elsewhere: the device sees the new page, never the old.
    pub(crate) fn a_remapped_page_is_the_new_one(&self) -> Result<(), Words> {
        let (player, scratch) = (&self.a, Some((&self.a.memory, SCRATCH)));
        let elsewhere = Memory::new(self.pc, PAGE, 0xee)?;
        let reach = |memory, offset| self.reach(&player.device, input(REMAPPED), memory, offset, scratch);
        let used = reach(&player.memory, REMAPPED);
        self.iommu.unmap(player.cell, page(REMAPPED)?)?;
        self.iommu.map(player.cell, region(REMAPPED, elsewhere.block.base(), PAGE, Rights::all())?)?;
        let (new, old) = (reach(&elsewhere, 0), reach(&player.memory, REMAPPED));
        let what = "device A: a page that was in use is remapped: the new page is seen, never the old";
        let ok = used == Rights::all() && new == Rights::all() && old.is_empty();
        self.report.expect(ok, what, format_args!("new {new}, old {old}"));

        self.iommu.unmap(player.cell, page(REMAPPED)?)?;
        self.iommu.map(player.cell, self.own_page(REMAPPED)?)?;
        let (new, old) = (reach(&elsewhere, 0), reach(&player.memory, REMAPPED));
        let what = "device A: remapped back, the first page is seen again";
        self.report.expect(new.is_empty() && old == Rights::all(), what, format_args!("first {old}, other {new}"));
        Ok(())
    }

    /// A page of cell A's memory, as it was granted at first.
    fn own_page(&self, offset: u64) -> Result<Region, Words> {
        let output = PhysAddr::new_truncate(self.a.memory.block.base().as_u64() + offset);
        region(offset, output, PAGE, Rights::all())
    }
}

/// Step 5.
impl Stage<'_> {
    /// A released device is blocked; in another cell it reaches that cell's memory alone.
    pub(crate) fn a_device_moves(&self) -> Result<(), Words> {
        let device = &self.a.device;
        self.iommu.release(device.source())?;
        let what = "device A is released: its bus mastering is off";
        self.report.expect(!device.is_bus_master(), what, format_args!("{}", device.source()));
        device.resume();
        for access in [Access::Read, Access::Write] {
            let what = Words::new(format_args!("device A is released: its {access} is blocked"));
            self.expect_fault(what.as_str(), device, access, input(SOURCE));
        }
        self.clear_faults();
        device.read(input(SOURCE), 8);
        let faults = self.faults(device);
        let fault = faults.first();
        let what = "the fault of a released device says why";
        let seen = fault.map_or_else(Words::default, |fault| Words::new(format_args!("{fault}")));
        let ok = fault.is_some_and(|fault| fault.cause == Cause::Blocked);
        self.report.expect(ok, what, format_args!("{}", seen.as_str()));

        self.assign(device, &self.b)?;
        let scratch = Some((&self.b.memory, SCRATCH));
        let new = self.try_memory(device, "B", &self.b, scratch);
        let old = self.try_memory(device, "B", &self.a, scratch);
        let what = "device A in cell B reaches the memory of B and no longer that of A";
        self.report.expect(new == Rights::all() && old.is_empty(), what, format_args!("of B {new}, of A {old}"));
        self.interrupts_move(device, &self.b, &self.a)?;
        let stays = self.reach(&self.b.device, input(SOURCE), &self.b.memory, SOURCE, scratch);
        let what = "device B shares cell B and works as before";
        self.report.expect(stays == Rights::all(), what, format_args!("{stays}"));
        Ok(())
    }
}

/// Step 6.
impl Stage<'_> {
    /// SNP is in every entry that maps a page of a device that can be made to snoop, and in none of one that cannot.
    pub(crate) fn snoop_is_set_as_the_device_can(&self) -> Result<(), Words> {
        for Player { name, device, requesters, cell, .. } in [&self.a, &self.b] {
            let leaves = self.leaves(device);
            let Leaves { by_size: [small, large, huge], snooped, snooped_tables, functions, .. } = leaves;
            let can = self.can_snoop(device);
            let (total, expected) = (leaves.total(), if can { leaves.total() } else { 0 });
            let what = match can {
                true => Words::new(format_args!(
                    "device {name} can be made to snoop: SNP is set in every page of its table"
                )),
                false => Words::new(format_args!(
                    "device {name} cannot be made to snoop: SNP is set in no page of its table"
                )),
            };
            let seen = format_args!("{snooped} of {total}: {small} of 4 KiB, {large} of 2 MiB, {huge} of 1 GiB");
            let complete = functions == requesters.ids().len() as u64 && large > 0;
            self.report.expect(complete && snooped == expected && snooped_tables == 0, what.as_str(), seen);

            let wanted = if can { Coherency::Enforced } else { Coherency::NotEnforced };
            let told = self.iommu.coherency(*cell)?;
            let what = Words::new(format_args!("cell {name} is told the coherency of the tables in use"));
            self.report.expect(told == wanted, what.as_str(), format_args!("{told}"));
        }
        Ok(())
    }

    /// Without cells, all page tables are given back, and both devices are blocked.
    pub(crate) fn nothing_is_left_behind(&self) -> Result<(), Words> {
        let used = self.iommu.statistics();
        self.iommu.destroy_cell(self.a.cell)?;
        self.iommu.destroy_cell(self.b.cell)?;
        for player in [&self.a, &self.b] {
            player.device.resume();
            let what = Words::new(format_args!("the cells are gone: device {} is blocked", player.name));
            self.expect_fault(what.as_str(), &player.device, Access::Read, input(SOURCE));
        }
        let end = self.iommu.statistics();
        // A root table, a context table for each bus, a table of interrupts, and a queue and its status words.
        let buses = self.leaves(&self.a.device).context_tables;
        let left = 1 + buses + u64::from(self.remaps) + if self.has_queue() { 2 } else { 0 };
        let what = "the cells are gone: all page tables were given back";
        let seen =
            format_args!("{} of {} frames are left, {buses} of them for buses", end.table_frames, used.table_frames);
        self.report.expect(end.table_frames == left && buses == self.buses(), what, seen);
        self.report.tell(Record::Counts {
            descriptors: end.descriptors,
            waits: end.waits,
            doorbells: end.doorbells,
            table_frames: used.table_frames,
        });
        Ok(())
    }
}
