use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spin::Mutex;
use tock_registers::interfaces::{Readable, Writeable};

use super::command::{Command, wait_until};
use super::context_entry::{self, ContextEntry};
use super::descriptor::Descriptor;
use super::queue::{Queue, Ticket};
use super::registers::{FSTS, GSTS, PMEN, RTADDR, Registers};
use super::{Capabilities, Destination, Fault, FaultLog, Flush, fault, fault_event, root_entry};
use crate::addr::PhysAddr;
use crate::error::UnitError;
use crate::hal::{Frames, Hal, WORDS, Window};

/// Where the requests of a function go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// The top of the page table.
    pub root: PhysAddr,
    /// Its levels.
    pub levels: u8,
    /// Its domain-id, used for no other table on this unit (R38).
    pub domain_id: u16,
}

/// Counts of one unit since it was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitCounts {
    pub descriptors: u64,
    pub waits: u64,
    pub doorbells: u64,
    pub frames: u32,
}

/// One remapping unit. Its tables are changed by one caller at a time; the front's lock sees to that.
#[derive(Debug)]
pub(crate) struct Unit {
    window: Window,
    segment: u16,
    capabilities: Capabilities,
    timeout_ns: u64,
    /// Both from the moment when the unit was first told of them, for good.
    queue: Option<Queue>,
    root: Option<Frames>,
    /// A command or an invalidation was not confirmed: what the unit has cached is not known any more.
    failed: AtomicBool,
    /// An entry of the root table became present that was not flushed yet, or a flush was refused: the next entry that
    /// becomes present asks for everything.
    root_changed: AtomicBool,
    frames: AtomicU32,
    reader: Mutex<()>,
}

