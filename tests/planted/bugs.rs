//! The bugs. The first were seen in other drivers each; those behind them are what a tired author of this one would write.

/// One bug, and the rule that it breaks.
pub(crate) struct Bug {
    pub(crate) what: &'static str,
    pub(crate) rule: &'static str,
    /// No hardware is mistreated: only what the tests assert tells.
    pub(crate) by_assertion: bool,
    pub(crate) file: &'static str,
    /// The right code, which is there once.
    pub(crate) code: &'static str,
    pub(crate) bug: &'static str,
}

impl Bug {
    /// The text of its file with the bug; `None` if the right code is not there once.
    pub(crate) fn planted_in(&self, text: &str) -> Option<String> {
        (text.matches(self.code).count() == 1).then(|| text.replacen(self.code, self.bug, 1))
    }
}

const fn bug(what: &'static str, rule: &'static str, file: &'static str, code: &'static str, bug: &'static str) -> Bug {
    Bug { what, rule, by_assertion: false, file, code, bug }
}

/// No hardware is mistreated: what the tests assert finds it.
const fn by_assertion(
    what: &'static str,
    rule: &'static str,
    file: &'static str,
    code: &'static str,
    bug: &'static str,
) -> Bug {
    Bug { what, rule, by_assertion: true, file, code, bug }
}

