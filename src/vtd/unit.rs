use heapless::Vec;

use super::command::Command;
use super::counters::Counters;
use super::former::{self, Former};
use super::interrupts::{self, InterruptTable};
use super::invalidation::Invalidation;
use super::invalidation::descriptor::Encoder;
use super::invalidation::list::{CommandList, everything};
use super::invalidation::queue::{Queue, Ticket};
use super::invalidation::register_based;
use super::registers::Registers;
use super::sync::{AtomicBool, AtomicU64, MutexGuard, Ordering, UnitMutex};
use super::tables::Tables;
use super::{Capabilities, quirks};
use crate::addr::{PhysAddr, Requester};
use crate::contract::{DomainId, Features, Found, InterruptConfig, Translation, UnitConfig, UnitCounts};
use crate::error::UnitError;
use crate::hal::{FrameList, Hal, MappedRegisters, RegisterWindow};
use crate::interrupt::{Course, FaultEvent, Message, Route, Senders};
use crate::invalidation::{DeviceTlb, Flush};

/// What is left of a flush that was begun.
#[derive(Debug)]
#[must_use = "nothing is known to be invalidated before it is finished"]
pub(crate) struct VtdBegun {
    write_buffer: bool,
    work: Submitted,
    /// How many of the flushes that failed it repeats.
    repeats: u64,
}

#[derive(Debug)]
enum Submitted {
    Nothing,
    Batch(Ticket),
    Registers(Vec<Invalidation, 2>),
}

/// How a unit is given invalidations (R5).
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every unit has a queue, and nothing can be boxed")]
pub(super) enum Invalidator {
    Queue(Queue),
    Registers,
}

/// One remapping unit. Its tables are changed by one caller at a time; the front's lock sees to that.
#[derive(Debug)]
pub(crate) struct VtdUnit {
    pub(super) window: RegisterWindow,
    pub(super) mapped: Option<MappedRegisters>,
    pub(super) segment: u16,
    pub(super) config: UnitConfig,
    pub(super) capabilities: Capabilities,
    features: Features,
    pub(super) found: Found,
    /// What the former owner had, from when the driver first changed something until that is given back.
    pub(super) former: Option<Former>,
    /// All frames were given back since it was last switched on: the unit knows nothing of the driver's.
    pub(super) released: bool,
    /// The driver's table of interrupts followed the one that was found.
    pub(super) followed: bool,
    /// Interrupts in compatibility format passed it.
    pub(super) passed_compatibility: bool,
    /// What was found was noted, and the unit was neither reset nor handed back since.
    pub(super) met: bool,
    /// Where its fault event is to go.
    pub(super) event: UnitMutex<Option<FaultEvent>>,
    /// Both from the moment when the unit first learned of them until it has confirmed that it does not use them.
    pub(super) invalidator: Option<Invalidator>,
    pub(super) tables: Option<Tables>,
    /// The queue is on, and is the driver's.
    pub(super) queue_on: bool,
    /// What RTADDR_REG was set to last.
    pub(super) root_set: u64,
    /// As long as the tables, if the unit is to remap interrupts.
    pub(super) interrupts: Option<InterruptTable>,
    /// What IRTA_REG was set to last.
    pub(super) interrupts_set: u64,
    /// Remapping of interrupts was confirmed to be on, by the driver's table. Whether it still is, only registers say.
    pub(super) remapping: bool,
    /// Translation was confirmed to be on, with nothing that the driver did not grant. Whether it still is, only registers
    /// say.
    pub(super) blocking: bool,
    /// All of bring-up went well.
    pub(super) on: bool,
    /// Why the unit takes no change any more. If a command or an invalidation was not confirmed, what the unit has cached is
    /// not known.
    pub(super) failure: UnitMutex<Option<UnitError>>,
    /// The same for who must not wait for a lock.
    pub(super) failed: AtomicBool,
    /// Why nothing is done with the unit at all.
    pub(super) unusable: Option<UnitError>,
    /// Flushes that failed although the unit goes on, and how many of them were repeated by one that was confirmed.
    pub(super) failed_flushes: AtomicU64,
    pub(super) repeated: AtomicU64,
    /// Commands, and what is done through registers: one at a time.
    turn: UnitMutex<()>,
    pub(super) reader: UnitMutex<()>,
    pub(super) counters: Counters,
}

