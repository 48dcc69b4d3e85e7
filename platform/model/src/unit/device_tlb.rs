//! Translation requests, translated requests, and the invalidation of what devices cache (sections 4.2, 4.3, 6.5.2.5).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, Rights, SourceId};

use super::entry::ContextEntry;
use super::entry::Translation;
use super::faults::{Fault, Reason, status};
use super::{Board, Descriptor, Unit, global};
use crate::devices::tlb::{Answer, Ats, Cached, GIVES_UP_NS};

/// An invalidation that a device has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outstanding {
    source: u16,
    first: u64,
    last: u64,
    pub(super) due: u64,
    answered: bool,
}

impl Unit {
    fn device(&self, source: u16) -> SourceId {
        SourceId::from_requester(self.scope.segment, source)
    }

    /// True if a context entry lets requests of a device-TLB through.
    fn allows(&self, entry: ContextEntry) -> bool {
        entry.present() && entry.translation(&self.capability) == Some(Translation::DeviceTlb)
    }

    /// R47 (section 4.5.1): a device's ATS was switched on.
    pub(crate) fn check_ats_on(&self, source: SourceId, board: &mut Board) {
        let cached = self.stale.contexts.get(&source.requester()).copied().map(Option::unwrap_or_default);
        let entry = cached.unwrap_or_else(|| self.current(source.requester(), board));
        if !self.global.on(global::TE) || !self.allows(entry) {
            let text = format_args!("{source}: ATS is switched on, and its context entry does not allow it");
            board.journal.violation("R47", text);
        }
    }

    /// R49: a function is reset. A context entry that is cached lets its requests through as well.
    pub(crate) fn check_reset(&self, source: SourceId, board: &mut Board) {
        let cached = self.stale.contexts.get(&source.requester()).copied().map(Option::unwrap_or_default);
        let entry = cached.unwrap_or_else(|| self.current(source.requester(), board));
        let on = board.devices.of(source).tlb.ats == Some(Ats::On);
        if self.global.on(global::TE) && (entry.present() || on) {
            let left = if on { "ATS is on" } else { "its context entry lets it through" };
            board.journal.violation("R49", format_args!("{source} is reset while {left}"));
        }
    }

    /// R47 (section 4.5.2): a context entry changes.
    pub(super) fn check_ats_off(&self, source: u16, old: ContextEntry, new: ContextEntry, board: &mut Board) {
        let source = self.device(source);
        // A unit with a defect may not have done what it was asked to before, and blocking comes first.
        if !self.allows(old) || self.allows(new) || self.defects.ever {
            return;
        }
        let device = &board.devices.of(source).tlb;
        let left = match device.ats {
            Some(Ats::On) => "ATS is switched off",
            Some(Ats::Off) if !device.silent => "its device-TLB is emptied",
            Some(_) | None => return,
        };
        let text = format_args!("{source}: its context entry blocks it before {left}");
        board.journal.violation("R47", text);
    }

    /// True if the context entry of a source lets requests of its device-TLB through.
    fn trusts(&self, source: SourceId, board: &Board) -> Result<bool, Reason> {
        let cached = self.stale.contexts.get(&source.requester());
        let entry = match cached {
            Some(entry) => entry.unwrap_or_default(),
            None => self.context(source.requester(), board)?,
        };
        if !entry.present() {
            return Err(Reason::ContextNotPresent);
        }
        Ok(self.allows(entry))
    }

    /// A translation request for one page. `None` if the device may do nothing with it, which is no fault.
    fn translation_request(&self, source: SourceId, address: u64, board: &Board) -> Result<Option<Cached>, Reason> {
        if !self.global.on(global::TE) || !self.trusts(source, board)? {
            return Err(Reason::TranslatedBlocked);
        }
        let page = address & !0xfff;
        let mut cached = Cached { page, output: 0, rights: Rights::empty() };
        for (write, right) in [(false, Rights::READ), (true, Rights::WRITE)] {
            match self.translate(source, page, write, board) {
                Ok(output) => {
                    cached.output = output;
                    cached.rights |= right;
                }
                Err((Reason::NotReadable | Reason::NotWritable | Reason::BeyondWidth, _)) => {}
                Err((reason, _)) => return Err(reason),
            }
        }
        Ok((!cached.rights.is_empty()).then_some(cached))
    }

    /// A request that carries a physical address.
    fn translated_request(&self, source: SourceId, board: &Board) -> Result<(), Reason> {
        match self.trusts(source, board)? && self.global.on(global::TE) {
            true => Ok(()),
            false => Err(Reason::TranslatedBlocked),
        }
    }

    /// A request of a device with a device-TLB: with the address that it has cached, or with one that it asks for now.
    pub(crate) fn translated(
        &mut self,
        source: SourceId,
        address: u64,
        write: bool,
        cached: Option<u64>,
        board: &mut Board,
    ) -> Result<u64, Fault> {
        let right = if write { Rights::WRITE } else { Rights::READ };
        let fault = |reason| Fault { source, address: Iova::new(address), write, reason };
        let translation = match cached {
            Some(output) => Ok(Some(output)),
            None => self.translation_request(source, address, board).map(|answer| {
                let answer = answer?;
                board.devices.of(source).tlb.cached.push(answer);
                answer.rights.contains(right).then_some(answer.output | address & 0xfff)
            }),
        };
        let output = match translation {
            Ok(Some(output)) => self.translated_request(source, board).map(|()| output),
            // The device knows that it may not; the unit has nothing to record.
            Ok(None) if write => return Err(fault(Reason::NotWritable)),
            Ok(None) => return Err(fault(Reason::NotReadable)),
            Err(reason) => Err(reason),
        };
        output.map_err(|reason| {
            let fault = fault(reason);
            self.faults.record(&fault, address, &mut board.journal);
            fault
        })
    }

