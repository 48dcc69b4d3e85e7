//! The live tables next to the configuration, by the driver's own audit.

use cofferdam::addr::PhysAddr;
use cofferdam::hal::Hal;
use cofferdam_tests_qemu::{Words, mapped};

use crate::stage::{Player, Stage};

const RTADDR: u32 = 0x20;
/// The root entry of bus 255, where no device is, in words of the table.
const LAST_BUS: usize = 255 * 2;

impl Stage<'_> {
    /// How many source-ids these devices' requests may carry, as the driver says.
    fn source_ids(players: &[&Player]) -> usize {
        let ids = || players.iter().flat_map(|player| player.requesters.ids());
        ids().enumerate().filter(|(at, id)| !ids().take(*at).any(|earlier| earlier == *id)).count()
    }

    /// How many buses those of both devices are of.
    pub(crate) fn buses(&self) -> u64 {
        let ids = || [&self.a, &self.b].into_iter().flat_map(|player| player.requesters.ids());
        (0..=u8::MAX).filter(|bus| ids().any(|id| id.bus() == *bus)).count() as u64
    }

    /// The live tables say what was granted, to the devices of these cells, and nothing else.
    pub(crate) fn the_tables_are_as_granted(&self, when: &str, players: &[&Player]) -> Result<(), Words> {
        let mut first = None;
        let audit = self.iommu.audit(|difference| first = first.or(Some(difference)))?;
        let what = Words::new(format_args!(
            "{when}: by an audit of the live tables, no device reaches anything but what its cell was granted"
        ));
        let seen = match first {
            Some(difference) => Words::new(format_args!("{} differences, the first: {difference}", audit.differences)),
            None => Words::new(format_args!(
                "0 differences: of {} source-ids {} are let through, to {} ranges by {} tables",
                self.iommu.units().count() << 16,
                audit.functions,
                audit.ranges,
                audit.tables
            )),
        };
        let ok = audit.differences == 0 && audit.functions == Self::source_ids(players) as u64;
        self.report.expect(ok, what.as_str(), format_args!("{}", seen.as_str()));
        Ok(())
    }

    /// An entry that somebody else has set is found.
    pub(crate) fn a_foreign_entry_is_found(&self) -> Result<(), Words> {
        let hal = self.iommu.hal();
        let Some(unit) = self.iommu.units().next() else { return Ok(()) };
        let Some(registers) = mapped(hal, unit.window) else { return Ok(()) };
        // SAFETY: every unit has this register.
        let root = PhysAddr::new_truncate(unsafe { hal.read64(registers, RTADDR) } & !0xfff);
        // SAFETY: the driver has switched the unit on, so this is its root table.
        let table = unsafe { hal.phys_to_virt(root) };
        // SAFETY: a table has 512 words.
        let entry = unsafe { table.add(LAST_BUS) };
        // SAFETY: the entry is in the table; no request comes from that bus.
        unsafe { hal.store(entry, 1) };
        let mut first = Words::new(format_args!("no difference"));
        let audit = self.iommu.audit(|difference| first = Words::new(format_args!("{difference}")));
        // SAFETY: as above; it was zero before.
        unsafe { hal.store(entry, 0) };
        let what = "an entry that the driver did not write is found by an audit";
        self.report.expect(audit?.differences > 0, what, format_args!("{}", first.as_str()));
        Ok(())
    }
}
