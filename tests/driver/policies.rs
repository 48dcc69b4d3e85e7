//! What a cell may choose, what it learns before, and what follows.

use cofferdam::addr::{IovaRange, Rights, SourceId};
use cofferdam::hal::NoFrame;
use cofferdam::iommu::{Error, Incompatibility, MapError, Options, Owner, Refusal};
use cofferdam::{CellConfig, CellId, Coherency, CoherencyPolicy, Sharing};
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::cost::Cost;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::tables::{endpoint, of_machine};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// A machine whose graphics on bus 1 cannot be made to snoop.
fn client() -> Machine {
    machine([UnitConfig::client_graphics().serving(&[1]), UnitConfig::client()])
}

fn on(machine: &Machine) -> Front<&Machine> {
    let iommu = discover(machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    iommu
}

fn cell(iommu: &Front<&Machine>, coherency: CoherencyPolicy, sharing: Sharing) -> CellId {
    let cell = iommu.create_cell(CellConfig { coherency, sharing, ..UNSAFE_INTERRUPTS }).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    cell
}

#[test]
fn enforced_snooping_refuses_a_device_that_cannot_snoop() {
    let machine = client();
    let iommu = on(&machine);
    let (graphics, card) = (function(1, 0), function(0, 1));
    let cell = cell(&iommu, CoherencyPolicy::Enforced, Sharing::ByAttributes);
    let before = (machine.snapshot(), iommu.statistics());
    let refused = Error::Incompatible { device: graphics, reason: Incompatibility::Snoop };
    assert_eq!(iommu.assign(graphics, cell).unwrap_err(), refused);
    assert_eq!((machine.snapshot(), iommu.statistics()), before, "nothing was touched");
    iommu.assign(card, cell).unwrap();
    assert_eq!(iommu.coherency(cell), Ok(Coherency::Enforced));
}

#[test]
fn a_cell_that_does_not_enforce_snooping_does_so_for_no_device() {
    let machine = client();
    let iommu = on(&machine);
    let cell = cell(&iommu, CoherencyPolicy::NotEnforced, Sharing::ByAttributes);
    let committed = iommu.assign(function(0, 1), cell).unwrap();
    assert_eq!(coherency_changes(&iommu, &committed, &[cell]), [(cell, Coherency::NotEnforced)]);
    assert!(write(&machine, function(0, 1), INPUT, 1));
}

/// Page tables in use, by what assigning each device of a list takes.
fn tables(iommu: &Front<&Machine>, cell: CellId, devices: &[SourceId]) -> Vec<bool> {
    let grows = |device: &SourceId| {
        let before = iommu.statistics().table_frames;
        iommu.assign(*device, cell).unwrap();
        // A context table is one frame; a page table of three levels or more is at least three.
        iommu.statistics().table_frames > before + 1
    };
    devices.iter().map(grows).collect()
}

#[test]
fn the_fewest_tables_or_one_for_each_kind_as_the_cell_wants() {
    let machine =
        machine([UnitConfig::qemu_10_0(false).serving(&[1]), UnitConfig::qemu_10_0(false).snoop_control(true)]);
    let iommu = on(&machine);
    let (plain, snooped, another) = (function(1, 0), function(0, 1), function(0, 2));
    let by_attributes = cell(&iommu, CoherencyPolicy::PerDevice, Sharing::ByAttributes);
    assert_eq!(tables(&iommu, by_attributes, &[plain, snooped, another]), [true, true, false]);
    assert_eq!(iommu.coherency(by_attributes), Ok(Coherency::NotEnforced));
    let committed = iommu.release(plain).unwrap();
    assert_eq!(
        coherency_changes(&iommu, &committed, &[by_attributes]),
        [(by_attributes, Coherency::Enforced)],
        "as if it had never been there"
    );
    iommu.destroy_cell(by_attributes).unwrap();

    let fewest = cell(&iommu, CoherencyPolicy::PerDevice, Sharing::FewestTables);
    assert_eq!(tables(&iommu, fewest, &[plain, snooped, another]), [true, false, false]);
    iommu.release(plain).unwrap();
    assert_eq!(iommu.coherency(fewest), Ok(Coherency::NotEnforced), "what counts is the table in use (C2)");
    for device in [snooped, another] {
        assert!(write(&machine, device, INPUT, 1));
        iommu.release(device).unwrap();
    }
    assert_eq!(tables(&iommu, fewest, &[snooped, plain]), [true, true], "one cannot use what enforces");
}

#[test]
fn ten_thousand_histories_end_with_their_devices_coherency() {
    let machine = machine([
        UnitConfig::qemu_10_0(false).serving(&[1]),
        UnitConfig::client().serving(&[2]),
        UnitConfig::qemu_10_0(false).snoop_control(true),
    ]);
    let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
    iommu.enable().unwrap();
    let devices: Vec<SourceId> = (0..6).map(|n| function(n % 3, n)).collect();
    let mut random = Random::new(0x2545_f491_4f6c_dd1d);
    for history in 0..10_000 {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let (mut has, mut told) = ([false; 6], Coherency::Enforced);
        for _ in 0..random.below(12) {
            let index = random.below(6) as usize;
            let done = if has[index] { iommu.release(devices[index]) } else { iommu.assign(devices[index], cell) };
            for (_, now) in coherency_changes(&iommu, &done.unwrap(), &[cell]) {
                assert_ne!(now, told, "history {history}");
                told = now;
            }
            has[index] = !has[index];
            let plain = devices.iter().zip(has).any(|(device, has)| has && device.bus() == 1);
            let expected = if plain { Coherency::NotEnforced } else { Coherency::Enforced };
            assert_eq!((iommu.coherency(cell), told), (Ok(expected), expected), "history {history}");
        }
        iommu.destroy_cell(cell).unwrap();
    }
}

#[test]
fn a_device_is_described_before_a_cell_is_chosen() {
    let machine = client();
    machine.add_bridge(function(0, 7), BridgeKind::Conventional, 5..=5);
    let iommu = on(&machine);
    let graphics = iommu.device_info(function(1, 0)).unwrap();
    let card = iommu.device_info(function(0, 1)).unwrap();
    assert_eq!((graphics.snoop_enforceable, graphics.largest_page, graphics.unit), (false, PAGE, machine.windows()[0]));
    assert_eq!((card.snoop_enforceable, card.largest_page, card.unit), (true, 1 << 30, machine.windows()[1]));
    assert_eq!((card.input_bits, card.cell, card.refusal), (39, None, None));
    assert_eq!(card.requesters.ids(), [function(0, 1)]);
    let behind = iommu.device_info(function(5, 3)).unwrap();
    assert!(behind.requesters.ids().contains(&function(0, 7)), "it carries the bridge's id, too");
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 1));
    assert_eq!(iommu.device_info(function(0, 1)).unwrap().cell, Some(cell));
    let elsewhere = SourceId::new(1, 0, 0, 0).unwrap();
    assert_eq!(iommu.device_info(elsewhere).unwrap_err(), Error::NoSuchDevice(elsewhere));
}