    /// R23, when a descriptor is fetched. What is behind a wait may begin before that is done (section 6.5.2.12), unless the
    /// wait is a fence.
    pub(super) fn check_depth(&self, source: u16, board: &mut Board) {
        let depth = board.devices.of(self.device(source)).tlb.queue_depth;
        let is_fence = |other: &Descriptor| matches!(other, Descriptor::Wait { fence: true, .. });
        let in_flight = || self.queue.in_flight.iter().map(|(_, other)| other).rev();
        let fetched = in_flight().take_while(|other| !is_fence(other));
        let fetched = fetched.filter(|other| matches!(other, Descriptor::DeviceTlb { source: s, .. } if *s == source));
        let sent = self.outstanding.iter().filter(|other| other.source == source).count();
        let waiting = if in_flight().any(is_fence) { 0 } else { sent };
        if waiting + fetched.count() >= depth {
            let text = format_args!("more than {depth} device-TLB invalidations of {} wait", self.device(source));
            board.journal.violation("R23", text);
        }
    }

    /// R24: a device may ask again at once, so nothing stale may be left to answer with.
    fn check_device_tlb(&self, source: u16, first: u64, last: u64, board: &mut Board) {
        if !self.global.on(global::TE) {
            return board.journal.violation("R24", "a device-TLB invalidation while translation is off");
        }
        // One that was refused is left out, and what comes behind it in its batch is not.
        if self.defects.ever {
            return;
        }
        let domain = self.current(source, board).domain();
        let leaves = self.stale.leaves.get(&domain).into_iter().flatten();
        let stale = self.stale.contexts.contains_key(&source)
            || self.stale.residues.iter().any(|residue| residue.source == source)
            || self.stale.tables.values().any(|table| table.touches(domain, first, last))
            || leaves.into_iter().any(|(start, leaf)| *start <= last && leaf.last >= first);
        if stale {
            board.journal.violation("R24", "a device-TLB invalidation before that of the IOTLB");
        }
    }

    pub(super) fn next_answer(&self) -> Option<u64> {
        self.outstanding.iter().map(|outstanding| outstanding.due).min()
    }

    /// Sends the invalidation to the device.
    pub(super) fn send(&mut self, source: u16, first: u64, last: u64, now: u64, board: &mut Board) {
        self.check_device_tlb(source, first, last, board);
        let answer = board.devices.of(self.device(source)).tlb.answer;
        let (delay, answered) = match answer {
            Answer::After(ns) => (ns, true),
            Answer::Twice => (0, true),
            Answer::Never => (GIVES_UP_NS, false),
        };
        if answer == Answer::Twice {
            self.faults.queue_error = self.faults.queue_error & 0xffff_ffff_ffff | u64::from(source) << 48;
            self.faults.error(status::COMPLETION_ERROR, &mut board.journal);
        }
        self.outstanding.push(Outstanding { source, first, last, due: now + delay, answered });
    }

    /// The answers that are due, and the devices that are given up on.
    pub(super) fn receive(&mut self, now: u64, board: &mut Board) {
        let due: Vec<Outstanding> = self.outstanding.iter().copied().filter(|other| other.due <= now).collect();
        self.outstanding.retain(|other| other.due > now);
        for Outstanding { source, first, last, answered, .. } in due {
            let device = &mut board.devices.of(self.device(source)).tlb;
            device.silent = !answered;
            if (first, last) == (0, u64::MAX) && answered {
                device.emptied();
            }
            if answered {
                device.invalidate(first, last);
                continue;
            }
            // Section 6.5.2.11: waits are dropped, and nothing behind the oldest such invalidation is guaranteed.
            self.faults.queue_error = self.faults.queue_error & !(0xffff << 32) | u64::from(source) << 32;
            self.faults.error(status::TIME_OUT, &mut board.journal);
            self.outstanding.clear();
            self.queue.in_flight.clear();
            self.queue.fetch_at = None;
            return;
        }
    }

    /// R31 and R33 for what devices have cached.
    pub(super) fn settle_devices(&self, board: &mut Board) {
        let mut found = Vec::new();
        for (source, function) in board.devices.all().filter(|(source, _)| self.scope.serves(*source)) {
            let entry = self.current(source.requester(), board);
            let (device, trusted) = (&function.tlb, self.allows(entry));
            for cached in &device.cached {
                let page = cached.page;
                // What a device has that does not answer is of no use to it once it is blocked.
                if !trusted && device.silent {
                    continue;
                }
                if !trusted {
                    found.push(("R33", format!("{source}: its device-TLB still has {page:#x}, and it is not trusted")));
                    continue;
                }
                let (now, level, rights) = self.memory_says(entry.domain(), page, board);
                let bytes = super::entry::page_bytes(level) - 1;
                let output = now.map(|now| now.address() & !bytes | page & bytes);
                if output != Some(cached.output) || u64::from(cached.rights.bits()) & !rights != 0 {
                    found.push(("R31", format!("{source}: its device-TLB still has an old translation of {page:#x}")));
                }
            }
        }
        found.into_iter().for_each(|(rule, what)| board.journal.violation(rule, what));
    }
}
