//! The front itself: the units of a machine, and what is committed.

use core::fmt;
use core::mem::MaybeUninit;

use super::error::{Error, Unblocked, Unroutable};
use super::lock::Mutex;
use super::memory;
use super::options::Options;
use super::state::Config;
use super::transaction::Work;
use crate::addr::SourceId;
use crate::cell::Reserved;
use crate::contract::UnitConfig;
use crate::firmware::Finding;
use crate::hal::Hal;
use crate::limits::{Carver, Limits, List};
use crate::pci;
use crate::topology::{Topology, UnitIndex};
use crate::unit::{NotDriven, Unit};

/// The graphics of Intel's chipsets.
const GRAPHICS: SourceId = SourceId::from_requester(0, 2 << 3);

/// All remapping units of a machine, and its cells.
///
/// Until [`enable`](Self::enable) no unit is touched. From then on a device reaches nothing but what the cell that it is
/// assigned to was granted; a device without a cell reaches nothing.
///
/// May be shared between CPUs: changes of the same cell come one after the other, those of different cells wait for their
/// units at the same time, and reading faults waits for none of them.
///
/// The front itself takes some hundred bytes; what it knows lies in the memory that it is given when it
/// [reads the firmware's table](Self::probe_acpi). No call takes more than 2 KiB of stack, `probe_acpi` 2.2 KiB,
/// [`enable`](Self::enable) 2.5 KiB and [`audit`](Self::audit) 2.9 KiB, the platform's functions apart, in the
/// [builds that are measured](crate::guide::capacities#stack).
pub struct Iommu<'s, H> {
    pub(super) hal: H,
    pub(super) options: Options,
    pub(super) limits: Limits,
    pub(super) topology: Topology<'s>,
    pub(super) units: List<'s, Unit>,
    /// A change takes a slot, then the lock on the configuration, then that of a unit's queue.
    pub(super) changes: List<'s, Mutex<Work<'s>>>,
    pub(super) config: Mutex<Config<'s>>,
}

impl<'s, H: Hal> Iommu<'s, H> {
    /// A front that knows of no unit yet. It may be the value of a static, and [`probe_acpi`](Self::probe_acpi) completes it.
    pub const fn new(hal: H, options: Options) -> Self {
        Self {
            hal,
            options,
            limits: Limits::DEFAULT,
            topology: Topology::empty(),
            units: List::without_room(),
            changes: List::without_room(),
            config: Mutex::new(Config::without_room()),
        }
    }

    /// Reads the firmware's table, a DMAR or an IVRS, and looks at the units that it names; writes nothing to them. Once for a
    /// front, before anything else.
    ///
    /// A unit that does not answer, or shows what no unit can be, has [failed](crate::iommu::UnitState) from then on, and costs
    /// itself alone: [`units`](Self::units) says why, and its devices are refused.
    ///
    /// `memory` takes [`Limits::words`]; what is over is not used. It is the front's from now on. Findings go to `report`, a
    /// few for each structure at most; each costs what it names and no more.
    ///
    /// # Errors
    ///
    /// The bytes are no such table, or describe no unit that can be used ([`Error::Firmware`]). A unit is none that this driver
    /// can drive ([`Error::UnknownUnit`]); or one does not answer, or shows what no unit can be, and
    /// [all are required](Options::require_all_units) ([`Error::Unit`]). A capacity is out
    /// of its bounds or too small, or so is the memory ([`Error::Full`]). Or it is not the first call that succeeds
    /// ([`Error::Probed`]). The front knows of no unit then, as before, and the memory is lost to it.
    pub fn probe_acpi(
        &mut self,
        memory: &'s mut [MaybeUninit<u64>],
        limits: &Limits,
        table: &[u8],
        report: impl FnMut(Finding),
    ) -> Result<(), Error> {
        if !self.units.is_empty() {
            return Err(Error::Probed);
        }
        let rest = self.topology.read_in(memory, limits, table, &self.hal, report)?;
        self.cut(rest, limits).and_then(|()| self.probe_units()).inspect_err(|_| self.forget_units())
    }