fn ends(ranges: &[IovaRange]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.start().as_u64(), range.last().as_u64() + 1)).collect()
}

#[test]
fn a_window_is_what_all_devices_reach_but_reserved_memory() {
    const TOP: u64 = 1 << 39;
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::client()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let ranges = |iommu: &Front<&Machine>, cell| ends(&input_ranges(iommu, cell).unwrap());
    assert_eq!(ranges(&iommu, cell), [(0, 0xfee0_0000), (0xfef0_0000, 1 << 57)]);
    iommu.assign(function(0, 0), cell).unwrap();
    assert_eq!(ranges(&iommu, cell), [(0, 0xfee0_0000), (0xfef0_0000, TOP)], "the narrowest");
    assert!(iommu.map(cell, region(TOP, MEMORY, PAGE, RW)).is_err());
    iommu.map(cell, region(TOP - PAGE, MEMORY, PAGE, RW)).unwrap();
    iommu.release(function(0, 0)).unwrap();
    iommu.assign(function(1, 0), cell).unwrap();
    iommu.map(cell, region(TOP, MEMORY, PAGE, RW)).unwrap();
    let error = iommu.assign(function(0, 0), cell).unwrap_err();
    let wide = region(TOP - PAGE, MEMORY, PAGE, RW);
    assert!(
        matches!(error, Error::Incompatible { reason: Incompatibility::Map(MapError::InputTooHigh { .. }), .. }),
        "{wide}"
    );
}

