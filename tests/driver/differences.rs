//! What an audit tells of tables and registers that somebody else wrote.

use cofferdam::CellId;
use cofferdam::addr::{PhysAddr, Rights};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Difference, SharedMemory};
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, MEMORY_A, MEMORY_B, RW, assert_nothing_differs, audit, reach};

pub(crate) fn root_table(machine: &Machine) -> u64 {
    // SAFETY: a register of the machine's first unit.
    unsafe { machine.read64(mapped(machine.windows()[0]), 0x20) }
}

/// Where the context entry of a function of bus 0 is.
pub(crate) fn context(machine: &Machine, device: u8) -> PhysAddr {
    PhysAddr::new((peek(machine, root_table(machine)) & !0xfff) + u64::from(device) * 8 * 16)
}

/// The entry at `level`, 1 to 3, over an input address of a function of bus 0, in tables of 3 levels.
pub(crate) fn entry_over(machine: &Machine, device: u8, input: u64, level: u32) -> PhysAddr {
    let mut table = peek(machine, context(machine, device).as_u64()) & !0xfff;
    for above in (level..=3).rev() {
        let at = table + (input >> (12 + 9 * (above - 1)) & 0x1ff) * 8;
        if above == level {
            return PhysAddr::new(at);
        }
        table = peek(machine, at) & 0x000f_ffff_ffff_f000;
    }
    unreachable!()
}

/// Two cells with a page each at the same input address, with devices 3 and 4, on a unit with tables of 3 levels.
fn neighbours(machine: &Machine) -> (Front<&Machine>, CellId, CellId) {
    let iommu = enabled(machine);
    let a = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    let b = cell_with(&iommu, region(INPUT, MEMORY_B, PAGE, RW), function(0, 4));
    (iommu, a, b)
}

#[test]
fn memory_of_another_cell_is_reported_with_its_owner() {
    let machine = machine([UnitConfig::client()]);
    let (iommu, a, b) = neighbours(&machine);
    machine.flip(entry_over(&machine, 3, INPUT, 1), MEMORY_A ^ MEMORY_B);
    let source = function(0, 3);
    let memory = outputs(MEMORY_B, PAGE);
    let expected = [
        Difference::ExtraMapping { source, region: region(INPUT, MEMORY_B, PAGE, RW) },
        Difference::MissingMapping { source, region: region(INPUT, MEMORY_A, PAGE, RW) },
        Difference::CrossesCells { source, cell: Some(a), owner: b, memory },
    ];
    assert_eq!(audit(&iommu), expected);
    let words = expected.map(|difference| difference.to_string());
    let spoken = [
        "0000:00:03.0 reaches 0x40000000..=0x40000fff -> 0x70000000 (read write), which is not granted",
        "0000:00:03.0 does not reach 0x40000000..=0x40000fff -> 0x60000000 (read write), which is granted",
        "0000:00:03.0 of cell 0 reaches 0x70000000..=0x70000fff, which belongs to cell 1",
    ];
    assert_eq!(words, spoken);
    machine.flip(entry_over(&machine, 3, INPUT, 1), MEMORY_A ^ MEMORY_B);
    assert_nothing_differs(&iommu, "flipped back");

    // Memory that both share is nobody's secret.
    iommu.map_shared(a, region(INPUT + PAGE, MEMORY_B + PAGE, PAGE, Rights::READ)).unwrap();
    iommu.map_shared(b, region(INPUT + PAGE, MEMORY_B + PAGE, PAGE, RW)).unwrap();
    assert_nothing_differs(&iommu, "shared memory");
    let mut shared = vec![];
    iommu.shared_memory(|it| shared.push(it)).unwrap();
    assert_eq!(shared, [SharedMemory { memory: outputs(MEMORY_B + PAGE, PAGE), cells: [a, b] }]);
    assert_eq!(shared[0].to_string(), "0x70001000..=0x70001fff is shared by cell 0 and cell 1");
}

