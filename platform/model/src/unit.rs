//! A remapping unit, whoever made it. This is the only place that knows which vendors there are.
#![forbid(unsafe_code)]

use std::ops::Range;

use cofferdam::addr::SourceId;
use cofferdam::hal::RegisterWindow;

use crate::board::Board;
use crate::devices::scope::Scope;
use crate::fault::Fault;
use crate::memory::lines::LINE;
use crate::vtd::caches::{ats, buffer, freed, settle, stores};
use crate::vtd::commands::run;
pub use crate::vtd::config::UnitConfig;
pub(crate) use crate::vtd::formats::entry::INTERRUPTS;
use crate::vtd::interrupts::remap;
pub(crate) use crate::vtd::interrupts::remap::Arrival;
use crate::vtd::registers::{access, write};
use crate::vtd::state::VtdUnit;
pub use crate::vtd::state::defect::Defect;
use crate::vtd::walks::{device_tlb, translate};

#[derive(Debug)]
pub(crate) enum Unit {
    Vtd(VtdUnit),
}

impl Unit {
    pub(crate) fn new(number: usize, config: UnitConfig, scope: Scope, host_address_width: u8, frames: usize) -> Self {
        Self::Vtd(VtdUnit::new(number, config, scope, host_address_width, frames))
    }

    pub(crate) fn config(&self) -> &UnitConfig {
        match self {
            Self::Vtd(unit) => &unit.config,
        }
    }

    pub(crate) fn window(&self) -> RegisterWindow {
        match self {
            Self::Vtd(unit) => unit.config.window(),
        }
    }

    pub(crate) fn serves(&self, source: SourceId) -> bool {
        match self {
            Self::Vtd(unit) => unit.scope.serves(source),
        }
    }

    pub(crate) fn can_remap_interrupts(&self) -> bool {
        match self {
            Self::Vtd(unit) => unit.capability.remaps_interrupts(),
        }
    }

    /// True if it sees each store at once.
    pub(crate) fn snoops(&self) -> bool {
        match self {
            Self::Vtd(unit) => unit.snoops(),
        }
    }

    /// True if its queue is on, or it has none.
    pub(crate) fn queue_ready(&self) -> bool {
        match self {
            Self::Vtd(unit) => unit.queue_ready(),
        }
    }

    /// Lets happen what is due by `now`.
    pub(crate) fn run(&mut self, now: u64, board: &mut Board) {
        match self {
            Self::Vtd(unit) => run::run(unit, now, board),
        }
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next_event(&self) -> Option<u64> {
        match self {
            Self::Vtd(unit) => run::next_event(unit),
        }
    }

    pub(crate) fn suffer(&mut self, defect: Defect) {
        match self {
            Self::Vtd(unit) => unit.defects.add(defect, unit.queue.fetched),
        }
    }

    pub(crate) fn heal(&mut self, board: &mut Board) {
        match self {
            Self::Vtd(unit) => run::heal(unit, board),
        }
    }

    /// It comes out of reset.
    pub(crate) fn reset(&mut self, board: &mut Board) {
        match self {
            Self::Vtd(unit) => run::reset(unit, board),
        }
    }

    /// A DMA request of a device, within one page.
    pub(crate) fn request(&mut self, source: SourceId, at: u64, write: bool, board: &mut Board) -> Result<u64, Fault> {
        match self {
            Self::Vtd(unit) => translate::request(unit, source, at, write, board),
        }
    }

    /// A request of a device with a device-TLB: with the address that it has cached, or with one that it requests now.
    pub(crate) fn translated(
        &mut self,
        source: SourceId,
        at: u64,
        write: bool,
        cached: Option<u64>,
        board: &mut Board,
    ) -> Result<u64, Fault> {
        match self {
            Self::Vtd(unit) => device_tlb::translated(unit, source, at, write, cached, board),
        }
    }

    /// An interrupt request: what results.
    pub(crate) fn interrupt(
        &mut self,
        source: SourceId,
        address: u64,
        data: u32,
        board: &mut Board,
    ) -> Result<Arrival, Fault> {
        match self {
            Self::Vtd(unit) => remap::request(unit, source, address, data, board),
        }
    }

    pub(crate) fn read32(&mut self, at: u32, board: &mut Board) -> u32 {
        match self {
            Self::Vtd(unit) => access::read32(unit, at, board),
        }
    }

    pub(crate) fn read64(&mut self, at: u32, board: &mut Board) -> u64 {
        match self {
            Self::Vtd(unit) => access::read64(unit, at, board),
        }
    }

    pub(crate) fn write32(&mut self, at: u32, value: u32, board: &mut Board) {
        match self {
            Self::Vtd(unit) => access::write32(unit, at, value, board),
        }
    }

    pub(crate) fn write64(&mut self, at: u32, value: u64, board: &mut Board) {
        match self {
            Self::Vtd(unit) => access::write64(unit, at, value, board),
        }
    }

    /// True if such a write of a register makes the unit take over a root table.
    pub(crate) fn sets_root(&self, at: u32, value: u32) -> bool {
        match self {
            Self::Vtd(_) => write::sets_root(at, value),
        }
    }

    /// Fresh frames are zero to a unit that snoops.
    pub(crate) fn zeroed(&mut self, frames: Range<usize>) {
        match self {
            Self::Vtd(unit) => buffer::zeroed(unit, frames),
        }
    }

    /// A line has reached memory. `old` is what it replaces.
    pub(crate) fn line_arrived(&mut self, line: usize, new: [u64; LINE], old: &[u64; LINE], board: &mut Board) {
        match self {
            Self::Vtd(unit) => buffer::line_arrived(unit, line, new, old, board),
        }
    }

    /// A store that a snooping unit sees, of one word or of two that are in one line.
    pub(crate) fn stores_arrived(&mut self, index: usize, old: &[u64], board: &mut Board) {
        match self {
            Self::Vtd(unit) => buffer::stores_arrived(unit, index, old, board),
        }
    }

    /// The driver is about to store `value` at `index`.
    pub(crate) fn check_store(&self, index: usize, value: u64, board: &mut Board) {
        match self {
            Self::Vtd(unit) => stores::check(unit, index, value, board),
        }
    }

    /// The driver is about to store two words at once.
    pub(crate) fn check_pair(&self, index: usize, value: [u64; 2], board: &mut Board) {
        match self {
            Self::Vtd(unit) => stores::check_pair(unit, index, value, board),
        }
    }

    /// Frames are about to be freed.
    pub(crate) fn check_free(&mut self, frames: Range<usize>, board: &mut Board) {
        match self {
            Self::Vtd(unit) => freed::check(unit, frames, board),
        }
    }

    /// A device's ATS was switched on.
    pub(crate) fn check_ats_on(&self, source: SourceId, board: &mut Board) {
        match self {
            Self::Vtd(unit) => ats::check_on(unit, source, board),
        }
    }

    /// A function is about to be reset.
    pub(crate) fn check_reset(&self, source: SourceId, board: &mut Board) {
        match self {
            Self::Vtd(unit) => ats::check_reset(unit, source, board),
        }
    }

    /// Reports what a driver has left undone that says it is done.
    pub(crate) fn settle(&mut self, board: &mut Board) {
        match self {
            Self::Vtd(unit) => settle::settle(unit, board),
        }
    }
}
