//! Whether interrupts are remapped, which is decided before units are switched on.
#![forbid(unsafe_code)]

use super::error::{Error, NotRemapped};
use super::front::Iommu;
use super::state::Config;
use crate::contract::InterruptConfig;
use crate::hal::{Hal, PairStore};

impl<H: Hal> Iommu<'_, H> {
    /// Has interrupts remapped from [`prepare`](Self::prepare) or [`enable`](Self::enable) on, by each unit that can. A device sends none
    /// then but those that are [routed](crate::iommu::Edit::Route) for its cell, and none in another device's name; **whatever is not
    /// routed is blocked, the hypervisor's own interrupts among it**. A unit that cannot leaves its devices to cells that
    /// [allow that](crate::CellConfig::allow_unsafe_interrupts).
    ///
    /// `io_apics` are the ids of the IOAPICs, as the MADT lists them. `x2apic`: the CPUs are in x2APIC mode. After
    /// [`probe_acpi`](Self::probe_acpi), and before units are prepared or switched on. Touches no unit.
    ///
    /// # Errors
    ///
    /// The machine's interrupts cannot be remapped, for the reason that [`Error::NotRemapped`] gives. Nothing changed: units remap no
    /// interrupts, and translate as they do in any case.
    pub fn remap_interrupts(&self, io_apics: &[u8], x2apic: bool) -> Result<(), Error> {
        let mut committed = self.alone()?;
        let order = self.probed().limits.interrupts.checked_ilog2().and_then(|order| u8::try_from(order).ok());
        let order = order.ok_or(Error::NotRemapped(NotRemapped::NoRoom))?;
        if let Some(reason) = self.not_remapped(&committed, io_apics, x2apic) {
            return Err(Error::NotRemapped(reason));
        }
        let pairs = PairStore::of(&self.hal).ok_or(Error::NotRemapped(NotRemapped::NoPairStore))?;
        let config = InterruptConfig { order, extended: x2apic, pairs };
        self.probed().units.iter().for_each(|unit| unit.write().set_interrupt_config(config));
        committed.interrupts.config = Some(config);
        Ok(())
    }

    #[inline(never)]
    fn not_remapped(&self, config: &Config<'_>, io_apics: &[u8], x2apic: bool) -> Option<NotRemapped> {
        // One that could not be switched off keeps its tables.
        if config.enabled || self.each_unit().any(|(unit, _)| unit.root().is_some()) {
            return Some(NotRemapped::Late);
        }
        if !self.topology().interrupt_remapping() {
            return Some(NotRemapped::Firmware);
        }
        let mut all = self.topology().match_ioapics(io_apics, |_| ());
        if let Some((id, _)) = all.find(|(_, found)| found.is_none()) {
            return Some(NotRemapped::IoApic(id));
        }
        if x2apic && self.topology().x2apic_opt_out() {
            return Some(NotRemapped::OptOut);
        }
        let mut any = false;
        for (unit, _) in self.each_unit() {
            let features = unit.features();
            match features.interrupts {
                // It can never be used.
                None if features.geometry.is_none() => {}
                Some(features) if !x2apic && features.extended_only => {
                    return Some(NotRemapped::ExtendedOnly(unit.window()));
                }
                Some(features) if !x2apic || features.extended => any = true,
                None if !x2apic => {}
                _ => return Some(NotRemapped::NotExtended(unit.window())),
            }
        }
        (!any).then_some(NotRemapped::NoUnit)
    }
}