pub(crate) const BUGS: &[Bug] = &[
    bug(
        "the half of a context entry with P is written first",
        "R35",
        "src/vtd/tables/legacy/context_entry.rs",
        "table.store(hal, word + 1, self.upper);
        hal.fence();
        table.store(hal, word, self.lower | table.load(hal, word) & FPD);",
        "table.store(hal, word, self.lower | table.load(hal, word) & FPD);
        hal.fence();
        table.store(hal, word + 1, self.upper);",
    ),
    bug(
        "the upper half of a context entry is cleared while P stays 1",
        "R35",
        "src/vtd/tables/legacy/context_entry.rs",
        "table.store(hal, word, table.load(hal, word) & FPD);",
        "table.store(hal, word + 1, 0);",
    ),
    bug("one-shot bits are carried into GCMD", "R1", "src/vtd/command.rs", "0x96ff_ffff", "0xffff_ffff"),
    bug("two bits of GCMD change in one write", "R1", "src/vtd/command.rs", "0x96ff_ffff", "0x92ff_ffff"),
    bug("page sizes are not asked for", "R41", "src/vtd/capabilities.rs", "0b00 | 0b10 => 1,", "0b00 | 0b10 => 2,"),
    bug(
        "domain-ids are as wide as the field",
        "R39",
        "src/vtd/capabilities.rs",
        "domain_ids: 1 << (4 + 2 * cap.read(CAP::ND)),",
        "domain_ids: 1 << (16 + 0 * cap.read(CAP::ND)),",
    ),
    bug(
        "F of a fault record is \"cleared\" by writing 0",
        "R62",
        "src/vtd/faults/record.rs",
        "top.set(F);",
        "top.set(0);",
    ),
    Bug {
        by_assertion: true,
        ..bug(
            "the overflow of fault records is \"cleared\" by writing 0",
            "R62",
            "src/vtd/faults/record.rs",
            "registers.fsts().write(FSTS::PFO::SET);",
            "registers.fsts().write(FSTS::PFO::CLEAR);",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "clearing the overflow clears the queue's errors, too",
            "R63",
            "src/vtd/faults/record.rs",
            "registers.fsts().write(FSTS::PFO::SET);",
            "registers.fsts().write(FSTS::PFO::SET + FSTS::IQE::SET);",
        )
    },
    bug(
        "the fault event is unmasked before it has an address",
        "R64b",
        "src/vtd/faults/event.rs",
        "let Some(Message { address, data }) = to else { return Ok(()) };",
        "let Some(Message { address, data }) = to else { return Ok(()) };
    registers.fectl().set(kept);",
    ),
    Bug {
        by_assertion: true,
        ..bug(
            "the test of F is inverted",
            "R62",
            "src/vtd/faults/record.rs",
            "if top_value & F == 0 {",
            "if top_value & F != 0 {",
        )
    },
    bug(
        "no invalidation between SRTP and TE",
        "R8",
        "src/vtd/bring_up.rs",
        "if self.capabilities.root_pointer_invalidates { Ok(()) } else",
        "if !self.capabilities.root_pointer_invalidates { Ok(()) } else",
    ),
    bug(
        "of a fresh table only the entries that are set are written back",
        "R37",
        "src/vtd/tables.rs",
        "self.written(hal, table, 0, WORDS);",
        "self.written(hal, table, 0, 0);",
    ),
    bug(
        "a fresh page table is written back without a fence",
        "R37",
        "src/paging/map.rs",
        "if !above.fresh {
                        self.settle(hal);",
        "if above.fresh {
                        self.settle(hal);",
    ),
    bug(
        "domain-id 0 is used, with caching mode, too",
        "R38",
        "src/vtd/tables.rs",
        "ContextEntry::second_stage(root, levels, to.domain.get(), to.device_tlb);",
        "ContextEntry::second_stage(root, levels, to.domain.get() - 1, to.device_tlb);",
    ),
    bug(
        "no flush from not present to present with caching mode",
        "R29",
        "src/invalidation/request.rs",
        "if !change.was_present && !unit.caches_absent {",
        "if !change.was_present {",
    ),
    bug(
        "a new context entry is flushed with its own domain-id with caching mode",
        "R33b",
        "src/invalidation/request.rs",
        "self.entries(requesters, 0, tag(domain))",
        "self.entries(requesters, tag(domain), tag(domain))",
    ),
    bug(
        "a context entry is cleared without a flush",
        "R33",
        "src/vtd/tables.rs",
        "flush.entry_cleared(requesters, from, device_tlb);",
        "let _ = (flush, from, device_tlb);",
    ),
    bug(
        "invalidation with another domain-id than the device's",
        "R33",
        "src/invalidation/request.rs",
        "self.entries(requesters, tag(domain), tag(domain))",
        "self.entries(requesters, tag(domain) ^ 1, tag(domain) ^ 1)",
    ),
    bug(
        "a context table is freed before the flush",
        "R31",
        "src/vtd/tables.rs",
        "flush.entry_cleared(requesters, from, device_tlb);",
        "for bus in requesters.iter().map(|requester| requester.bus()) {
            let table = self.context_table(hal, bus);
            let is_empty = |table: &Frames| (0..256).all(|entry| table.load(hal, 2 * entry) & 1 == 0);
            if let Some(table) = table.filter(is_empty) {
                self.root.store(hal, root_entry::word(bus), 0);
                self.written(hal, &self.root, root_entry::word(bus), 1);
                // SAFETY: none, that is the bug.
                unsafe { table.free(hal) };
            }
        }
        flush.entry_cleared(requesters, from, device_tlb);",
    ),
    bug(
        "page-table frames are freed before the flush",
        "R31",
        "src/domain/table.rs",
        "of_format!(table in self => table.unmap(hal, range, prealloc))",
        "let change = of_format!(table in self => table.unmap(hal, range, prealloc));
        // SAFETY: none, that is the bug.
        unsafe { self.free_unlinked(hal) };
        change",
    ),
    bug(
        "memory is granted before the flush of what was revoked",
        "R31",
        "src/iommu/transaction.rs",
        "change.flush(); // and its unit has confirmed that nothing gets through;",
        "",
    ),
    bug(
        "unlinked tables are freed although a unit is out of service",
        "R31",
        "src/iommu/transaction/settle.rs",
        "device.uses(domain)).all(|unit| unit.has_confirmed_all(hal))",
        "device.uses(domain)).all(|unit| !unit.needs_full_flush())",
    ),
    bug(
        "unmap without an IOTLB invalidation",
        "R31",
        "src/invalidation/request.rs",
        "if !change.was_present && !unit.caches_absent {",
        "if !unit.caches_absent {",
    ),
    bug(
        "a table is replaced with IH = 1",
        "R28",
        "src/invalidation/request.rs",
        "leaves_only: !change.tables,",
        "leaves_only: true,",
    ),
    bug(
        "an unaligned range computes too small a mask",
        "R31",
        "src/invalidation/blocks.rs",
        "(first ^ last).leading_zeros()",
        "(last - first).leading_zeros()",
    ),
    bug(
        "the IOTLB is flushed before the context-cache",
        "R24",
        "src/vtd/invalidation/list.rs",
        "=> self.add_pages(unit, flush, domains, pages),",
        "=> {
                self.add_pages(unit, flush, domains, pages);
                self.all.reverse();
            }",
    ),
    bug(
        "drain bits are never set",
        "R25",
        "src/vtd/invalidation/descriptor.rs",
        "(unit.write_draining as u64) << 6 | (unit.read_draining as u64) << 7",
        "(unit.write_draining as u64 & unit.read_draining as u64) << 20",
    ),
    bug(
        "IQT is written past the ring",
        "R15",
        "src/vtd/invalidation/queue.rs",
        "state.tail.wrapping_add(state.skew) & self.mask;",
        "state.tail.wrapping_add(state.skew) & (self.mask * 2 + 1);",
    ),
    bug(
        "completion is taken from IQH = IQT",
        "R31",
        "src/vtd/invalidation/queue.rs",
        "let done = self.is_done(hal, &ticket);",
        "let done = registers.iqh().read(IQH::QH) == registers.iqt().read(IQT::QT);",
    ),
    bug(
        "a live queue of the firmware is reprogrammed while on",
        "R14",
        "src/vtd/bring_up.rs",
        "if status.is_set(GSTS::QIES) {",
        "if status.is_set(GSTS::QIES) && self.config.timeout_ns == 0 {",
    ),
    bug(
        "SNP is set where the unit has no snoop control",
        "R41",
        "src/iommu/device.rs",
        "unit.snoop_control && !self.topology",
        "!self.topology",
    ),
    bug(
        "write buffers are not flushed",
        "R10",
        "src/invalidation/request.rs",
        "self.write_buffer && !self.is_for_unit()",
        "self.write_buffer && self.is_for_unit()",
    ),
    bug(
        "protected memory is switched off before translation is on",
        "R12",
        "src/vtd/bring_up.rs",
        "self.set_root(hal, root)?;",
        "self.set_root(hal, root)?;
        protected::switch(&registers, false, self.config.timeout_ns)?;",
    ),
    bug(
        "a device is muted without a flush",
        "R33",
        "src/vtd/tables.rs",
        "Some(id) => flush.entry_cleared(&[requester], DomainId::new(id), None),",
        "Some(_) => {}",
    ),
    bug(
        "a unit that was never stopped has its tables freed",
        "R31",
        "src/vtd/stop.rs",
        "self.command(hal, Command::TRANSLATION_OFF)?;
        (self.blocking",
        "(self.blocking",
    ),
    by_assertion(
        "the fault event stays masked after sleep",
        "R69",
        "src/vtd/sleep.rs",
        "let set = event::set(&self.registers(hal), &self.capabilities, wanted);",
        "let set = event::set(&self.registers(hal), &self.capabilities, wanted.filter(|_| false));",
    ),
    by_assertion(
        "another device behind an id goes on as the one before sleep",
        "OWN",
        "src/iommu/sleep.rs",
        "if device.is_another(&self.hal) || gone && is_gone() {",
        "if false && device.is_another(&self.hal) || gone && is_gone() {",
    ),
    by_assertion(
        "a change begins while the machine sleeps",
        "R69",
        "src/iommu/transaction/claim.rs",
        "if self.asleep { Err(Asleep) } else { Ok(()) }",
        "Ok(())",
    ),
    by_assertion(
        "a former owner's queue begins at its first slot again",
        "R69",
        "src/vtd/former.rs",
        "registers.iqt().set(self.tail);
        let is_done",
        "let is_done",
    ),
    by_assertion(
        "the fault event of a former owner stays masked",
        "R69",
        "src/vtd/stop.rs",
        "former.events.give_back(&registers, &self.capabilities);",
        "",
    ),
    by_assertion(
        "a unit that translated by a former owner's table is left off",
        "R69",
        "src/vtd/stop.rs",
        "if translates {",
        "if false {",
    ),
    by_assertion(
        "a root table that was found set and unused is not set again",
        "R69",
        "src/vtd/stop.rs",
        "if was_set && registers.rtaddr().get() != root {",
        "if false && was_set && registers.rtaddr().get() != root {",
    ),
    by_assertion(
        "a table of interrupts that was found set and unused is not set again",
        "R69",
        "src/vtd/stop.rs",
        "if was_set && registers.irta().get() != pointer {",
        "if false && was_set && registers.irta().get() != pointer {",
    ),
    by_assertion(
        "a unit that goes by a former owner's table is said to be on",
        "R69",
        "src/vtd/stop.rs",
        "// What blocks from here on is not the driver's, whether the unit confirms it or not.
            (self.blocking, self.on) = (false, false);",
        "",
    ),
    by_assertion(
        "regions are protected again with the bounds that a reset left",
        "R69",
        "src/vtd/protected.rs",
        "registers.plmlimit().set(low_limit);",
        "",
    ),
    by_assertion(
        "another device in a place sends the interrupts of the former one",
        "OWN",
        "src/iommu/sleep.rs",
        "interrupts.cut(device, &mut |slot| unit.set_interrupt(&self.hal, slot, None, flush));",
        "",
    ),
    by_assertion(
        "a unit that somebody else has on is taken over without being asked for",
        "R69",
        "src/iommu/bring_up.rs",
        "if !self.options.take_over {",
        "if false {",
    ),
    bug(
        "a root table is set on a unit that firmware left on",
        "R69",
        "src/vtd/bring_up.rs",
        "self.found.gap = !covered;
            self.command(hal, Command::TRANSLATION_OFF)?;",
        "self.found.gap = !covered;",
    ),
    bug(
        "a context entry is cleared before ATS is switched off",
        "R47",
        "src/iommu/transaction/revoke.rs",
        "device.leaves(scope) || device.arrives(scope) && ats.is_on(&front.hal)",
        "device.arrives(scope) && ats.is_on(&front.hal)",
    ),
    bug(
        "ATS is switched on before the context entry allows it",
        "R47",
        "src/iommu/transaction/revoke.rs",
        "let Some(ats) = device.ats else { continue };",
        "let Some(ats) = device.ats else { continue };
            ats.switch(&front.hal, true);",
    ),
    bug(
        "device-TLBs are left out with caching mode",
        "R31",
        "src/invalidation/request.rs",
        "device_tlbs.filter(|_| was_present)",
        "device_tlbs.filter(|_| was_present && !unit.caches_absent)",
    ),
    bug(
        "a device-TLB is emptied before the IOTLB is",
        "R24",
        "src/vtd/unit.rs",
        "queue.submit(&self.registers(hal), unit, devices);",
        "{
                    let _ = queue.submit(&self.registers(hal), core::iter::empty(), devices);
                    queue.submit(&self.registers(hal), unit, core::iter::empty())
                };",
    ),
    bug(
        "after a time-out the other devices are not asked again",
        "R31",
        "src/iommu/transaction/flush.rs",
        "flushed.filter_map(Assignment::device_tlb)",
        "flushed.filter_map(Assignment::device_tlb).take(0)",
    ),
    bug(
        "all of a device-TLB is named with bit 63 set",
        "R34",
        "src/vtd/invalidation/descriptor.rs",
        "(self.device_tlb(device), 0x7fff_ffff_ffff_f001)",
        "(self.device_tlb(device), 0xffff_ffff_ffff_f001)",
    ),
    bug(
        "the physical function is named where it is reserved",
        "R25b",
        "src/vtd/invalidation/descriptor.rs",
        "if self.device_tlb_throttling { device.physical.get() as u64 } else { 0 }",
        "if self.device_tlb_throttling { 0 } else { device.physical.get() as u64 }",
    ),
    bug(
        "the size of a block in a device is coded as that of one half as large",
        "R31",
        "src/vtd/invalidation/descriptor.rs",
        "(mask as u32 + 11)",
        "(mask as u32 + 10)",
    ),
    Bug {
        by_assertion: true,
        ..bug(
            "NFR is taken as a count",
            "R62",
            "src/vtd/capabilities.rs",
            "cap.read(CAP::NFR) as u16 + 1",
            "(cap.read(CAP::NFR) as u16).max(1)",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "a device leaves the flush list before its entry is cleared",
            "R44",
            "src/iommu/transaction/retire.rs",
            "if !is_released(device, scope, &work.outcomes) {",
            "if false && !is_released(device, scope, &work.outcomes) {",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "a wait that gives up reports success",
            "R6",
            "src/vtd/command.rs",
            "if let Some(waited_ns) = passed {
            return Err(",
            "if passed.is_some() {
            return Ok(());
        }
        if let Some(waited_ns) = passed {
            return Err(",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "a device that leaves, comes and leaves in one change is forgotten",
            "R44",
            "src/iommu/transaction/plan.rs",
            "it.device == device && it.stay == Stay::Arriving);",
            "it.device == device);",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "of two devices that stay busy the first alone is quarantined",
            "R49",
            "src/iommu/transaction/revoke.rs",
            "outcomes.note_device(Error::NotIdle { device, register, bit: \"Transactions Pending\", waited_ns });
                continue;",
            "outcomes.note_device(Error::NotIdle { device, register, bit: \"Transactions Pending\", waited_ns });
                return;",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "old tables are freed when the first of their units is in service",
            "R31",
            "src/iommu/transaction/settle.rs",
            "device.uses(domain)).all(|unit| unit.has_confirmed_all(hal))",
            "device.uses(domain)).next().is_none_or(|unit| unit.has_confirmed_all(hal))",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "what two units may reach is free when the first has confirmed",
            "R31",
            "src/iommu/state/withholding.rs",
            "units.all(|unit| unit.has_confirmed_all(hal))",
            "units.next().is_none_or(|unit| unit.has_confirmed_all(hal))",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "roll_back forgets that a unit failed before it began",
            "R31",
            "src/iommu/transaction/roll_back.rs",
            "let failed_before = self.work.outcomes.any_unit_failed();",
            "let failed_before = false;",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "of a change that waits only the first cell is in the change",
            "OWN",
            "src/iommu/transaction/claim.rs",
            "self.config.cells.of(scope).for_each(|cell| cell.busy = true);",
            "self.config.cells.of(scope).take(1).for_each(|cell| cell.busy = true);",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "what a change that waits gives its cell is given to another",
            "OWN",
            "src/iommu/rules/outputs.rs",
            "filter(|_| is_in_scope || cell.busy);",
            "filter(|_| is_in_scope);",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "withheld memory of one cell alone is shared with another",
            "OWN",
            "src/iommu/rules/outputs.rs",
            "others.filter(|range| !(range.shared && claim.shared));",
            "others.filter(|range| !(range.shared || claim.shared));",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "the first reserved memory of a device alone is held against others'",
            "OWN",
            "src/iommu/rules/outputs.rs",
            "for memory in owners.reserved_of(device) {",
            "for memory in owners.reserved_of(device).take(1) {",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "of two windows that overlap one is forgotten",
            "OWN",
            "src/iommu/state/windows.rs",
            "other.range.contains(window.range);",
            "other.range.overlaps(window.range);",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "a domain is chosen whose id another cell has on that unit",
            "OWN",
            "src/iommu/transaction/provide.rs",
            "&& !config.is_used_on(unit, domain.id, cell_id)",
            "&& (true || !config.is_used_on(unit, domain.id, cell_id))",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "a repeated call takes the driver's own state for firmware's",
            "R69",
            "src/vtd/bring_up.rs",
            "if !self.met {",
            "if !self.met || true {",
        )
    },
    bug(
        "interrupts are remapped with what the unit had cached of another table",
        "R52",
        "src/vtd/bring_up.rs",
        "if self.capabilities.interrupt_pointer_invalidates {",
        "if true {",
    ),
    by_assertion(
        "interrupts in compatibility format are let through as they were before",
        "R53",
        "src/vtd/bring_up.rs",
        "is_set(GSTS::CFIS) {",
        "is_set(GSTS::CFIS) && false {",
    ),
    bug(
        "an interrupt that goes elsewhere is not invalidated",
        "R55",
        "src/vtd/interrupts/table.rs",
        "flush.interrupts_set(unit, SlotBlock { first: slot, order: 0 }, was_present);",
        "flush.interrupts_set(unit, SlotBlock { first: slot, order: 0 }, false);",
    ),
    bug(
        "an interrupt is taken from anybody",
        "R56",
        "src/vtd/interrupts/entry.rs",
        "1 << 18 | u64::from(free & 3) << 16",
        "u64::from(free & 3) << 16",
    ),
    bug(
        "an APIC id stands where x2APIC mode has it, in xAPIC mode",
        "R57",
        "src/vtd/interrupts/entry.rs",
        "u64::from(id & 0xff) << 40",
        "u64::from(id & 0xff) << 32",
    ),
    bug(
        "a level stands in a reserved bit",
        "R58",
        "src/vtd/interrupts/entry.rs",
        "u64::from(route.trigger == Trigger::Level) << 4",
        "u64::from(route.trigger == Trigger::Level) << 12",
    ),
    bug(
        "the halves of an interrupt's entry are stored one by one",
        "R54",
        "src/vtd/interrupts/table.rs",
        "self.frames.store_pair(hal, self.pairs, slot.into(), entry.unwrap_or_default());",
        "let [lower, upper] = entry.unwrap_or_default();
        self.frames.store(hal, word, lower);
        self.frames.store(hal, word + 1, upper);",
    ),
    Bug {
        by_assertion: true,
        ..bug(
            "interrupts are remapped without a queue",
            "R61",
            "src/vtd/capabilities.rs",
            "(self.interrupt_remapping && self.queued_invalidation)",
            "(self.interrupt_remapping || self.queued_invalidation && false)",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "the upper bits of a CPU's id are left out of a unit's own interrupt",
            "R59",
            "src/interrupt/message.rs",
            "((self.apic_id & !0xff) as u64) << 32 | low as u64",
            "((self.apic_id & 0) as u64) << 32 | low as u64",
        )
    },
    bug(
        "interrupts are posted to memory of cells",
        "R60",
        "src/iommu/rules/interrupts.rs",
        "!descriptor.is_aligned(DESCRIPTOR_BYTES) || !is_own()",
        "!descriptor.is_aligned(DESCRIPTOR_BYTES) || false && !is_own()",
    ),
    Bug {
        by_assertion: true,
        ..bug(
            "interrupts of two cells are posted to one descriptor",
            "R60",
            "src/iommu/transaction/routes.rs",
            ".find(|other| *other != cell)",
            ".find(|_| false)",
        )
    },
    bug(
        "a vector stands where the descriptor's address is",
        "R60",
        "src/vtd/interrupts/entry.rs",
        "(address & 0xffff_ffc0) << 32 | u64::from(posting.vector()) << 16",
        "(address & 0xffff_ffc0) << 31 | u64::from(posting.vector()) << 17",
    ),
    Bug {
        by_assertion: true,
        ..bug(
            "the pin of a cell is free before its unit has confirmed that it is cut",
            "R54",
            "src/iommu/transaction/routes.rs",
            "line.leaves(scope) && outcomes.is_confirmed(line.unit)",
            "line.leaves(scope) && (outcomes.is_confirmed(line.unit) || true)",
        )
    },
    Bug {
        by_assertion: true,
        ..bug(
            "an interrupt that a failed change moved stays where it went",
            "R54",
            "src/iommu/transaction/routes.rs",
            "was_granted.then_some(slot.now)",
            "(was_granted && slot.now.is_none()).then_some(slot.now)",
        )
    },
    by_assertion(
        "another device keeps what the cell has after the rescan",
        "R21",
        "src/iommu/isolation.rs",
        "device.is_another(&self.hal) || is_off(device)",
        "is_off(device)",
    ),
    by_assertion(
        "ATS that a reset of a port took stays off after the rescan",
        "R48",
        "src/iommu/isolation.rs",
        "device.is_another(&self.hal) || is_off(device)",
        "device.is_another(&self.hal)",
    ),
    by_assertion(
        "who shares a source-id with another device is let through",
        "R46",
        "src/iommu/sleep.rs",
        "let is_alike = |it: &&mut Assignment| it.unit == index && it.carries_any(&requesters);",
        "let first = requesters.first().copied();
                let is_alike = |it: &&mut Assignment| it.unit == index && it.requesters.first().copied() == first;",
    ),
    by_assertion(
        "what another device has where the former had ATS is written to",
        "R48",
        "src/pci/ats.rs",
        "if hal.config_read(self.function, self.at) as u16 != ID {",
        "if hal.config_read(self.function, self.at) == u32::MAX {",
    ),
    by_assertion(
        "another device is asked to empty a device-TLB that it does not have",
        "R51",
        "src/iommu/state/assignment.rs",
        "self.ats = Ats::of(hal, self.device);",
        "self.ats = self.ats.filter(|ats| ats.function == self.device);",
    ),
    by_assertion(
        "registers of a device are restored in another one",
        "R49",
        "src/pci/reset.rs",
        "if self.is_of_another(hal) {",
        "if self.is_of_another(hal) && self.saved.is_empty() {",
    ),
    by_assertion(
        "a device that was pulled out of its reset is waited for without end",
        "R49",
        "src/iommu/transaction/retire.rs",
        "if pci::is_unplugged(hal, device.device, device.port) {",
        "if pci::is_unplugged(hal, device.device, None) {",
    ),
    by_assertion(
        "a device keeps a place in tables that a failed hand-back gave away",
        "R69",
        "src/iommu/hand_back.rs",
        "if unit.root().is_none() {",
        "if result.is_ok() {",
    ),
    by_assertion(
        "the source-id of a conventional bridge is left out",
        "R46",
        "src/topology/requesters.rs",
        "self.add(bridge.function)?;
                self.renamed",
        "self.renamed",
    ),
];
