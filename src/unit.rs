//! One remapping unit of whichever vendor: the only place where the driver asks which.
#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{PhysAddr, Requester, SourceId};
use crate::contract::{
    DomainId, Features, Found, InterruptConfig, MainMemory, Translation, UnitConfig, UnitCounts, UnitState,
};
use crate::error::UnitError;
use crate::fault::{Fault, FaultLog};
use crate::hal::{FrameList, Hal, MappedRegisters, RegisterWindow};
use crate::interrupt::{Course, FaultEvent, Message, Route, Senders};
use crate::invalidation::{DeviceTlb, Flush};
use crate::limits::{Carver, Full};
use crate::topology::{UnitInfo, UnitKind};
use crate::vtd;

/// What its vendor's registers say of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitDetails {
    /// An Intel VT-d unit.
    Vtd(vtd::Capabilities),
}

impl fmt::Display for UnitDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vtd(capabilities) => capabilities.fmt(f),
        }
    }
}

/// What is left of a flush that was begun.
#[derive(Debug)]
#[must_use = "nothing is known to be invalidated before it is finished"]
pub(crate) enum Begun {
    Vtd(vtd::VtdBegun),
}

/// Where units make their commands. It is too large for a stack, and one caller at a time needs it.
#[derive(Debug)]
pub(crate) struct Scratch<'s> {
    list: vtd::CommandList<'s>,
}

impl<'s> Scratch<'s> {
    /// Room for nothing.
    pub(crate) const fn without_room() -> Self {
        Self { list: vtd::CommandList::without_room() }
    }

    /// How many words it takes for units with so many device-TLBs.
    pub(crate) const fn words(device_tlbs: usize) -> usize {
        vtd::CommandList::words(device_tlbs)
    }

    pub(crate) fn cut(carver: &mut Carver<'s>, device_tlbs: usize) -> Result<Self, Full> {
        Ok(Self { list: vtd::CommandList::cut(carver, device_tlbs)? })
    }
}

/// A unit. Its tables are changed by one caller at a time; the front's lock sees to that.
#[derive(Debug)]
pub(crate) enum Unit {
    Vtd(vtd::VtdUnit),
}

/// The match on the vendor, for a call that both answer alike.
macro_rules! of_vendor {
    ($unit:ident in $self:ident => $call:expr) => {
        match $self {
            Self::Vtd($unit) => $call,
        }
    };
}

impl Unit {
    /// A unit that was not [looked at](Self::look) yet; `None` if the driver knows none of its kind.
    #[inline(always)]
    pub(crate) fn new(info: &UnitInfo, config: UnitConfig) -> Option<Self> {
        match info.kind {
            UnitKind::VtD => Some(Self::Vtd(vtd::VtdUnit::new(info.window, info.segment, config))),
            _ => None,
        }
    }

    /// Looks at what the unit can do, and changes nothing of it. One that cannot be looked at
    /// [cannot be used](Self::check_usable). `for_graphics`: it serves the chipset's graphics and is not the one for all the rest.
    pub(crate) fn look(&mut self, hal: &impl Hal, for_graphics: bool) {
        of_vendor!(unit in self => unit.look(hal, for_graphics));
    }