impl VtdUnit {
    /// A unit that was not [looked at](Self::look) yet.
    #[inline(always)]
    pub(crate) fn new(window: RegisterWindow, segment: u16, config: UnitConfig) -> Self {
        let device_timeout_ns = config.device_timeout_ns.max(config.timeout_ns);
        Self {
            window,
            mapped: None,
            segment,
            config: UnitConfig { device_timeout_ns, ..config },
            capabilities: Capabilities::NONE,
            features: Features::NONE,
            found: Found::default(),
            former: None,
            released: false,
            followed: false,
            passed_compatibility: false,
            met: false,
            event: UnitMutex::new(None),
            queue_on: false,
            root_set: 0,
            interrupts: None,
            interrupts_set: 0,
            remapping: false,
            invalidator: None,
            tables: None,
            blocking: false,
            on: false,
            failure: UnitMutex::new(None),
            failed: AtomicBool::new(false),
            unusable: None,
            failed_flushes: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            turn: UnitMutex::new(()),
            reader: UnitMutex::new(()),
            counters: Counters::new(),
        }
    }

    /// Looks at what the unit can do, and changes nothing of it. `for_graphics`: it serves the chipset's graphics and is not the one
    /// for all the rest. One that cannot be looked at can do nothing, and [cannot be used](Self::check_usable).
    #[inline(never)]
    pub(crate) fn look(&mut self, hal: &impl Hal, for_graphics: bool) {
        self.mapped = hal.map_registers(self.window).map(|first| MappedRegisters { window: self.window, first });
        match self.look_at_registers(hal, for_graphics) {
            Ok((capabilities, found)) => {
                self.found = found;
                self.is_known_to_have(capabilities);
            }
            Err(error) => {
                self.unusable = Some(error);
                self.give_up(error);
            }
        }
    }

    #[inline(never)]
    fn look_at_registers(&self, hal: &impl Hal, for_graphics: bool) -> Result<(Capabilities, Found), UnitError> {
        if self.mapped.is_none() {
            return Err(UnitError::NotMapped { unit: self.window });
        }
        let registers = self.registers(hal);
        let mut capabilities = Capabilities::read(&registers)?;
        quirks::of_machine(hal).for_each(|quirk| quirk.effect.apply(&mut capabilities, for_graphics));
        capabilities.max_leaf_level = capabilities.max_leaf_level.min(self.config.max_leaf_level.max(1));
        Ok((capabilities, former::found(&registers, registers.status()?)))
    }

    pub(super) fn is_known_to_have(&mut self, capabilities: Capabilities) {
        (self.capabilities, self.features) = (capabilities, capabilities.features(self.config.host_bits));
    }

    pub(crate) fn window(&self) -> RegisterWindow {
        self.window
    }

    pub(crate) fn mapped(&self) -> Option<MappedRegisters> {
        self.mapped
    }

