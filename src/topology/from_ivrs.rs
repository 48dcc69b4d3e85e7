//! An IVRS table put together, and what is wrong with its blocks together.

use super::builder::{Definition, Range};
use super::{AmdUnit, Role, Scope, Target, Topology, UnitKind};
use crate::addr::{Rights, SourceId};
use crate::firmware::ivrs::{Ivhd, IvhdKind, Ivmd, IvmdDevices, IvmdFlags, Ivrs, IvrsBlock, Listed, Variety};
use crate::firmware::{Finding, Flaw, TableError};
use crate::pci::ConfigSpace;

/// ATSDisabled in the extended settings of a device entry.
const ATS_DISABLED: u32 = 1 << 31;

impl Topology<'_> {
    /// Takes in what an IVRS table says. Where blocks of several types describe one unit, the newest type counts.
    pub(super) fn read_ivrs(
        &mut self,
        table: &[u8],
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), TableError> {
        let ivrs = Ivrs::new(table, &mut *report)?;
        ivrs.lint(&mut *report);
        self.set_width(u16::from(ivrs.info().physical_width()), 36, report);
        self.interrupt_remapping = true;
        self.dma_opt_in = ivrs.info().dma_remap();
        for kind in [IvhdKind::Mixed, IvhdKind::Full, IvhdKind::Legacy] {
            for block in ivrs.sound() {
                match block {
                    IvrsBlock::Ivhd(ivhd) if ivhd.kind() == kind => self.add_ivhd(&ivhd, config, report)?,
                    _ => {}
                }
            }
        }
        for block in ivrs.sound() {
            if let IvrsBlock::Ivmd(ivmd) = block {
                self.add_ivmd(&ivmd, config, report);
            }
        }
        self.check_whole(ivrs.blocks_offset(), report)
    }

    fn add_ivhd(
        &mut self,
        ivhd: &Ivhd<'_>,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), TableError> {
        let (base, segment, offset) = (ivhd.base(), ivhd.segment(), ivhd.offset());
        let device = SourceId::from_requester(segment, ivhd.device());
        let known = self.units.iter().find_map(|unit| match unit.kind {
            UnitKind::AmdVi(of) if of.device == device => Some((of.described_by, unit.window.base.as_u64())),
            _ => None,
        });
        if let Some((newer, other)) = known
            && newer > ivhd.kind()
        {
            if base != other {
                report(Finding::new(offset, Flaw::OlderDisagrees { base, newer: other }));
            }
            return Ok(());
        }
        let kind = UnitKind::AmdVi(AmdUnit {
            device,
            capability: ivhd.capability(),
            flags: ivhd.flags(),
            info: ivhd.info(),
            attributes: ivhd.attributes(),
            features: ivhd.features(),
            features2: ivhd.features2(),
            described_by: ivhd.kind(),
        });
        let role = self.add_unit(Definition { base, bytes: ivhd.bytes(), segment, offset, kind }, report)?;
        if ivhd.devices().next().is_none() {
            report(Finding::new(offset, Flaw::ServesNobody { base }));
        }
        for (offset, listed) in ivhd.devices().filter_map(Result::ok) {
            self.add_listed(listed, role, segment, (base, offset), config, report);
        }
        Ok(())
    }

    fn add_listed(
        &mut self,
        listed: Listed<'_>,
        role: Role,
        segment: u16,
        (base, offset): (u64, u32),
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) {
        let at = |requester| SourceId::from_requester(segment, requester);
        let (settings, of) = match listed {
            Listed::All { settings } => {
                self.add_include_all(role, segment, (base, offset), config, report);
                (settings, (at(0), Target::Segment))
            }
            Listed::Range { first, last, alias, settings, extended } => {
                let (source, target) = (at(first), Target::Range { last });
                self.add_served(Scope { source, target, role, offset }, config, report);
                if let Some(alias) = alias {
                    self.add_scope(Scope { source, target, role: Role::Alias(at(alias)), offset }, config, report);
                }
                if extended & ATS_DISABLED != 0 {
                    self.add_scope(Scope { source, target, role: Role::NoAts, offset }, config, report);
                }
                (settings, (source, target))
            }
            Listed::Special { handle, source, variety, settings } => {
                let target = match variety {
                    Variety::IoApic => Target::IoApic(handle),
                    Variety::Hpet => Target::Hpet(handle),
                    Variety::Unknown(variety) => {
                        report(Finding::new(offset, Flaw::UnknownVariety { variety }));
                        return;
                    }
                };
                self.add_served(Scope { source: at(source), target, role, offset }, config, report);
                (settings, (at(source), Target::Range { last: source }))
            }
            Listed::Acpi { device, settings, .. } => {
                let (source, target) = (at(device), Target::Range { last: device });
                self.add_served(Scope { source, target, role, offset }, config, report);
                (settings, (source, target))
            }
        };
        if settings != 0 && role != Role::UnusableUnit {
            let (source, target) = of;
            self.add_scope(Scope { source, target, role: Role::Settings(settings), offset }, config, report);
        }
    }

    fn add_ivmd(&mut self, ivmd: &Ivmd<'_>, config: &impl ConfigSpace, report: &mut dyn FnMut(Finding)) {
        let (base, segment, offset) = (ivmd.start(), ivmd.segment(), ivmd.offset());
        self.check_segment("IVMD", segment, offset, report);
        let Some(minus_one) = ivmd.bytes().checked_sub(1) else {
            report(Finding::new(offset, Flaw::EmptyRange { base }));
            return;
        };
        let flags = ivmd.flags();
        let mut rights = Rights::empty();
        // What a device may reach untranslated it may read and write.
        rights.set(Rights::READ, flags.intersects(IvmdFlags::READ | IvmdFlags::EXCLUSION));
        rights.set(Rights::WRITE, flags.intersects(IvmdFlags::WRITE | IvmdFlags::EXCLUSION));
        if rights.is_empty() || !flags.intersects(IvmdFlags::UNITY | IvmdFlags::EXCLUSION) {
            report(Finding::new(offset, Flaw::UselessRange { flags: flags.bits() }));
            return;
        }
        let (first, target) = match ivmd.devices() {
            IvmdDevices::All => (0, Target::Segment),
            IvmdDevices::One(device) => (device, Target::Range { last: device }),
            IvmdDevices::Range(first, last) if first <= last => (first, Target::Range { last }),
            IvmdDevices::Range(first, last) => {
                report(Finding::new(offset, Flaw::ReversedDevices { first, last }));
                return;
            }
        };
        let range = Range { base, limit: base.wrapping_add(minus_one), rights, offset };
        let role = self.add_reserved(range, report);
        self.add_scope(
            Scope { source: SourceId::from_requester(segment, first), target, role, offset },
            config,
            report,
        );
    }
}