    /// Fails if the unit did not answer when it was looked at, or showed what no unit can be.
    pub(crate) fn check_usable(&self) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.check_usable())
    }

    /// Its registers.
    pub(crate) fn window(&self) -> RegisterWindow {
        of_vendor!(unit in self => unit.window())
    }

    /// Where the CPU sees them, if it does.
    pub(crate) fn mapped(&self) -> Option<MappedRegisters> {
        of_vendor!(unit in self => unit.mapped())
    }

    /// The PCI segment of its devices.
    pub(crate) fn segment(&self) -> u16 {
        of_vendor!(unit in self => unit.segment())
    }

    pub(crate) fn features(&self) -> &Features {
        of_vendor!(unit in self => unit.features())
    }

    pub(crate) fn details(&self) -> UnitDetails {
        match self {
            Self::Vtd(unit) => UnitDetails::Vtd(*unit.capabilities()),
        }
    }

    /// What it does to requests, by its registers as they are now.
    pub(crate) fn state(&self, hal: &impl Hal) -> UnitState {
        of_vendor!(unit in self => unit.state(hal))
    }

    pub(crate) fn found(&self) -> Found {
        of_vendor!(unit in self => unit.found())
    }

    pub(crate) fn counts(&self) -> UnitCounts {
        of_vendor!(unit in self => unit.counts())
    }

    /// Fails if the unit failed before, or is not switched on, by its registers as they are now.
    pub(crate) fn check_on(&self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.check_on(hal))
    }

    /// Fails if the unit failed before, or is neither [prepared](Self::prepare) nor switched on.
    pub(crate) fn check_ready(&self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.check_ready(hal))
    }

    /// Has the unit be out of service from now on, for this reason unless it failed before.
    pub(crate) fn give_up(&self, error: UnitError) {
        of_vendor!(unit in self => unit.give_up(error))
    }

    /// True if the unit is prepared, and was not switched on since.
    pub(crate) fn is_prepared(&self) -> bool {
        of_vendor!(unit in self => unit.is_prepared())
    }

    /// Gets the tables in which every device is blocked, so that devices can be given entries before the unit is switched on.
    /// Touches no register. Does nothing to a unit that has tables.
    pub(crate) fn prepare(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.prepare(hal))
    }

    /// Gets ready to invalidate, and leaves translation as it is. All units go through this before any goes through
    /// [`start_translation`](Self::start_translation).
    pub(crate) fn start_invalidation(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.start_invalidation(hal))
    }

    /// Switches translation on: by tables in which every device is blocked, or by those that the unit had, if it was prepared or
    /// reset. Does nothing to a unit that is on.
    pub(crate) fn start_translation(&mut self, hal: &impl Hal, memory: Option<MainMemory>) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.start_translation(hal, memory))
    }

    /// Waits until nothing is left to be invalidated, and has the unit send no fault event until it [wakes](Self::wake). It goes on
    /// otherwise.
    pub(crate) fn pause(&self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.pause(hal))
    }

    /// Has the unit be as it was before it lost power, if it did, and send its fault event again. Does nothing to one that was never
    /// switched on.
    pub(crate) fn wake(&mut self, hal: &impl Hal, memory: Option<MainMemory>) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.wake(hal, memory))
    }

    /// Fails if somebody else has the unit on. Touches nothing.
    pub(crate) fn check_free(&self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.check_free(hal))
    }

    /// Fails if [`hand_back`](Self::hand_back) could not give all back. Touches nothing.
    pub(crate) fn check_hand_back(&self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.check_hand_back(hal))
    }

    /// Gives the unit back as it was found, and all its frames: what devices do by the former owner's tables, or without any, goes on
    /// without a gap where it is the same as by the driver's.
    pub(crate) fn hand_back(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.hand_back(hal))
    }

    /// Switches translation off and gives all frames back. Does nothing to a unit that is off.
    pub(crate) fn stop(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.stop(hal))
    }

    /// How many frames [`attach`](Self::attach) takes for these requesters, together.
    pub(crate) fn frames_to_attach(&self, hal: &impl Hal, requesters: impl Iterator<Item = Requester>) -> usize {
        of_vendor!(unit in self => unit.frames_to_attach(hal, requesters))
    }

    /// Has the requests of these requesters translated, which were blocked until now: once `flush` is done.
    pub(crate) fn attach(
        &self,
        hal: &impl Hal,
        requesters: &[Requester],
        to: Translation,
        frames: &mut FrameList,
        flush: &mut Flush<'_>,
    ) {
        of_vendor!(unit in self => unit.attach(hal, requesters, to, frames, flush));
    }

    /// Blocks the requests of these requesters: once `flush` is done, none is under way. May be repeated.
    pub(crate) fn block(
        &self,
        hal: &impl Hal,
        requesters: &[Requester],
        from: Option<DomainId>,
        device_tlb: Option<DeviceTlb>,
        flush: &mut Flush<'_>,
    ) {
        of_vendor!(unit in self => unit.block(hal, requesters, from, device_tlb, flush));
    }

    /// Forgets the entries of requesters that are blocked; with the next `flush` the unit sees that.
    pub(crate) fn erase(&self, hal: &impl Hal, requesters: &[Requester], flush: &mut Flush<'_>) {
        of_vendor!(unit in self => unit.erase(hal, requesters, flush));
    }

    /// Has the unit record no faults of a requester, or record them again: once `flush` is done.
    pub(crate) fn mute(
        &self,
        hal: &impl Hal,
        requester: Requester,
        muted: bool,
        flush: &mut Flush<'_>,
    ) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.mute(hal, requester, muted, flush))
    }

    /// Lists what `flush` asks of the unit, in the order in which it is to be done.
    pub(crate) fn list(&self, flush: &Flush<'_>, scratch: &mut Scratch<'_>) {
        match self {
            Self::Vtd(unit) => scratch.list.fill(unit.capabilities(), unit.remaps_interrupts(), flush),
        }
    }

    /// Has the unit begin what `flush` asks for, as it is [listed](Self::list), without waiting; nothing is left to be done if
    /// `None`.
    pub(crate) fn begin(
        &self,
        hal: &impl Hal,
        flush: &Flush<'_>,
        scratch: &Scratch<'_>,
    ) -> Result<Option<Begun>, UnitError> {
        match self {
            Self::Vtd(unit) => Ok(unit.begin(hal, flush, &scratch.list)?.map(Begun::Vtd)),
        }
    }

    /// Does what is left of a flush that was begun, and waits for it.
    pub(crate) fn finish(&self, hal: &impl Hal, begun: Option<Begun>) -> Result<(), UnitError> {
        match (self, begun) {
            (_, None) => Ok(()),
            (Self::Vtd(unit), Some(Begun::Vtd(begun))) => unit.finish(hal, begun),
        }
    }

    /// Waits until the unit has room for a flush of everything.
    pub(crate) fn wait_for_room(&self, hal: &impl Hal) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.wait_for_room(hal))
    }

    /// True if a flush failed, and no flush of everything that came after it was confirmed.
    pub(crate) fn needs_full_flush(&self) -> bool {
        of_vendor!(unit in self => unit.needs_full_flush())
    }

    /// True if the unit has confirmed all that it was to invalidate, and is in service: it knows nothing of what is gone.
    pub(crate) fn has_confirmed_all(&self, hal: &impl Hal) -> bool {
        !self.needs_full_flush() && self.check_ready(hal).is_ok()
    }

    /// Reads and clears the pending fault records. Takes no lock that a change holds.
    pub(crate) fn read_faults(&self, hal: &impl Hal, log: &mut FaultLog, each: &mut dyn FnMut(Fault)) {
        of_vendor!(unit in self => unit.read_faults(hal, log, each));
    }

    /// The devices whose faults were read, and how many of each.
    pub(crate) fn faults_by_device(&self) -> impl Iterator<Item = (SourceId, u64)> + '_ {
        of_vendor!(unit in self => unit.faults_by_device())
    }

    /// Has the unit send its fault event there, or none.
    pub(crate) fn set_fault_event(&self, hal: &impl Hal, to: Option<FaultEvent>) -> Result<(), UnitError> {
        of_vendor!(unit in self => unit.set_fault_event(hal, to))
    }

    /// Has the unit remap interrupts, if it can, from when it gets its tables on.
    pub(crate) fn set_interrupt_config(&mut self, config: InterruptConfig) {
        if self.features().interrupts.is_some() {
            of_vendor!(unit in self => unit.set_interrupt_config(config));
        }
    }

    /// True if the unit has a table of interrupts, and blocks those that it has nothing for.
    pub(crate) fn remaps_interrupts(&self) -> bool {
        of_vendor!(unit in self => unit.remaps_interrupts())
    }

    /// What the register has that leads to its table of interrupts, if it has one.
    pub(crate) fn interrupt_table(&self) -> Option<u64> {
        of_vendor!(unit in self => unit.interrupt_table())
    }

    /// Has what `senders` send by this slot take this course, or blocks it: once `flush` is done, and the old one or the new one until
    /// then.
    pub(crate) fn set_interrupt(
        &self,
        hal: &impl Hal,
        slot: u16,
        to: Option<(Course, Senders)>,
        flush: &mut Flush<'_>,
    ) {
        of_vendor!(unit in self => unit.set_interrupt(hal, slot, to, flush));
    }

    /// What a device sends whose messages have a block of slots that begins there.
    pub(crate) fn message(&self, first: u16) -> Message {
        match self {
            Self::Vtd(_) => vtd::VtdUnit::message(first),
        }
    }

    /// What a pin of an IOAPIC is programmed with that has this slot, unmasked and active high.
    pub(crate) fn redirection(&self, slot: u16, route: Route) -> u64 {
        match self {
            Self::Vtd(_) => vtd::VtdUnit::redirection(slot, route),
        }
    }

    /// Where the table is that leads to all others, if the unit has one.
    pub(crate) fn root(&self) -> Option<PhysAddr> {
        of_vendor!(unit in self => unit.root())
    }

    /// Sum of the addresses of the tables that lead to page tables, modulo 2^64.
    pub(crate) fn table_sum(&self) -> u64 {
        of_vendor!(unit in self => unit.table_sum())
    }
}