    /// Takes its parts from the memory that is left.
    #[inline(never)]
    fn cut(&mut self, memory: &'s mut [MaybeUninit<u64>], limits: &Limits) -> Result<(), Error> {
        let (carver, units) = (&mut Carver::new(memory), self.topology.units().len());
        self.limits = *limits;
        self.units = carver.list(units)?;
        self.changes = memory::cut_changes(carver, limits, units)?;
        Ok(self.config.get_mut().cut(carver, limits, units)?)
    }

    #[cold]
    #[inline(never)]
    fn forget_units(&mut self) {
        self.topology = Topology::empty();
        (self.units, self.changes) = (List::without_room(), List::without_room());
        *self.config.get_mut() = Config::without_room();
    }

    #[inline(never)]
    fn probe_units(&mut self) -> Result<(), Error> {
        let Options { timeout_ns, device_timeout_ns, queue_slots, max_leaf_level, .. } = self.options;
        let host_bits = self.topology.host_address_width();
        let device_tlbs = self.limits.device_tlbs;
        let config = UnitConfig {
            host_bits,
            timeout_ns,
            device_timeout_ns,
            queue_slots,
            max_leaf_level,
            device_tlbs,
            interrupts: None,
        };
        let graphics = self.topology.unit_of(&self.hal, GRAPHICS);
        for (info, index) in self.topology.units().iter().zip(UnitIndex::all()) {
            let for_graphics = graphics == Some(index) && !info.include_all;
            match Unit::probe(&self.hal, info, for_graphics, config, &mut self.units) {
                Err(NotDriven::UnknownKind) => return Err(Error::UnknownUnit(info.window)),
                Err(NotDriven::Full(full)) => return Err(Error::Full(full)),
                Err(NotDriven::Failed(error)) if self.options.require_all_units => return Err(Error::Unit(error)),
                Ok(()) | Err(NotDriven::Failed(_)) => {}
            }
        }
        Ok(())
    }

    /// Gets ready for devices to be assigned before [`enable`](Self::enable), which need their memory without a gap: those that
    /// firmware reserves memory for, or those of a running system. Then [changes](Self::commit) may assign devices, except with
    /// a device-TLB, and take effect when `enable` switches their units on.
    ///
    /// Switches Access Control Services on, as `enable` does, and takes a frame for each unit. Writes to no unit: until `enable`
    /// devices reach what they reached before. [`disable`](Self::disable) gives the frames back. May be repeated, and is not
    /// needed before `enable`.
    ///
    /// # Errors
    ///
    /// [`Error::NotProbed`]: nothing was done. Or units cannot be used, or found no frame; the error is that of the first. All
    /// others are ready.
    pub fn prepare(&mut self) -> Result<(), Error> {
        self.isolate_all()?;
        let mut result = Ok(());
        for unit in self.units.iter_mut() {
            result = result.and(unit.prepare(&self.hal));
        }
        self.config.get_mut().enabled = true;
        Ok(result?)
    }

    /// Switches Access Control Services on in all segments of units.
    fn isolate_all(&self) -> Result<(), Error> {
        if self.units.is_empty() {
            return Err(Error::NotProbed);
        }
        self.segments().for_each(|segment| pci::isolate_all(&self.hal, segment));
        Ok(())
    }