/// I7: a page table that leads to the hypervisor's memory, or to a unit's registers, is reported as that.
#[test]
fn what_is_no_cells_memory_is_reported_by_its_name() {
    let machine = machine([UnitConfig::client()]);
    let (iommu, ..) = neighbours(&machine);
    let (source, unit) = (function(0, 3), machine.windows()[0]);
    let table = entry_over(&machine, 3, INPUT, 1).as_u64() & !(PAGE - 1);
    let (table, registers) = (outputs(table, PAGE), outputs(unit.base.as_u64(), PAGE));
    let found = [
        Difference::ReachesPlatform { source, memory: table },
        Difference::ReachesRegisters { source, unit, memory: registers },
    ];
    for (memory, difference) in [table, registers].into_iter().zip(found) {
        let flipped = MEMORY_A ^ memory.first().as_u64();
        machine.flip(entry_over(&machine, 3, INPUT, 1), flipped);
        assert_eq!(audit(&iommu)[2..], [difference]);
        machine.flip(entry_over(&machine, 3, INPUT, 1), flipped);
    }
    let words = found.map(|difference| difference.to_string());
    let spoken = [
        format!("0000:00:03.0 reaches {table}, which the platform keeps for itself"),
        format!("0000:00:03.0 reaches {registers}, where unit {unit} has registers"),
    ];
    assert_eq!(words, spoken);
    assert_nothing_differs(&iommu, "flipped back");
}

#[test]
fn what_both_cells_share_is_not_reported() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let (a, source) = (iommu.create_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 3));
    // The third and the last page of the other's memory are this cell's, too.
    iommu.map_shared(a, region(0, MEMORY_B + 3 * PAGE, PAGE, RW)).unwrap();
    iommu.map_shared(a, region(PAGE, MEMORY_B + LARGE - PAGE, PAGE, RW)).unwrap();
    iommu.map(a, region(INPUT, MEMORY_A, LARGE, RW)).unwrap();
    iommu.assign(source, a).unwrap();
    let b = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map_shared(b, region(INPUT, MEMORY_B + PAGE, LARGE, RW)).unwrap();
    machine.flip(entry_over(&machine, 3, INPUT, 2), MEMORY_A ^ MEMORY_B);
    let mut crossed = audit(&iommu);
    crossed.retain(|difference| matches!(difference, Difference::CrossesCells { .. }));
    let pages = [(1, 2), (4, 507)].map(|(first, count)| outputs(MEMORY_B + first * PAGE, count * PAGE));
    let expected = pages.map(|memory| Difference::CrossesCells { source, cell: Some(a), owner: b, memory });
    assert_eq!(crossed, expected);
}

#[test]
fn a_function_of_no_cell_is_reported_with_all_that_it_reaches() {
    let machine = machine([UnitConfig::client()]);
    let (iommu, a, _) = neighbours(&machine);
    let entry = [0, 8].map(|half| peek(&machine, context(&machine, 3).as_u64() + half));
    for (half, word) in [0, 8].into_iter().zip(entry) {
        machine.flip(context(&machine, 9) + half, word);
    }
    let source = function(0, 9);
    let memory = outputs(MEMORY_A, PAGE);
    let expected = [
        Difference::UnassignedSource { source },
        Difference::ExtraMapping { source, region: region(INPUT, MEMORY_A, PAGE, RW) },
        Difference::CrossesCells { source, cell: None, owner: a, memory },
    ];
    assert_eq!(audit(&iommu), expected);
}

#[test]
fn requests_that_pass_without_a_table_reach_everything() {
    let machine = machine([UnitConfig::client()]);
    let (iommu, a, b) = neighbours(&machine);
    machine.flip(context(&machine, 3), 0b10 << 2);
    let (source, found) = (function(0, 3), audit(&iommu));
    assert!(matches!(found[0], Difference::PageTable { found: None, .. }), "{found:?}");
    let whole = region(INPUT + PAGE, INPUT + PAGE, (1 << 39) - INPUT - PAGE, RW);
    assert!(found.contains(&Difference::ExtraMapping { source, region: whole }), "{found:?}");
    let memory = outputs(MEMORY_B, PAGE);
    let crossing = Difference::CrossesCells { source, cell: Some(a), owner: b, memory };
    assert!(found.contains(&crossing), "{found:?}");
}

#[test]
fn a_device_tlb_that_nobody_requested_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let (iommu, ..) = neighbours(&machine);
    assert_eq!(iommu.audit(|_| ()).unwrap().device_tlbs, 0);
    machine.flip(context(&machine, 3), 0b01 << 2);
    assert_eq!(audit(&iommu), [Difference::DeviceTlb { source: function(0, 3), found: true }]);
    assert_eq!(iommu.audit(|_| ()).unwrap().device_tlbs, 1);
}

