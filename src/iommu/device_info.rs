//! What a caller may ask before it chooses: what a device can do, and where a cell can have memory.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::devices::State;
use super::{AtsInfo, Error, Iommu, NoDeviceTlb, Refusal};
use crate::addr::{INTERRUPTS, Iova, IovaRange, Region, SourceId};
use crate::cell::{Cell, CellId, outside};
use crate::hal::{Hal, Window};
use crate::limits;
use crate::pci::{self, Reset};
use crate::topology::{BridgeWindow, Group, Requesters};

/// What a device can do and what stands in its way, as far as no cell matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The registers of the unit that serves it.
    pub unit: Window,
    /// The cell that it belongs to.
    pub cell: Option<CellId>,
    /// Its DMA can be made to snoop the CPU's caches: the unit can, and firmware does not forbid it (ECAP.SC, SIDP).
    pub snoop_enforceable: bool,
    /// Width of the addresses that it can be translated for, in bits: at most 39, 48 or 57.
    pub input_bits: u8,
    /// The largest page that its table can have, in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub largest_page: u64,
    /// Memory that firmware reserves for it: mapped one to one for it in whichever cell it is, so no cell that has it may
    /// have other memory there.
    pub reserved: Vec<Region, { limits::RESERVED }>,
    /// It is a USB host controller or graphics: a cell may leave its reserved memory out
    /// ([`CellConfig::leave_out_relaxable`](crate::CellConfig)).
    pub relaxable: bool,
    /// Windows of bridges that its requests do not pass: no cell that has it may have memory there.
    pub windows: Vec<BridgeWindow, { limits::WINDOWS }>,
    /// The source-ids that its requests may carry, and the functions that share one: all of them belong to one cell.
    pub requesters: Requesters,
    /// The functions that nothing keeps apart from it, and what isolates it from all others: all of the group belong to one
    /// cell.
    pub group: Group,
    /// Whether it can have a device-TLB, if its assignment asks for one ([`DeviceConfig`](super::DeviceConfig)): what that is
    /// like, or why not.
    pub ats: Result<AtsInfo, NoDeviceTlb>,
    /// It does not work without one: no cell has it unless its assignment asks for one.
    pub needs_device_tlb: bool,
    /// It can be reset alone when it leaves a cell ([`ResetPolicy`](crate::ResetPolicy)).
    pub resettable: bool,
    /// Why no cell is given it, whatever its configuration, if so.
    pub refusal: Option<Refusal>,
}

/// Input ranges of a cell. There is one more than what cuts them: reserved memory, windows, and interrupts.
pub type InputRanges = Vec<IovaRange, { limits::RESERVED + limits::WINDOWS + 2 }>;

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// What a device can do. Touches nothing; works before [`enable`](Self::enable), too.
    ///
    /// A caller asks this first, chooses a cell with the coherency that it wants, and assigns the device then.
    ///
    /// # Errors
    ///
    /// No unit serves the device, or that translates nothing: [`Error::NoSuchDevice`]. Or its requests may carry more
    /// source-ids than a list holds, or there are more windows: [`Error::Full`].
    pub fn device_info(&self, device: SourceId) -> Result<DeviceInfo, Error> {
        let index = self.topology.unit_of(&self.hal, device).ok_or(Error::NoSuchDevice(device))?;
        let unit = self.units.get(index).ok_or(Error::NoSuchDevice(device))?;
        let requesters = self.topology.requesters(&self.hal, device)?;
        let group = self.topology.group(&self.hal, device);
        let geometry = unit.features().geometry.ok_or(Error::NoSuchDevice(device))?;
        let mut reserved = Vec::new();
        for memory in self.topology.reserved(&self.hal, device) {
            let _ = reserved.push(memory.region);
        }
        let ats = self.ats_of(device, unit.features(), &requesters);
        let needs_device_tlb = self.needs_device_tlb(device);
        let missing = ats.err().filter(|_| needs_device_tlb).map(Refusal::NoDeviceTlb);
        let config = self.config.lock();
        let assignment = config.assignments.iter().find(|other| other.device == device);
        Ok(DeviceInfo {
            unit: unit.window(),
            cell: assignment.map(|assignment| assignment.cell),
            snoop_enforceable: self.can_enforce_snoop(unit.features(), device),
            input_bits: geometry.input_bits(),
            largest_page: geometry.largest_page_bytes(),
            reserved,
            relaxable: pci::is_display_or_usb(&self.hal, device),
            windows: BridgeWindow::of(&self.hal, device)?,
            ats: ats.map(|ats| AtsInfo::of(&ats, unit.features())),
            needs_device_tlb,
            resettable: Reset::of(&self.hal, device).is_some(),
            refusal: self.refusal(device, index, &requesters).or(missing),
            requesters,
            group,
        })
    }

    /// The input ranges that a cell can map for all devices that it has now: what all their tables can translate, without
    /// the range in which requests are interrupts, without memory that firmware reserves for one of them, and without
    /// windows of bridges that requests of one of them do not pass. What the cell has mapped already is among them. In
    /// ascending order; assigning a device may make them smaller.
    ///
    /// # Errors
    ///
    /// There is no such cell.
    pub fn input_ranges(&self, cell: CellId) -> Result<InputRanges, Error> {
        let config = self.config.lock();
        let Cell { config: cell_config, domains, .. } = config.cell(cell)?;
        // A table stays as narrow as it was made, for a device perhaps that has left it to others.
        let tables = domains.iter().map(|domain| domain.attributes.geometry.input_bits()).min();
        let geometries = self.units.iter().filter_map(|unit| unit.features().geometry);
        // Without a table, what any unit reaches.
        let bits = tables.or_else(|| geometries.map(|geometry| geometry.input_bits()).max()).unwrap_or_default();
        let mut holes: Vec<IovaRange, { limits::RESERVED + limits::WINDOWS + 1 }> = Vec::new();
        let (first, last) = INTERRUPTS;
        if let Some(interrupts) = IovaRange::new(Iova::new(first), last - first + 1) {
            let _ = holes.push(interrupts);
        }
        for device in config.assignments.iter().filter(|a| a.cell == cell && a.state != State::Leaving) {
            let reserved = self.reserved_in(self.reserved_of(device.device, cell_config)).map(|memory| memory.input);
            for hole in reserved.chain(config.windows_in(device.windows).map(|window| window.range)) {
                if !holes.contains(&hole) {
                    let _ = holes.push(hole);
                }
            }
        }
        let bytes = 1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX);
        let mut ranges = InputRanges::new();
        for range in IovaRange::new(Iova::new(0), bytes).into_iter().flat_map(|all| outside(all, holes.iter().copied()))
        {
            let _ = ranges.push(range);
        }
        Ok(ranges)
    }
}