    /// Switches all units on. Every device is blocked from then on, except those that were assigned after
    /// [`prepare`](Self::prepare), and for what the result says.
    ///
    /// Looks at the registers of units that are on already. One that was reset since, as in a sleep state, is programmed again
    /// with the tables that it had, its queue and its fault event; until then its devices may reach all memory.
    ///
    /// A unit that firmware left on goes on with firmware's tables until all is ready;
    /// [`RemappingUnit::gap`](crate::iommu::RemappingUnit::gap) says whether its devices could reach memory for a moment then.
    ///
    /// Access Control Services are switched on in all ports and functions that have them, so that no two devices reach each
    /// other without passing a unit, where that can be had ([`Group`](crate::topology::Group)). They stay on afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotProbed`]: nothing was done.
    ///
    /// Units failed, cannot be used, or found no frames; the error is that of the first. Or all are on, and devices are left
    /// that none of them serves ([`Error::Unblocked`]). All units that did not fail are on and can be used, and
    /// [`units`](Self::units) has the state of each. Devices that no unit blocks are refused, **and may reach all memory**, as
    /// [`unblocked`](Self::unblocked) says. So a caller who wants no such device on the machine stops here; one who goes on
    /// has to keep their bus mastering off. With [`Options::accept_unblocked`] neither is an error. Devices that were assigned
    /// before stay in their cells in any case. May be repeated.
    pub fn enable(&mut self) -> Result<Unblocked, Error> {
        self.isolate_all()?;
        let mut result = Ok(());
        for unit in self.units.iter_mut() {
            result = result.and(unit.start_invalidation(&self.hal));
        }
        for unit in self.units.iter_mut() {
            // One that has failed by now says only that.
            result = result.and(unit.start_translation(&self.hal, self.options.memory));
        }
        self.config.get_mut().enabled = true;
        let unblocked = self.find_unblocked(&mut |_| ());
        if self.options.accept_unblocked {
            return Ok(unblocked);
        }
        // One may have gone since.
        result.and(self.units.iter().try_for_each(|unit| unit.check_on(&self.hal)))?;
        let all_listed =
            unblocked.open_segment.is_none_or(|segment| pci::functions_in(&self.hal, segment).next().is_some());
        if unblocked.is_nothing_now() && all_listed { Ok(unblocked) } else { Err(Error::Unblocked(unblocked)) }
    }

    /// Switches all units off and gives their frames back, once no cell has a device, a pin or a timer: **from then on every device
    /// reaches all memory** and interrupts any CPU, except for the regions that firmware had protected by registers, which are
    /// protected again.
    ///
    /// Only that is given back, and the table of interrupts that the driver's [followed](crate::iommu::RemappingUnit::found_interrupts),
    /// whose memory has to be as it was. Where firmware had left translation or a queue on, it stays off, since what became of
    /// their memory is not known; no unit sends fault events. Cells stay, and [`enable`](Self::enable) may follow.
    ///
    /// # Errors
    ///
    /// A device still has a cell ([`Error::Busy`]), or a pin or a timer is still routed ([`Unroutable::Taken`] in
    /// [`Error::Route`]): nothing changed. Or units failed, before or now; the error is that of the first. They keep their frames,
    /// and block what they blocked; all others are off.
    pub fn disable(&mut self) -> Result<(), Error> {
        let config = self.config.get_mut();
        if let Some(left) = config.devices.first() {
            return Err(Error::Busy { device: left.device, cell: left.cell });
        }
        if let Some(left) = config.interrupts.lines.first() {
            return Err(Error::Route { source: left.source, reason: Unroutable::Taken(left.cell) });
        }
        config.enabled = false;
        let mut result = Ok(());
        for unit in self.units.iter_mut() {
            result = result.and(unit.stop(&self.hal));
        }
        Ok(result?)
    }

    /// What the firmware's table says.
    pub fn topology(&self) -> &Topology<'s> {
        &self.topology
    }

    /// The platform that the front works on.
    pub fn hal(&self) -> &H {
        &self.hal
    }

    pub(super) fn unit(&self, index: UnitIndex) -> Option<&Unit> {
        self.units.get(index.get())
    }

    /// Reserved memory, by a mask of the topology's.
    pub(super) fn reserved(&self, mask: u64) -> Reserved<'_> {
        Reserved::new(self.topology.reserved_memory(), mask)
    }
}

impl<H> fmt::Debug for Iommu<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iommu").field("units", &self.units).field("config", &self.config).finish_non_exhaustive()
    }
}
