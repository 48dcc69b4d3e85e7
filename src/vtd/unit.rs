mod bring_up;
mod counters;
mod faults;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use heapless::Vec;
use spin::{Mutex, MutexGuard};

use super::command::Command;
use super::context_entry::{self, ContextEntry, FPD};
use super::descriptor::{Descriptor, Encoder};
use super::flush::List;
use super::queue::{Queue, Ticket};
use super::registers::Registers;
use super::{Capabilities, DeviceTlb, Flush, Invalidation, quirks_of_machine, register_based, root_entry};
use crate::addr::PhysAddr;
use crate::error::UnitError;
use crate::hal::{FrameList, Frames, Hal, WORDS, Window};
use bring_up::Found;
use counters::Counters;

/// Where the requests of a function go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// The top of the page table.
    pub root: PhysAddr,
    /// Its levels.
    pub levels: u8,
    /// Its domain-id, used for no other table on this unit (R38).
    pub domain_id: u16,
    /// Translation requests and translated ones are let through, too.
    pub device_tlb: bool,
}

/// Counts of one unit since it was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitCounts {
    pub descriptors: u64,
    pub waits: u64,
    pub doorbells: u64,
    pub completion_errors: u64,
    pub flushes_avoided: u64,
    pub longest_wait_ns: u64,
    pub other_faults: u64,
    pub frames: u32,
}

/// What is left of a flush that was begun.
#[derive(Debug)]
#[must_use = "nothing is known to be forgotten before it is finished"]
pub(crate) struct Begun {
    write_buffer: bool,
    work: Work,
    /// How many of the flushes that failed it makes up for.
    makes_up_for: u64,
}

#[derive(Debug)]
enum Work {
    Nothing,
    Batch(Ticket),
    Registers(Vec<Invalidation, 2>),
}

/// What a unit does to the requests of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// It was not switched on yet, or was handed back: devices reach what firmware lets them reach.
    Off,
    /// It translates: devices reach what their cells were granted, and nothing else.
    On,
    /// It failed, and takes no change any more.
    Failed {
        /// Why.
        error: UnitError,
        /// True if it translates with the driver's tables all the same: what they did not grant stays blocked. False if
        /// that was never confirmed: **its devices may reach all memory**, that of other units' cells among it.
        blocking: bool,
    },
}

/// How a unit is told what to forget (R5).
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every unit has a queue, and nothing can be boxed")]
enum Invalidator {
    Queue(Queue),
    Registers,
}

/// One remapping unit. Its tables are changed by one caller at a time; the front's lock sees to that.
#[derive(Debug)]
pub(crate) struct Unit {
    window: Window,
    segment: u16,
    /// The machine's host address width: its tables and queue lie below 2^`host_bits`.
    host_bits: u8,
    capabilities: Capabilities,
    timeout_ns: u64,
    /// As long as devices may have to answer.
    device_timeout_ns: u64,
    queue_slots: u16,
    found: Found,
    /// Both from the moment when the unit was first told of them until it has confirmed that it does not use them.
    invalidator: Option<Invalidator>,
    root: Option<Frames>,
    /// Translation was confirmed to be on, with nothing that the driver did not grant.
    blocking: bool,
    /// All of bring-up went well.
    on: bool,
    /// Why the unit takes no change any more. If a command or an invalidation was not confirmed, what the unit has cached is
    /// not known.
    failure: Mutex<Option<UnitError>>,
    /// An entry of the root table became present that was not flushed yet: the next entry that becomes present asks for
    /// everything.
    root_changed: AtomicBool,
    /// Flushes that failed although the unit goes on, and how many of them were made up for.
    failed_flushes: AtomicU64,
    made_up: AtomicU64,
    frames: AtomicU32,
    /// Sum of the addresses of its root and context tables, modulo 2^64: what an audit has to find.
    tables: AtomicU64,
    /// Commands, and what is done through registers: one at a time.
    turn: Mutex<()>,
    reader: Mutex<()>,
    counters: Counters,
}