impl Unit {
    /// Looks at a unit and changes nothing.
    pub(crate) fn probe(hal: &impl Hal, window: Window, segment: u16, timeout_ns: u64) -> Result<Self, UnitError> {
        let capabilities = Capabilities::read(&Registers { hal, window })?;
        Ok(Self {
            window,
            segment,
            capabilities,
            timeout_ns,
            queue: None,
            root: None,
            failed: AtomicBool::new(false),
            root_changed: AtomicBool::new(false),
            frames: AtomicU32::new(0),
            reader: Mutex::new(()),
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

    fn registers<'h, H: Hal>(&self, hal: &'h H) -> Registers<'h, H> {
        Registers { hal, window: self.window }
    }

    /// Notes if the unit does not answer any more: from then on it takes no change. A descriptor that it refused does no
    /// harm to others.
    fn guard<T>(&self, result: Result<T, UnitError>) -> Result<T, UnitError> {
        match &result {
            Ok(_) => {}
            Err(UnitError::Queue { bit: "IQE", .. }) => self.root_changed.store(true, Ordering::Relaxed),
            Err(_) => self.failed.store(true, Ordering::Relaxed),
        }
        result
    }

    fn check_alive(&self) -> Result<(), UnitError> {
        if self.failed.load(Ordering::Relaxed) { Err(UnitError::Failed { unit: self.window }) } else { Ok(()) }
    }

    fn command(&self, hal: &impl Hal, command: Command) -> Result<(), UnitError> {
        self.guard(command.run(&self.registers(hal), self.timeout_ns))
    }

    /// Fails if the unit cannot do what the driver needs. Touches nothing.
    pub(crate) fn check_usable(&self) -> Result<(), UnitError> {
        let unit = self.window;
        if !self.capabilities.queued_invalidation {
            let (bit, missing) = ("QI", "invalidation queue");
            return Err(UnitError::Unsupported { unit, register: "ECAP_REG", bit, missing });
        }
        if self.capabilities.shape(u8::MAX).is_none() {
            let (bit, missing) = ("SAGAW", "address width, so DMA cannot be remapped");
            return Err(UnitError::Unsupported { unit, register: "CAP_REG", bit, missing });
        }
        Ok(())
    }

    /// Switches the queue on, after what firmware may have left was switched off and cleared (R14, R16, R69).
    ///
    /// All units go through this before any goes through [`start_translation`](Self::start_translation) (R11).
    pub(crate) fn start_queue(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.check_alive()?;
        self.check_usable()?;
        let registers = self.registers(hal);
        if registers.gsts().is_set(GSTS::TES) {
            self.command(hal, Command::TRANSLATION_OFF)?;
        }
        if registers.gsts().is_set(GSTS::QIES) {
            self.guard(Queue::stop_foreign(&registers, self.timeout_ns))?;
        }
        // Only what is set: the other bits may be reserved on this unit (S 11.4.7.1).
        let errors = (FSTS::IQE::SET + FSTS::ICE::SET + FSTS::ITE::SET).mask();
        registers.fsts().set(registers.fsts().get() & errors);
        self.read_faults(hal, &mut FaultLog::default(), |_| ());
        let queue = match self.queue.take() {
            Some(queue) => queue,
            None => Queue::new(hal).map_err(UnitError::no_frame(self.window))?,
        };
        let started = queue.start(&registers, self.timeout_ns);
        self.queue = Some(queue);
        self.guard(started)
    }

    /// Gives the unit an empty root table and switches translation on: from then on every request is blocked (R7, R8,
    /// R10, R12).
    pub(crate) fn start_translation(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.check_alive()?;
        let registers = self.registers(hal);
        let root = match self.root.take() {
            Some(root) => root,
            None => self.new_table(hal)?,
        };
        let base = root.base();
        self.root = Some(root);
        self.flush_write_buffer(hal, self.capabilities.write_buffer_flush)?;
        registers.rtaddr().write(RTADDR::RTA.val(base.as_u64() >> 12));
        self.command(hal, Command::SET_ROOT_TABLE)?;
        let mut flush = Flush::default();
        flush.root_pointer_set(&self.capabilities);
        self.flush(hal, &flush)?;
        self.command(hal, Command::TRANSLATION_ON)?;
        if self.capabilities.protected_memory && registers.pmen().is_set(PMEN::PRS) {
            registers.pmen().set(registers.pmen().get() & !PMEN::EPM::SET.mask());
            let off = || !registers.pmen().is_set(PMEN::PRS);
            self.guard(wait_until(&registers, self.timeout_ns, "PMEN_REG", "PRS", off))?;
        }
        Ok(())
    }

    /// A root or context table in which nothing is present, as the unit sees it.
    fn new_table(&self, hal: &impl Hal) -> Result<Frames, UnitError> {
        let table = Frames::allocate(hal, 0).map_err(UnitError::no_frame(self.window))?;
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.written(hal, &table, 0, WORDS);
        Ok(table)
    }

    /// Writes part of a table back, where the unit does not snoop (R37), and orders it before what follows.
    fn written(&self, hal: &impl Hal, table: &Frames, word: usize, words: usize) {
        if !self.capabilities.coherent {
            table.write_back(hal, word, words);
        }
        hal.fence();
    }

    fn flush_write_buffer(&self, hal: &impl Hal, needed: bool) -> Result<(), UnitError> {
        if needed { self.command(hal, Command::FLUSH_WRITE_BUFFER) } else { Ok(()) }
    }

    /// Has the unit begin what `flush` lists; nothing to wait for if `None`.
    ///
    /// # Errors
    ///
    /// The unit did not take it in time. It is out of service then.
    pub(crate) fn begin(&self, hal: &impl Hal, flush: &Flush) -> Result<Option<Ticket>, UnitError> {
        self.check_alive()?;
        self.flush_write_buffer(hal, flush.write_buffer())?;
        if flush.is_empty() {
            return Ok(None);
        }
        let queue = self.queue.as_ref().ok_or(UnitError::Failed { unit: self.window })?;
        let list = flush.list(&self.capabilities);
        let batch = list.iter().map(|invalidation| Descriptor::of(invalidation, &self.capabilities));
        self.guard(queue.begin(&self.registers(hal), batch, self.timeout_ns)).map(Some)
    }

    /// Waits for what was begun.
    ///
    /// # Errors
    ///
    /// The unit refused part of it, which is then not known to be done; or it did not confirm in time, and is out of
    /// service.
    pub(crate) fn finish(&self, hal: &impl Hal, ticket: Option<Ticket>) -> Result<(), UnitError> {
        let (Some(ticket), Some(queue)) = (ticket, &self.queue) else { return Ok(()) };
        self.guard(queue.finish(&self.registers(hal), ticket, self.timeout_ns))
    }

    /// Both in one go.
    pub(crate) fn flush(&self, hal: &impl Hal, flush: &Flush) -> Result<(), UnitError> {
        let ticket = self.begin(hal, flush)?;
        self.finish(hal, ticket)
    }

    /// The context table of a bus, if there is one.
    fn context_table(&self, hal: &impl Hal, bus: u8) -> Option<Frames> {
        let base = root_entry::context_table(self.root.as_ref()?.load(hal, root_entry::word(bus)))?;
        // SAFETY: the root entry leads to a context table of ours, and those are never freed.
        Some(unsafe { Frames::at(hal, base) })
    }

    /// Makes sure that a bus has a context table.
    fn ensure_context_table(&self, hal: &impl Hal, bus: u8) -> Result<(), UnitError> {
        let root = self.root.as_ref().ok_or(UnitError::Failed { unit: self.window })?;
        if self.context_table(hal, bus).is_none() {
            let table = self.new_table(hal)?;
            let word = root_entry::word(bus);
            root.store(hal, word, root_entry::present(table.base()));
            self.written(hal, root, word, 1);
            self.root_changed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes sure that these requesters have context entries, none of them present.
    ///
    /// # Errors
    ///
    /// No frame, or the unit failed before. The requesters are blocked as before.
    pub(crate) fn prepare(&self, hal: &impl Hal, requesters: &[u16]) -> Result<(), UnitError> {
        self.check_alive()?;
        requesters.iter().try_for_each(|requester| self.ensure_context_table(hal, (requester >> 8) as u8))
    }

    /// Has the requests of these requesters translated, which were blocked until now (R35), and which were
    /// [prepared](Self::prepare) for it. They are once `flush` is done.
    pub(crate) fn admit(&self, hal: &impl Hal, requesters: &[u16], to: Translation, flush: &mut Flush) {
        let entry = ContextEntry::second_stage(to.root, to.levels, to.domain_id);
        for &requester in requesters {
            self.for_entry(hal, requester, |table, word| {
                table.store(hal, word + 1, entry.upper);
                hal.fence();
                table.store(hal, word, entry.lower);
            });
        }
        let root_entry = self.root_changed.swap(false, Ordering::Relaxed);
        flush.context_set(&self.capabilities, requesters, to.domain_id, root_entry);
    }

    /// Blocks the requests of these requesters, whose entries have this domain-id. Once `flush` is done, none is under way
    /// and nothing of the domain is cached for them; [`forget`](Self::forget) comes then. May be repeated.
    pub(crate) fn expel(&self, hal: &impl Hal, requesters: &[u16], domain_id: u16, flush: &mut Flush) {
        self.store_entries(hal, requesters, 0);
        flush.context_cleared(requesters, domain_id);
    }

    /// Clears what is left of the entries of requesters that were expelled.
    ///
    /// # Errors
    ///
    /// The unit failed. The requesters are blocked all the same.
    pub(crate) fn forget(&self, hal: &impl Hal, requesters: &[u16]) -> Result<(), UnitError> {
        self.store_entries(hal, requesters, 1);
        self.flush_write_buffer(hal, self.capabilities.write_buffer_flush)
    }

    /// Clears the lower (0) or upper (1) halves of the requesters' entries.
    fn store_entries(&self, hal: &impl Hal, requesters: &[u16], half: usize) {
        for &requester in requesters {
            self.for_entry(hal, requester, |table, word| table.store(hal, word + half, 0));
        }
    }

    /// Edits a context entry, given its table and the index of its lower half, and makes the edit visible.
    fn for_entry(&self, hal: &impl Hal, requester: u16, edit: impl FnOnce(&Frames, usize)) {
        if let Some(table) = self.context_table(hal, (requester >> 8) as u8) {
            let word = context_entry::word(requester as u8);
            edit(&table, word);
            self.written(hal, &table, word, 2);
        }
    }

    /// Reads and clears the pending fault records. Takes no lock that a change holds; if another CPU, or what an NMI
    /// interrupted, is reading already, it leaves them to it.
    pub(crate) fn read_faults(&self, hal: &impl Hal, log: &mut FaultLog, each: impl FnMut(Fault)) {
        match self.reader.try_lock() {
            Some(_reading) => fault::drain(&self.registers(hal), self.segment, &self.capabilities, log, each),
            None => log.busy = true,
        }
    }

    /// Has the unit send its fault event there, or none.
    pub(crate) fn set_fault_event(&self, hal: &impl Hal, to: Option<Destination>) -> Result<(), UnitError> {
        fault_event::set(&self.registers(hal), &self.capabilities, to)
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> UnitCounts {
        let counts = self.queue.as_ref().map(Queue::counts).unwrap_or_default();
        UnitCounts {
            descriptors: counts.descriptors,
            waits: counts.waits,
            doorbells: counts.doorbells,
            frames: self.frames.load(Ordering::Relaxed) + if self.queue.is_some() { Queue::FRAMES } else { 0 },
        }
    }
}