/// A cell with several tables can have memory where all of them translate, in whatever order its units and devices come; one
/// without devices, where the widest unit translates.
#[test]
fn ranges_end_where_the_narrowest_table_does() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let server = UnitConfig::server();
    // Four levels alone, and 48 bits of addresses.
    let middle = UnitConfig { cap: server.cap & !(0x1f << 8 | 0x3f << 16) | 1 << 10 | 47 << 16, ..server.clone() };
    let kinds = [(server, 57), (middle, 48), (UnitConfig::client(), 39)];
    for order in ORDERS {
        let [first, second, last] = order.map(|kind| kinds[kind].0.clone());
        let machine = machine([first.serving(&[1]), second.serving(&[2]), last]);
        let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
        iommu.enable().unwrap();
        for arrivals in ORDERS {
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            let all_below = |bits: u32| [(0, 0xfee0_0000), (0xfef0_0000, 1 << bits)];
            let mut bits = 57;
            assert_eq!(ends(&input_ranges(&iommu, cell).unwrap()), all_below(bits), "{order:?}: no device");
            for unit in arrivals {
                bits = bits.min(kinds[order[unit]].1);
                iommu.assign(function([1, 2, 0][unit], 3), cell).unwrap();
                let found = ends(&input_ranges(&iommu, cell).unwrap());
                assert_eq!(found, all_below(bits), "{order:?}, {arrivals:?}, {unit}");
                assert!(iommu.map(cell, region(1 << bits, MEMORY, PAGE, RW)).is_err());
                iommu.map(cell, region((1 << bits) - PAGE, MEMORY, PAGE, RW)).unwrap();
                iommu.unmap(cell, range((1 << bits) - PAGE, PAGE)).unwrap();
            }
            iommu.destroy_cell(cell).unwrap();
        }
    }
}

#[test]
fn a_table_stays_as_narrow_as_its_first_device() {
    const TOP: u64 = 1 << 39;
    // Four levels; an address width (MGAW) of 48 bits, and of 39.
    let server = UnitConfig::server();
    let wide = UnitConfig { cap: server.cap & !(0x1f << 8 | 0x3f << 16) | 1 << 10 | 47 << 16, ..server };
    let narrow = UnitConfig { cap: wide.cap & !(0x3f << 16) | 38 << 16, ..wide.clone() };
    let machine = machine([narrow.serving(&[1]), wide]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell(&iommu, CoherencyPolicy::PerDevice, Sharing::FewestTables);
    iommu.assign(function(1, 0), cell).unwrap();
    iommu.assign(function(0, 3), cell).unwrap();
    iommu.release(function(1, 0)).unwrap();
    assert_eq!(ends(&input_ranges(&iommu, cell).unwrap()), [(0, 0xfee0_0000), (0xfef0_0000, TOP)]);
    iommu.map(cell, region(TOP - PAGE, MEMORY, PAGE, RW)).unwrap();
    assert!(iommu.map(cell, region(TOP, MEMORY, PAGE, RW)).is_err());
    iommu.release(function(0, 3)).unwrap();
    iommu.assign(function(0, 3), cell).unwrap();
    assert_eq!(ends(&input_ranges(&iommu, cell).unwrap()), [(0, 0xfee0_0000), (0xfef0_0000, 1 << 48)]);
}

#[test]
fn the_window_leaves_out_reserved_memory_while_its_device_stays() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled_with_reserved(&machine, &[(0x7000_0000, 0x7000_ffff, 2), (0, 0xfff, 2)]);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(reserved(&iommu, function(0, 2)).len(), 2);
    iommu.assign(function(0, 2), cell).unwrap();
    let expected = [(0x1000, 0x7000_0000), (0x7001_0000, 0xfee0_0000), (0xfef0_0000, 1 << 39)];
    assert_eq!(ends(&input_ranges(&iommu, cell).unwrap()), expected);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(ends(&input_ranges(&iommu, other).unwrap()).len(), 2, "it is another cell's device");
    iommu.release(function(0, 2)).unwrap();
    assert_eq!(ends(&input_ranges(&iommu, cell).unwrap()).len(), 2);
}