impl Unit {
    /// Looks at a unit and changes nothing.
    pub(crate) fn probe(
        hal: &impl Hal,
        window: Window,
        segment: u16,
        host_bits: u8,
        (timeout_ns, device_timeout_ns): (u64, u64),
        queue_slots: u16,
    ) -> Result<Self, UnitError> {
        let mut capabilities = Capabilities::read(&Registers { hal, window })?;
        quirks_of_machine(hal).for_each(|quirk| quirk.effect.apply(&mut capabilities));
        Ok(Self {
            window,
            segment,
            host_bits,
            capabilities,
            timeout_ns,
            device_timeout_ns: device_timeout_ns.max(timeout_ns),
            queue_slots,
            found: Found::default(),
            invalidator: None,
            root: None,
            blocking: false,
            on: false,
            failure: Mutex::new(None),
            root_changed: AtomicBool::new(false),
            failed_flushes: AtomicU64::new(0),
            made_up: AtomicU64::new(0),
            frames: AtomicU32::new(0),
            tables: AtomicU64::new(0),
            turn: Mutex::new(()),
            reader: Mutex::new(()),
            counters: Counters::new(),
        })
    }

    pub(crate) fn window(&self) -> Window {
        self.window
    }

    pub(crate) fn segment(&self) -> u16 {
        self.segment
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn state(&self) -> UnitState {
        match *self.failure.lock() {
            Some(error) => UnitState::Failed { error, blocking: self.blocking },
            None if self.on => UnitState::On,
            None => UnitState::Off,
        }
    }

    pub(crate) fn found(&self) -> Found {
        self.found
    }

    fn queue(&self) -> Option<&Queue> {
        match &self.invalidator {
            Some(Invalidator::Queue(queue)) => Some(queue),
            _ => None,
        }
    }

    fn registers<'h, H: Hal>(&self, hal: &'h H) -> Registers<'h, H> {
        Registers { hal, window: self.window }
    }

    /// Notes if the unit failed: from then on it takes no change. A descriptor that it refused, or a device that does not
    /// answer, does no harm to others, but what was to be forgotten may be cached until the unit forgets everything.
    fn guard<T>(&self, result: Result<T, UnitError>) -> Result<T, UnitError> {
        match &result {
            Ok(_) => {}
            Err(UnitError::Queue { .. } | UnitError::Device { .. } | UnitError::NoRoom { .. }) => {
                self.failed_flushes.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => {
                self.failure.lock().get_or_insert(*error);
            }
        }
        result
    }

    fn check_alive(&self) -> Result<(), UnitError> {
        if self.failure.lock().is_some() { Err(UnitError::Failed { unit: self.window }) } else { Ok(()) }
    }

    /// Fails if the unit failed before, or is not switched on.
    pub(crate) fn check_on(&self) -> Result<(), UnitError> {
        self.check_alive()?;
        if self.on { Ok(()) } else { Err(UnitError::Failed { unit: self.window }) }
    }

    fn command(&self, hal: &impl Hal, command: Command) -> Result<(), UnitError> {
        self.guard(command.run(&self.registers(hal), self.timeout_ns))
    }

    /// A root or context table in which nothing is present, as the unit sees it.
    fn new_table(&self, hal: &impl Hal) -> Result<Frames, UnitError> {
        let table = Frames::allocate(hal, 0, self.host_bits).map_err(UnitError::no_frame(self.window))?;
        self.publish_table(hal, &table);
        Ok(table)
    }

    fn publish_table(&self, hal: &impl Hal, table: &Frames) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.tables.fetch_add(table.base().as_u64(), Ordering::Relaxed);
        self.written(hal, table, 0, WORDS);
    }

    /// Writes part of a table back, where the unit does not snoop (R37), and orders it before what follows.
    fn written(&self, hal: &impl Hal, table: &Frames, word: usize, words: usize) {
        if !self.capabilities.coherent {
            table.write_back(hal, word, words);
        }
        hal.fence();
    }

    /// True if a flush failed, and no flush of [everything](Flush::everything) that came after it was confirmed.
    pub(crate) fn owes_flush(&self) -> bool {
        self.failed_flushes.load(Ordering::Acquire) > self.made_up.load(Ordering::Acquire)
    }

    /// Has the unit begin what `flush` lists, without waiting; nothing is left to be done if `None`.
    ///
    /// # Errors
    ///
    /// The unit failed before. Or its queue has [no room](UnitError::NoRoom): then it owes a flush of everything.
    pub(crate) fn begin(&self, hal: &impl Hal, flush: &Flush) -> Result<Option<Begun>, UnitError> {
        self.counters.avoided(flush.avoided());
        let write_buffer = flush.write_buffer();
        if flush.is_empty() && !write_buffer {
            return Ok(None);
        }
        self.check_alive()?;
        let makes_up_for = if flush.makes_up() { self.failed_flushes.load(Ordering::Acquire) } else { 0 };
        // Filled where it lies: it is large.
        let mut list = List::default();
        flush.list(&self.capabilities, &mut list);
        let work = match &self.invalidator {
            _ if flush.is_empty() => Work::Nothing,
            None => return Err(UnitError::Failed { unit: self.window }),
            Some(Invalidator::Queue(queue)) => {
                let (unit, devices) = list.parts();
                let (unit, devices) = (self.descriptors(unit), self.descriptors(devices));
                let ticket = queue.submit(&self.registers(hal), unit, devices);
                Work::Batch(self.guard(ticket.ok_or(UnitError::NoRoom { unit: self.window }))?)
            }
            Some(Invalidator::Registers) => Work::Registers(list.few()),
        };
        Ok(Some(Begun { write_buffer, work, makes_up_for }))
    }

    fn descriptors<'l>(&self, part: &'l [Invalidation]) -> impl ExactSizeIterator<Item = Descriptor> + Clone + use<'l> {
        let encoder = Encoder::of(&self.capabilities);
        part.iter().map(move |invalidation| encoder.encode(*invalidation))
    }

    /// Does what is left of a flush that was begun, and waits for it. Holds up nobody but others who do so with this unit.
    ///
    /// # Errors
    ///
    /// The unit refused part of it, or a device did not answer: what was begun is not known to be done. Or the unit did not
    /// confirm in time, and is out of service.
    pub(crate) fn finish(&self, hal: &impl Hal, begun: Option<Begun>) -> Result<(), UnitError> {
        begun.map_or(Ok(()), |begun| self.timed(hal, || self.do_rest(hal, begun)))
    }

    /// Notes how long a wait takes.
    fn timed(&self, hal: &impl Hal, wait: impl FnOnce() -> Result<(), UnitError>) -> Result<(), UnitError> {
        let start = hal.now_ns();
        let result = wait();
        self.counters.waited(hal.now_ns().saturating_sub(start));
        result
    }

    fn do_rest(&self, hal: &impl Hal, begun: Begun) -> Result<(), UnitError> {
        let Begun { write_buffer, work, makes_up_for } = begun;
        if write_buffer {
            let _turn = self.take_turn()?;
            self.command(hal, Command::FLUSH_WRITE_BUFFER)?;
        }
        let registers = self.registers(hal);
        match (work, &self.invalidator) {
            (Work::Batch(ticket), Some(Invalidator::Queue(queue))) => {
                let timeout_ns = self.patience(ticket.for_devices);
                self.guard(queue.wait(&registers, ticket, timeout_ns))?;
            }
            (Work::Registers(list), _) => {
                let _turn = self.take_turn()?;
                let list = list.iter().copied();
                self.guard(register_based::run(&registers, &self.capabilities, list, self.timeout_ns))?;
            }
            _ => {}
        }
        self.made_up.fetch_max(makes_up_for, Ordering::AcqRel);
        Ok(())
    }

    fn patience(&self, for_devices: bool) -> u64 {
        if for_devices { self.device_timeout_ns } else { self.timeout_ns }
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
        let wait = || queue.wait_for_room(&self.registers(hal), Flush::EVERYTHING, timeout_ns);
        self.guard(self.timed(hal, wait))
    }

    /// Both in one go.
    pub(crate) fn flush(&self, hal: &impl Hal, flush: &Flush) -> Result<(), UnitError> {
        let begun = self.begin(hal, flush)?;
        self.finish(hal, begun)
    }

    /// The context table of a bus, if there is one.
    fn context_table(&self, hal: &impl Hal, bus: u8) -> Option<Frames> {
        let base = root_entry::context_table(self.root.as_ref()?.load(hal, root_entry::word(bus)))?;
        // SAFETY: the root entry leads to a context table of ours, which is not freed before the root table.
        Some(unsafe { Frames::at(hal, base) })
    }

    /// True if no function of a bus has a context entry yet.
    pub(crate) fn lacks_context_table(&self, hal: &impl Hal, bus: u8) -> bool {
        self.context_table(hal, bus).is_none()
    }

    /// Makes sure that a bus has a context table, out of `spare` if it has none.
    fn ensure_context_table(&self, hal: &impl Hal, bus: u8, spare: &mut FrameList) {
        let Some(root) = self.root.as_ref().filter(|_| self.lacks_context_table(hal, bus)) else { return };
        if let Some(table) = spare.pop(hal).map(Frames::from) {
            self.publish_table(hal, &table);
            let word = root_entry::word(bus);
            root.store(hal, word, root_entry::present(table.base()));
            self.written(hal, root, word, 1);
            self.root_changed.store(true, Ordering::Relaxed);
        }
    }

    /// Has the requests of these requesters translated, which were blocked until now (R35). They are once `flush` is done.
    /// Those that are muted stay so.
    /// `spare` has a frame for each bus that [lacks a context table](Self::lacks_context_table).
    ///
    /// Then, if `to` has a device-TLB, ATS may be switched on in the device (R47).
    pub(crate) fn admit(
        &self,
        hal: &impl Hal,
        requesters: &[u16],
        to: Translation,
        spare: &mut FrameList,
        flush: &mut Flush,
    ) {
        let entry = ContextEntry::second_stage(to.root, to.levels, to.domain_id, to.device_tlb);
        for &requester in requesters {
            self.ensure_context_table(hal, (requester >> 8) as u8, spare);
            self.for_entry(hal, requester, |table, word| {
                table.store(hal, word + 1, entry.upper);
                hal.fence();
                table.store(hal, word, entry.lower | table.load(hal, word) & FPD);
            });
        }
        let root_entry = self.root_changed.swap(false, Ordering::Relaxed);
        flush.context_set(&self.capabilities, requesters, to.domain_id, root_entry);
    }

    /// Blocks the requests of these requesters, whose entries have this domain-id. Once `flush` is done, none is under way
    /// and nothing of the domain is cached for them; [`forget`](Self::forget) comes then. May be repeated.
    ///
    /// Before, ATS was switched off in a device with a `device_tlb`, and that was emptied (R47). It is once more, since the
    /// unit let the device ask until now.
    pub(crate) fn expel(
        &self,
        hal: &impl Hal,
        requesters: &[u16],
        domain_id: u16,
        device_tlb: Option<DeviceTlb>,
        flush: &mut Flush,
    ) {
        for &requester in requesters {
            self.for_entry(hal, requester, |table, word| table.store(hal, word, table.load(hal, word) & FPD));
        }
        flush.context_cleared(requesters, domain_id, device_tlb);
    }

    /// Clears what is left of the entries of requesters that were expelled. The unit need not see that at once; with the
    /// next `flush` it does.
    pub(crate) fn forget(&self, hal: &impl Hal, requesters: &[u16], flush: &mut Flush) {
        for &requester in requesters {
            self.for_entry(hal, requester, |table, word| table.store(hal, word + 1, 0));
        }
        flush.not_cached(&self.capabilities);
    }

    /// Edits a context entry, given its table and the index of its lower half, and makes the edit visible.
    fn for_entry(&self, hal: &impl Hal, requester: u16, edit: impl FnOnce(&Frames, usize)) {
        if let Some(table) = self.context_table(hal, (requester >> 8) as u8) {
            let word = context_entry::word(requester as u8);
            edit(&table, word);
            self.written(hal, &table, word, 2);
        }
    }

    /// Where its root table is, if it has one.
    pub(crate) fn root(&self) -> Option<PhysAddr> {
        self.root.as_ref().map(Frames::base)
    }

    /// Sum of the addresses of its root and context tables, modulo 2^64.
    pub(crate) fn table_sum(&self) -> u64 {
        self.tables.load(Ordering::Relaxed)
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
            frames: self.frames.load(Ordering::Relaxed) + self.queue().map_or(0, Queue::frames),
        }
    }
}