#[test]
fn requested_device_tlbs_count_and_quarantined_ones_stay_off() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, 2 * PAGE, RW), function(0, 3));
    let source = function(0, 4);
    machine.add_ats(source, 32);
    iommu.assign_with(source, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
    assert_nothing_differs(&iommu, "a device-TLB");
    assert_eq!(iommu.audit(|_| ()).unwrap().device_tlbs, 1);
    let entry = context(&machine, 4);
    machine.flip(entry, 0b01 << 2);
    assert_eq!(audit(&iommu), [Difference::DeviceTlb { source, found: false }]);
    machine.flip(entry, 0b01 << 2);

    machine.set_device_tlb(source, Answer::Never, 32);
    let before = peek(&machine, entry.as_u64());
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    assert_nothing_differs(&iommu, "a device that does not answer");
    machine.flip(entry, before);
    assert_eq!(audit(&iommu), [Difference::NotBlocked { source, cell }]);
    machine.flip(entry, before);
}

#[test]
fn a_domain_id_that_two_tables_have_is_reported() {
    let machine = machine([UnitConfig::client()]);
    let (iommu, ..) = neighbours(&machine);
    let upper = [3, 4].map(|device| peek(&machine, context(&machine, device).as_u64() + 8));
    machine.flip(context(&machine, 4) + 8, upper[0] ^ upper[1]);
    let (source, other, domain_id) = (function(0, 4), function(0, 3), 1);
    let expected = [
        Difference::DomainId { source, found: 1, expected: 2 },
        Difference::SharedDomainId { source, other, domain_id },
    ];
    assert_eq!(audit(&iommu), expected);
}

#[test]
fn tables_linked_in_a_circle_have_an_end() {
    let machine = machine([UnitConfig::server()]);
    let (iommu, ..) = neighbours(&machine);
    let root = peek(&machine, context(&machine, 3).as_u64()) & !0xfff;
    // Every entry of the top leads back to the top.
    for index in 0..512 {
        let at = PhysAddr::new(root + index * 8);
        machine.flip(at, peek(&machine, at.as_u64()) ^ (root | 3));
    }
    let found = audit(&iommu);
    let endless = found.iter().filter(|one| matches!(one, Difference::TooManyTables { .. })).count();
    assert_eq!(endless, 1, "{} differences", found.len());
    let mut runs = 0;
    iommu.reach(|_| runs += 1).unwrap();
    // Only a table that is reached at the lowest level leads to pages.
    assert!(runs <= 2 * 512, "{runs}");
}

#[test]
fn what_is_above_the_widest_address_is_reached_by_nobody() {
    let client = UnitConfig::client();
    // Input addresses of 38 bits, of the 39 that 3 levels have.
    let machine = machine([UnitConfig { cap: client.cap & !(0x3f << 16) | 37 << 16, ..client }]);
    let (iommu, ..) = neighbours(&machine);
    let (below, above) = ((1 << 38) - (1 << 30), 1 << 38);
    let page = 0x4000_0000 | 1 << 11 | 1 << 7 | 1;
    let at = entry_over(&machine, 3, above, 3);
    machine.flip(at, page);
    assert_eq!(audit(&iommu), [Difference::IgnoredBits { unit: machine.windows()[0], at, bits: page }]);
    machine.flip(at, page);
    machine.flip(entry_over(&machine, 3, below, 3), page);
    let region = region(below, 0x4000_0000, 1 << 30, Rights::READ);
    assert_eq!(audit(&iommu)[0], Difference::ExtraMapping { source: function(0, 3), region });
}

#[test]
fn an_entry_counts_as_hardware_counts_it() {
    let machine = machine([UnitConfig::client()]);
    let (iommu, a, _) = neighbours(&machine);
    iommu.map(a, region(INPUT + PAGE, MEMORY_A + PAGE, PAGE, RW)).unwrap();
    let (source, unit) = (function(0, 3), machine.windows()[0]);
    let found = |at: PhysAddr, bits| {
        machine.flip(at, bits);
        let found = (audit(&iommu), reach(&iommu));
        machine.flip(at, bits);
        found
    };

    // Every level has to grant a right (section 3.7.1).
    let at = entry_over(&machine, 3, INPUT, 2);
    let (input, rights) = (range(INPUT, 2 * PAGE), Rights::READ);
    let expected = [
        Difference::NarrowedTable { unit, at, rights },
        Difference::OtherRights { source, input, found: rights, granted: RW },
    ];
    assert_eq!(found(at, 0b10).0, expected);

    // The machine has addresses of 39 bits (section 9.8).
    let at = entry_over(&machine, 3, INPUT, 1);
    let lacks = Difference::MissingMapping { source, region: region(INPUT, MEMORY_A, PAGE, RW) };
    assert_eq!(found(at, 1 << 39).0, [Difference::Malformed { unit, at, bits: 1 << 39 }, lacks]);

    // SNP is of one page.
    let (differences, reach) = found(at, 1 << 11);
    assert_eq!(differences, [Difference::OtherSnoop { source, input: range(INPUT, PAGE), found: false }]);
    assert_eq!([reach[0].snoop, reach[1].snoop], [false, true]);
    assert_eq!(reach[1].region, region(INPUT + PAGE, MEMORY_A + PAGE, PAGE, RW));

    // A table with nothing in it is another table all the same.
    iommu.unmap(a, range(INPUT, 2 * PAGE)).unwrap();
    let [own, other] = [3, 4].map(|device| peek(&machine, context(&machine, device).as_u64()) & !0xfff);
    let (found, expected) = (Some((PhysAddr::new(other), 3)), (PhysAddr::new(own), 3));
    machine.flip(context(&machine, 3), own ^ other);
    assert_eq!(audit(&iommu)[0], Difference::PageTable { source, found, expected });
}

