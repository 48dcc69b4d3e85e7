//! Whether DMA snoops the CPU's caches, as each policy and each device has it, and what cells learn of it.

use cofferdam::addr::Rights;
use cofferdam::iommu::{Error, Incompatibility};
use cofferdam::{CellConfig, CellId, Coherency, CoherencyPolicy};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Edu, Leaves, Words, count_leaves};

use crate::memory::CELL_BYTES;
use crate::stage::{Player, Stage, input};
use crate::steps::{SCRATCH, SOURCE, region};

fn words(change: Option<Coherency>) -> &'static str {
    match change {
        None => "its coherency stays",
        Some(Coherency::NotEnforced) => "from now on it honours WBINVD",
        Some(Coherency::Enforced) => "it need not honour WBINVD any more",
    }
}

/// Step 7.
impl Stage<'_> {
    /// What the live tables have for a device.
    pub(crate) fn leaves(&self, device: &Edu) -> Leaves {
        let Some(unit) = self.iommu.units().next() else { return Leaves::default() };
        let ids = self.player(device).requesters.ids();
        let is_its = |requester| ids.iter().any(|id| id.requester() == requester);
        // SAFETY: the window is a unit's, and nothing changes its tables now; the platform maps memory one to one.
        unsafe { count_leaves(&self.pc, unit.window, is_its) }
    }

    /// True if the device's requests can be made to snoop, by what the unit and the firmware say.
    pub(crate) fn can_snoop(&self, device: &Edu) -> bool {
        self.leaves(device).snoop_control && self.forbidden != Some(device.source())
    }

    /// Each policy with each device: the device is refused, or its table and what the cell learns are as the policy says.
    pub(crate) fn each_policy_does_what_it_says(&self) -> Result<(), Words> {
        use CoherencyPolicy::{Enforced, NotEnforced, PerDevice};
        for policy in [Enforced, NotEnforced, PerDevice] {
            for player in [&self.a, &self.b] {
                let name = Words::new(format_args!("{policy:?}, device {}", player.name));
                let wanted = match (policy, self.can_snoop(&player.device)) {
                    (Enforced, false) => None,
                    (Enforced | PerDevice, true) => Some(Coherency::Enforced),
                    (NotEnforced, _) | (PerDevice, false) => Some(Coherency::NotEnforced),
                };
                let cell = self.cell(policy)?;
                let coherency = match wanted {
                    Some(wanted) => self.is_taken(&name, player, cell, wanted)?,
                    None => self.is_refused(&name, player, cell)?,
                };
                self.iommu.destroy_cell(cell)?;
                self.report.tell(Record::Cell {
                    name: name.as_str(),
                    input: input(0).as_u64(),
                    output: self.a.memory.block.base().as_u64(),
                    bytes: CELL_BYTES,
                    coherency: coherency.as_str(),
                });
            }
        }
        Ok(())
    }

    /// A cell with the memory of A.
    fn cell(&self, policy: CoherencyPolicy) -> Result<CellId, Words> {
        let config = CellConfig { allow_unsafe_interrupts: !self.remaps, coherency: policy, ..CellConfig::DEFAULT };
        let cell = self.iommu.create_cell(config)?;
        self.iommu.map(cell, region(0, self.a.memory.block.base(), CELL_BYTES, Rights::all())?)?;
        Ok(cell)
    }

    /// The device comes to the cell, and leaves it: its table enforces snooping or not, as wanted. Gives what the cell was.
    fn is_taken(&self, name: &Words, player: &Player, cell: CellId, wanted: Coherency) -> Result<Words, Words> {
        let device = &player.device;
        let changed = (wanted == Coherency::NotEnforced).then_some(wanted);
        let come = self.iommu.coherency_change(&self.iommu.assign(device.source(), cell)?, cell)?;
        device.resume();
        let (leaves, now) = (self.leaves(device), self.iommu.coherency(cell)?);
        let (snooped, all) = (leaves.snooped, leaves.total());
        let as_wanted = all > 0 && snooped == if wanted == Coherency::Enforced { all } else { 0 };
        let rights = self.reach(device, input(SOURCE), &self.a.memory, SOURCE, Some((&self.a.memory, SCRATCH)));
        let gone = self.iommu.coherency_change(&self.iommu.release(device.source())?, cell)?;
        let after = self.iommu.coherency(cell)?;

        let what = Words::new(format_args!("policy {}: its table is as the policy says", name.as_str()));
        let ok = as_wanted && now == wanted && rights == Rights::all();
        self.report.expect(ok, what.as_str(), format_args!("{now}, SNP in {snooped} of {all} pages, {rights}"));
        let what = Words::new(format_args!("policy {}: the cell is told when it comes and leaves", name.as_str()));
        let ok = (come, gone) == (changed, changed.map(|_| Coherency::Enforced)) && after == Coherency::Enforced;
        self.report.expect(ok, what.as_str(), format_args!("{}; {}", words(come), words(gone)));
        Ok(Words::new(format_args!("{now}")))
    }

    /// The device cannot snoop, and the cell wants no other.
    fn is_refused(&self, name: &Words, player: &Player, cell: CellId) -> Result<Words, Words> {
        let device = player.device.source();
        let before = self.iommu.statistics();
        let result = self.iommu.assign(device, cell);
        let refusal = Error::Incompatible { device, reason: Incompatibility::Snoop };
        let untouched = self.iommu.statistics() == before && self.leaves(&player.device).functions == 0;
        let what = Words::new(format_args!("policy {}: it is refused, and nothing was touched", name.as_str()));
        let ok = result == Err(refusal) && untouched && self.iommu.coherency(cell)? == Coherency::Enforced;
        let seen = match result {
            Err(error) => Words::new(format_args!("{error}")),
            Ok(_) => Words::new(format_args!("it was let in")),
        };
        self.report.expect(ok, what.as_str(), format_args!("{}", seen.as_str()));
        Ok(Words::new(format_args!("the device is refused")))
    }

    /// Devices come and go: the cell is coherent as long as all that it has can snoop, and learns when that changes.
    pub(crate) fn a_cell_is_as_coherent_as_its_devices(&self) -> Result<(), Words> {
        let cell = self.cell(CoherencyPolicy::PerDevice)?;
        let coherency = |here: [bool; 2]| {
            let mut all = here.into_iter().zip([&self.a, &self.b]);
            let enforced = all.all(|(is_here, player)| !is_here || self.can_snoop(&player.device));
            if enforced { Coherency::Enforced } else { Coherency::NotEnforced }
        };
        let (neither, a, b, both) = ([false, false], [true, false], [false, true], [true, true]);
        for [from, to] in [[neither, a], [a, both], [both, a], [a, both], [both, b], [b, neither]] {
            let player = if from[0] == to[0] { &self.b } else { &self.a };
            let (device, comes) = (player.device.source(), from < to);
            let committed = if comes { self.iommu.assign(device, cell) } else { self.iommu.release(device) }?;
            let change = self.iommu.coherency_change(&committed, cell)?;
            let (before, now) = (coherency(from), coherency(to));
            let does = if comes { "comes" } else { "leaves" };
            let what = Words::new(format_args!(
                "device {} {does}: the cell is told if that changes its coherency",
                player.name
            ));
            let ok = change == (now != before).then_some(now) && self.iommu.coherency(cell)? == now;
            self.report.expect(ok, what.as_str(), format_args!("{before}, {}", words(change)));
            if to == both {
                self.the_tables_are_as_granted("both devices in one cell", &[&self.a, &self.b])?;
            }
        }
        self.iommu.destroy_cell(cell)?;
        Ok(())
    }
}