    pub(crate) fn segment(&self) -> u16 {
        self.segment
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    pub(crate) fn found(&self) -> Found {
        self.found
    }

    pub(super) fn queue(&self) -> Option<&Queue> {
        match &self.invalidator {
            Some(Invalidator::Queue(queue)) => Some(queue),
            _ => None,
        }
    }

    pub(super) fn registers<'h, H: Hal>(&self, hal: &'h H) -> Registers<'h, H> {
        Registers { hal, window: self.window, first: self.mapped.map(|mapped| mapped.first) }
    }

    #[inline(never)]
    pub(super) fn command(&self, hal: &impl Hal, command: Command) -> Result<(), UnitError> {
        self.guard(command.run(&self.registers(hal), self.config.timeout_ns))
    }

    /// True if a flush failed, and no flush of [everything](Flush::everything) that came after it was confirmed.
    pub(crate) fn needs_full_flush(&self) -> bool {
        self.failed_flushes.load(Ordering::Acquire) > self.repeated.load(Ordering::Acquire)
    }

    /// Has the unit begin what `flush` lists, without waiting; nothing is left to be done if `None`, as in a unit that is only
    /// prepared: it forgets everything when it takes its tables over.
    ///
    /// # Errors
    ///
    /// The unit failed before. Or its queue has [no room](UnitError::NoRoom): then everything has to be flushed.
    pub(crate) fn begin(
        &self,
        hal: &impl Hal,
        flush: &Flush<'_>,
        list: &CommandList<'_>,
    ) -> Result<Option<VtdBegun>, UnitError> {
        self.counters.avoided(flush.avoided());
        let write_buffer = flush.write_buffer();
        if flush.is_empty() && !write_buffer {
            return Ok(None);
        }
        self.check_alive()?;
        if self.is_prepared() {
            return Ok(None);
        }
        let repeats = if flush.repeats_failed() { self.failed_flushes.load(Ordering::Acquire) } else { 0 };
        let work = match &self.invalidator {
            _ if flush.is_empty() => Submitted::Nothing,
            None => return Err(UnitError::Failed { unit: self.window }),
            Some(Invalidator::Queue(queue)) => {
                let [unit, devices] = list.descriptors(Encoder::of(&self.capabilities));
                let ticket = queue.submit(&self.registers(hal), unit, devices);
                Submitted::Batch(self.guard(ticket.ok_or(UnitError::NoRoom { unit: self.window }))?)
            }
            Some(Invalidator::Registers) => Submitted::Registers(list.few()),
        };
        Ok(Some(VtdBegun { write_buffer, work, repeats }))
    }

    /// Does what is left of a flush that was begun, and waits for it. Holds up nobody but others who do so with this unit.
    ///
    /// # Errors
    ///
    /// The unit refused part of it, or a device did not answer: what was begun is not known to be done. Or the unit did not
    /// confirm in time, and is out of service.
    pub(crate) fn finish(&self, hal: &impl Hal, begun: VtdBegun) -> Result<(), UnitError> {
        self.timed(hal, || self.do_rest(hal, begun))
    }

    /// Notes how long a wait takes.
    fn timed(&self, hal: &impl Hal, wait: impl FnOnce() -> Result<(), UnitError>) -> Result<(), UnitError> {
        let start = hal.now_ns();
        let result = wait();
        self.counters.waited(hal.now_ns().saturating_sub(start));
        result
    }

    fn do_rest(&self, hal: &impl Hal, begun: VtdBegun) -> Result<(), UnitError> {
        let VtdBegun { write_buffer, work, repeats } = begun;
        if write_buffer {
            let _turn = self.take_turn()?;
            self.command(hal, Command::FLUSH_WRITE_BUFFER)?;
        }
        let registers = self.registers(hal);
        match (work, &self.invalidator) {
            (Submitted::Batch(ticket), Some(Invalidator::Queue(queue))) => {
                let timeout_ns = self.patience(ticket.for_devices);
                self.guard(queue.wait(&registers, ticket, timeout_ns))?;
            }
            (Submitted::Registers(list), _) => {
                let _turn = self.take_turn()?;
                let list = list.iter().copied();
                let run = register_based::run(&registers, &self.capabilities, list, self.config.timeout_ns);
                // A unit that was reset does so, too, and lets everything through.
                self.guard(run.and_then(|()| self.check_registers(hal)))?;
            }
            _ => {}
        }
        self.repeated.fetch_max(repeats, Ordering::AcqRel);
        Ok(())
    }

    fn patience(&self, for_devices: bool) -> u64 {
        if for_devices { self.config.device_timeout_ns } else { self.config.timeout_ns }
    }

    /// The right to give the unit a command, or an invalidation through registers (R2, S 6.5.1).
    fn take_turn(&self) -> Result<MutexGuard<'_, ()>, UnitError> {
        let turn = self.turn.lock();
        // Or each waiter would wait as long as the first did.
        self.check_alive()?;
        Ok(turn)
    }

    /// Waits until its queue has room for a flush of everything.
    ///
    /// # Errors
    ///
    /// It has none in time, and the unit is out of service.
    pub(crate) fn wait_for_room(&self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(queue) = self.queue() else { return Ok(()) };
        let timeout_ns = self.patience(queue.asks_devices());
        let wait = || {
            queue.wait_for_room(
                &self.registers(hal),
                CommandList::longest_of_everything(self.config.device_tlbs),
                timeout_ns,
            )
        };
        self.guard(self.timed(hal, wait))
    }

    /// Has the unit invalidate all that it has cached, and waits for it.
    pub(super) fn invalidate_everything(&self, hal: &impl Hal) -> Result<(), UnitError> {
        let (registers, all) = (self.registers(hal), everything(self.remaps_interrupts() || self.interrupts_set != 0));
        let result = match &self.invalidator {
            None => Err(UnitError::Failed { unit: self.window }),
            Some(Invalidator::Queue(queue)) => {
                let (encoder, slots) = (Encoder::of(&self.capabilities), all.len() + 1);
                queue.wait_for_room(&registers, slots, self.config.timeout_ns).and_then(|()| {
                    let ticket = queue.submit(&registers, encoder.encode_all(all), encoder.encode_all(&[]));
                    let ticket = ticket.ok_or(UnitError::NoRoom { unit: self.window })?;
                    queue.wait(&registers, ticket, self.config.timeout_ns)
                })
            }
            Some(Invalidator::Registers) => self.run_through_registers(hal, all),
        };
        self.guard(result)
    }

    #[inline(never)]
    fn run_through_registers(&self, hal: &impl Hal, all: &[Invalidation]) -> Result<(), UnitError> {
        register_based::run(&self.registers(hal), &self.capabilities, all.iter().copied(), self.config.timeout_ns)
    }

    /// How many frames [`attach`](Self::attach) takes for these requesters.
    pub(crate) fn frames_to_attach(&self, hal: &impl Hal, requesters: impl Iterator<Item = Requester>) -> usize {
        self.tables.as_ref().map_or(0, |tables| tables.frames_needed(hal, requesters))
    }

    /// Has the requests of these requesters translated, which were blocked until now (R35). They are once `flush` is done.
    /// `frames` has what [`frames_to_attach`](Self::frames_to_attach) says.
    ///
    /// Then, if `to` has a device-TLB, ATS may be switched on in the device (R47).
    pub(crate) fn attach(
        &self,
        hal: &impl Hal,
        requesters: &[Requester],
        to: Translation,
        frames: &mut FrameList,
        flush: &mut Flush<'_>,
    ) {
        if let Some(tables) = &self.tables {
            tables.attach(hal, &self.features, requesters, to, frames, flush);
        }
    }

    /// Blocks the requests of these requesters, whose entries lead to this domain. Once `flush` is done, none is under way
    /// and nothing of the domain is cached for them; [`erase`](Self::erase) comes then. May be repeated.
    ///
    /// Before, ATS was switched off in a device with a `device_tlb`, and that was emptied (R47). It is once more, since the
    /// unit let the device ask for translations until now.
    pub(crate) fn block(
        &self,
        hal: &impl Hal,
        requesters: &[Requester],
        from: Option<DomainId>,
        device_tlb: Option<DeviceTlb>,
        flush: &mut Flush<'_>,
    ) {
        if let Some(tables) = &self.tables {
            tables.block(hal, requesters, from, device_tlb, flush);
        }
    }

    /// Clears what is left of the entries of requesters that are blocked. The unit need not see that at once; with the
    /// next `flush` it does.
    pub(crate) fn erase(&self, hal: &impl Hal, requesters: &[Requester], flush: &mut Flush<'_>) {
        if let Some(tables) = &self.tables {
            tables.erase(hal, &self.features, requesters, flush);
        }
    }

    /// Has the unit record no faults of a requester, or record them again. It does once `flush` is done, and until it learns
    /// otherwise, whatever the requester is attached to meanwhile.
    ///
    /// # Errors
    ///
    /// No frame for a context table, or the unit is not on: nothing changed.
    pub(crate) fn mute(
        &self,
        hal: &impl Hal,
        requester: Requester,
        muted: bool,
        flush: &mut Flush<'_>,
    ) -> Result<(), UnitError> {
        // Without an entry the fault is that of the root entry, which cannot be muted (table 30).
        self.check_on(hal)?;
        let Some(tables) = &self.tables else { return Ok(()) };
        let needed = tables.frames_needed(hal, core::iter::once(requester));
        if !muted && needed != 0 {
            return Ok(());
        }
        let frames = FrameList::allocate(hal, needed, self.config.host_bits);
        let mut frames = frames.map_err(UnitError::no_frame(self.window))?;
        tables.mute(hal, &self.features, requester, muted, &mut frames, flush);
        Ok(())
    }

    /// Has the unit remap interrupts from when it gets its tables on.
    pub(crate) fn set_interrupt_config(&mut self, config: InterruptConfig) {
        self.config.interrupts = Some(config);
    }

    /// True if the unit has a table of interrupts.
    pub(crate) fn remaps_interrupts(&self) -> bool {
        self.interrupts.is_some()
    }

    /// What IRTA_REG has for its table of interrupts, if it has one.
    pub(crate) fn interrupt_table(&self) -> Option<u64> {
        self.interrupts.as_ref().map(InterruptTable::pointer)
    }

    /// Has what `senders` send by this entry of its table take this course, or blocks it: once `flush` is done, and the old one or the
    /// new one until then.
    pub(crate) fn set_interrupt(
        &self,
        hal: &impl Hal,
        slot: u16,
        to: Option<(Course, Senders)>,
        flush: &mut Flush<'_>,
    ) {
        if let Some(table) = &self.interrupts {
            table.set(hal, &self.features, slot, to, flush);
        }
    }

    /// What a device sends whose messages have a block of entries that begins there.
    pub(crate) fn message(first: u16) -> Message {
        interrupts::message(first)
    }

    /// What a pin of an IOAPIC is programmed with that has this entry.
    pub(crate) fn redirection(slot: u16, route: Route) -> u64 {
        interrupts::redirection(slot, route)
    }

    /// Where its root table is, if it has one.
    pub(crate) fn root(&self) -> Option<PhysAddr> {
        self.tables.as_ref().map(Tables::root)
    }

    /// Sum of the addresses of its root and context tables, modulo 2^64.
    pub(crate) fn table_sum(&self) -> u64 {
        self.tables.as_ref().map_or(0, Tables::sum)
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> UnitCounts {
        let counts = self.queue().map(Queue::counts).unwrap_or_default();
        UnitCounts {
            descriptors: counts.descriptors,
            waits: counts.waits,
            doorbells: counts.doorbells,
            completion_errors: counts.completion_errors,
            flushes_avoided: self.counters.flushes_avoided(),
            longest_wait_ns: self.counters.longest_wait_ns(),
            other_faults: self.counters.other_faults(),
            frames: self.tables.as_ref().map_or(0, Tables::frames)
                + self.interrupts.as_ref().map_or(0, InterruptTable::frames)
                + self.queue().map_or(0, Queue::frames),
        }
    }
}