/// Writes a register of the first unit, as nobody but the driver may.
fn set_register(machine: &Machine, offset: u32, value: u64) {
    let window = machine.windows()[0];
    // SAFETY: nothing that a test relies on hangs on what the unit does then.
    unsafe { machine.write64(mapped(window), offset, value) };
}

#[test]
fn registers_that_somebody_else_wrote_are_reported() {
    const RTADDR: u32 = 0x20;
    let machine = machine([UnitConfig::server()]);
    let (iommu, a, b) = neighbours(&machine);
    let unit = machine.windows()[0];
    let root = root_table(&machine);
    let blocked = [(3, a), (4, b)].map(|(device, cell)| Difference::Blocked { source: function(0, device), cell });
    for bit in 0..64 {
        let found = root ^ 1 << bit;
        set_register(&machine, RTADDR, found);
        let all = audit(&iommu);
        let expected = Some(PhysAddr::new(root));
        assert_eq!(all[0], Difference::RootTable { unit, found, expected }, "bit {bit}");
        assert!(blocked.iter().all(|one| all.contains(one)), "bit {bit}: {all:?}");
    }
    set_register(&machine, RTADDR, root);
    assert_nothing_differs(&iommu, "as it was");

    // Translation off: the queue alone stays on.
    // SAFETY: as above.
    unsafe { machine.write32(mapped(unit), 0x18, 1 << 26) };
    machine.pause();
    machine.pause();
    assert_eq!(audit(&iommu), [Difference::NotTranslating { unit }]);
    assert_eq!(reach(&iommu), []);
    machine.break_unit(0, Defect::AllOnes);
    assert_eq!(audit(&iommu), [Difference::Unresponsive { unit }]);
    machine.abandon();
}

/// Remapping of interrupts by a table of somebody else is reported, whether DMA is translated or not.
#[test]
fn remapping_of_interrupts_by_another_table_is_reported() {
    let machine = machine([UnitConfig::everything()]);
    let iommu = enabled(&machine);
    let unit = machine.windows()[0];
    set_register(&machine, 0xb8, 0x1234_5000);
    for bit in [1 << 24, 1 << 25] {
        // SAFETY: a register of the machine's first unit: GCMD, with what is on already.
        let status = unsafe { machine.read32(mapped(unit), 0x1c) } & 0x96ff_ffff;
        // SAFETY: as above.
        unsafe { machine.write32(mapped(unit), 0x18, status | bit) };
        machine.pass(1_000_000);
    }
    assert_eq!(audit(&iommu), [Difference::RemapsInterrupts { unit }]);
    machine.abandon();
}

#[test]
fn a_root_table_that_was_not_set_does_not_count() {
    let machine = machine([UnitConfig::server()]);
    let (iommu, ..) = neighbours(&machine);
    machine.break_unit(0, Defect::StatusStuckLow(1 << 30));
    assert_eq!(audit(&iommu), [Difference::NotTranslating { unit: machine.windows()[0] }]);
    machine.abandon();
}

#[test]
fn a_unit_that_failed_is_compared_with_what_was_left_to_it() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let (iommu, ..) = neighbours(&machine);
        let device = function(0, 3);
        machine.break_unit(0, Defect::QueueDead);
        machine.break_unit(0, Defect::RegistersDead);
        let entry = context(&machine, 3);
        let before = peek(&machine, entry.as_u64());
        iommu.release(device).unwrap_err();
        let quarantined = audit(&iommu);
        machine.flip(entry, before);
        let told: Vec<_> = audit(&iommu).into_iter().filter(|one| !quarantined.contains(one)).collect();
        assert!(matches!(told[..], [Difference::NotBlocked { source, .. }] if source == device), "{name}: {told:?}");
        machine.abandon();
    }
}