#[test]
fn a_table_is_shared_with_no_unit_that_has_no_such_domain_id() {
    let server = UnitConfig::server();
    // CAP_REG.ND of 0: 16 domain-ids.
    let few = UnitConfig { cap: server.cap & !7, ..server.clone() };
    let machine = machine([server.serving(&[1]), few]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let memory = |id: u8| region(INPUT, MEMORY + u64::from(id) * PAGE, PAGE, RW);
    let cells: Vec<_> = (1..=16).map(|id| cell_with(&iommu, memory(id), function(1, id))).collect();
    iommu.assign(function(0, 0), cells[15]).unwrap();
    assert!(write(&machine, function(0, 0), INPUT, 1));
}

/// A root cell with memory from 1 GiB to 3 GiB and these devices.
fn root_with(iommu: &Front<&Machine>, devices: &[SourceId]) -> CellId {
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.map(root, region(1 << 30, 1 << 30, 2 << 30, RW));
    devices.iter().for_each(|device| {
        change.assign(*device, root);
    });
    change.commit().unwrap();
    root
}

#[test]
fn what_a_cell_takes_the_root_cell_loses_until_the_cell_is_gone() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (disk, card) = (function(0, 1), function(0, 2));
        // In pages of 4 KiB two GiB would take too many frames of the model's.
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        iommu.assign(card, root).unwrap();
        let whole = machine.frames_in_use();
        assert!(write(&machine, card, MEMORY + LARGE + PAGE, 1), "{name}");

        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let mut change = iommu.change();
        change.map(cell, region(0, MEMORY + LARGE + PAGE, 4 * PAGE, RW)).assign(card, cell);
        change.commit().unwrap();
        assert!(!write(&machine, disk, MEMORY + LARGE + PAGE, 2), "{name}");
        assert!(!write(&machine, disk, MEMORY + LARGE + 4 * PAGE, 2), "{name}");
        assert!(
            write(&machine, disk, MEMORY + LARGE, 3) && write(&machine, disk, MEMORY + LARGE + 5 * PAGE, 3),
            "{name}"
        );
        assert!(write(&machine, card, 0, 4) && !write(&machine, card, MEMORY, 4), "{name}");

        iommu.destroy_cell(cell).unwrap();
        assert!(write(&machine, disk, MEMORY + LARGE + PAGE, 5), "{name}");
        assert!(!write(&machine, card, MEMORY, 5), "{name}: it does not come back by itself");
        assert_eq!(machine.frames_in_use(), whole, "{name}: large pages are whole again");
        iommu.assign(card, root).unwrap();
        assert!(write(&machine, card, MEMORY, 6), "{name}");
    }
}

#[test]
fn only_what_a_cell_took_comes_back_to_the_root_cell() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let disk = function(0, 1);
    let root = root_with(&iommu, &[disk]);
    let at = |page: u64| (1 << 30) + page * PAGE;
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(0, at(1), 8 * PAGE, RW)).unwrap();
    iommu.unmap(root, range(at(4), PAGE)).unwrap();
    let reaches = |page| write(&machine, disk, at(page), 1);
    assert_eq!([0, 1, 4, 8, 9].map(reaches), [true, false, false, false, true]);
    iommu.unmap(cell, range(0, 6 * PAGE)).unwrap();
    assert_eq!([1, 3, 4, 5, 6, 7].map(reaches), [true, true, false, true, true, false]);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(other, region(0, at(9), PAGE, RW)).unwrap();
    iommu.destroy_cell(cell).unwrap();
    assert_eq!([7, 8, 9].map(reaches), [true, true, false], "another cell still has one");
    assert_eq!(iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap_err(), Error::RootExists(root));
    let shifted = region(0, at(0), PAGE, RW);
    assert_eq!(iommu.map(root, shifted).unwrap_err(), Error::NotOneToOne(shifted));
    iommu.destroy_cell(root).unwrap();
    iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
}

/// Or the other cell could not be destroyed.
#[test]
fn a_root_cells_device_has_to_suit_what_comes_back_to_it() {
    const TOP: u64 = 1 << 38;
    let narrow = UnitConfig { cap: UnitConfig::server().cap & !(0x3f << 16) | 37 << 16, ..UnitConfig::server() };
    let machine = machine([UnitConfig::server().serving(&[1]), narrow]);
    let reserved = of_machine(&machine, &[&[1]]).rmrr(0, MEMORY, MEMORY + 0xfff, &[endpoint(2, 0)]).table();
    let iommu = enabled_front(&machine, &reserved, Options::default());
    let (disk, narrow, reserving) = (function(1, 0), function(0, 1), function(0, 2));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(disk, root).unwrap();
    for (memory, device) in [(TOP, narrow), (MEMORY, reserving)] {
        iommu.map(root, region(memory, memory, PAGE, RW)).unwrap();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(0, memory, PAGE, RW)).unwrap();
        let (before, error) = (machine.snapshot(), iommu.assign(device, root).unwrap_err());
        let refused = match error {
            Error::Incompatible { device, reason: Incompatibility::Map(MapError::InputTooHigh { .. }) } => device,
            Error::Refused { device, reason: Refusal::Owned { owner: Owner::Cell(owner), .. } } if owner == cell => {
                device
            }
            error => panic!("{error}"),
        };
        assert_eq!((refused, machine.snapshot()), (device, before));
        iommu.destroy_cell(cell).unwrap();
        assert!(write(&machine, disk, memory, 1), "it is back");
        iommu.unmap(root, range(memory, PAGE)).unwrap();
        iommu.assign(device, root).unwrap();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        match iommu.map(cell, region(0, memory, PAGE, RW)) {
            Ok(_) => assert!(iommu.map(root, region(memory, memory, PAGE, RW)).is_err(), "in the reverse order"),
            Err(Error::Owned { owner, .. }) => assert_eq!(owner, Owner::Reserved { device: reserving, cell: root }),
            Err(error) => panic!("{error}"),
        }
        iommu.destroy_cell(cell).unwrap();
        let mut change = iommu.change();
        change.release(device).map(root, region(memory, memory, PAGE, RW));
        change.commit().unwrap();
        iommu.unmap(root, range(memory, PAGE)).unwrap();
    }
}

#[test]
fn a_carving_that_is_refused_leaves_the_root_cell_as_it_was() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = enabled(&machine);
    let (disk, card) = (function(0, 1), function(0, 2));
    let root = root_with(&iommu, &[disk, card]);
    let careful = iommu.create_cell(CellConfig::default()).unwrap();
    let before = machine.snapshot();
    for count in 0..3 {
        machine.allow_allocations(Some(count));
        let mut change = iommu.change();
        change.map(careful, region(0, (1 << 30) + PAGE, PAGE, RW)).assign(card, careful);
        let error = change.commit().unwrap_err();
        assert_eq!(error, Error::Refused { device: card, reason: Refusal::UnsafeInterrupts });
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let mut change = iommu.change();
        change.map(cell, region(0, (1 << 30) + PAGE, PAGE, RW)).assign(card, cell);
        assert_eq!(change.commit().unwrap_err(), Error::NoFrame(NoFrame::NoneLeft));
        machine.allow_allocations(None);
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(machine.snapshot(), before);
    }
    assert!(write(&machine, card, (1 << 30) + PAGE, 1));
    assert_eq!(iommu.assign(card, root), Err(Error::Busy { device: card, cell: root }));
}

#[test]
fn a_cell_carved_out_of_large_pages_splits_its_edges_alone() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let root = root_with(&iommu, &[function(0, 1)]);
    iommu.map(root, region(4 << 30, 4 << 30, 12 << 30, RW)).unwrap();
    let (before, frames) = (Cost::so_far(&iommu), machine.frames_in_use());
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.map(cell, region(0x10_0000, 0x5010_0000, 0x10_0000, RW));
    change.map(cell, region(1 << 30, (4 << 30) + (64 << 20), 64 << 20, RW));
    change.map(cell, region(5 << 30, 8 << 30, 2 << 30, RW));
    change.commit().unwrap();
    assert!(machine.frames_in_use() - frames <= 3, "one for 2 MiB and two for 4 KiB pages at most");
    iommu.destroy_cell(cell).unwrap();
    let spent = Cost::so_far(&iommu) - before;
    assert_eq!((spent.waits, spent.doorbells), (2, 2));
    assert_eq!(machine.frames_in_use(), frames, "the large pages are whole again");
}
