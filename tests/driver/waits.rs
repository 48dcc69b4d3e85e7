//! Changes that wait for a unit or for room in its queue: they hold up nobody else.

use std::sync::mpsc;
use std::time::Duration;

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, Options};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, BridgeKind, Defect, Machine, Reset, UnitConfig};
use cofferdam_support::cost::Calls;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

use crate::audit::assert_nothing_differs;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// While a unit works on one cell's flush, however it takes commands, a cell behind another unit changes, and faults are read.
#[test]
fn a_change_that_waits_for_its_unit_holds_up_no_other_cell() {
    let by_registers = UnitConfig::first_generation();
    let behind_buffers = behind_write_buffers(UnitConfig::client());
    for (unit, maps) in [(UnitConfig::server(), false), (by_registers, false), (behind_buffers, true)] {
        let machine = machine([unit.serving(&[1]), UnitConfig::server()]);
        let stop = Stop::new();
        let hal = Watched::shared(&machine, stop.looks());
        let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), Options::default());
        let (slow, quick) = (function(1, 0), function(0, 0));
        let [one, two] = [slow, quick].map(|device| {
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map_shared(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
            iommu.assign(device, cell).unwrap();
            cell
        });
        assert!(!write(&machine, quick, 0, 1));
        let more = region(INPUT + LARGE, MEMORY, PAGE, RW);
        let changed = stop.meanwhile(
            || if maps { iommu.map_shared(one, more) } else { iommu.unmap(one, range(INPUT, PAGE)) },
            || {
                iommu.unmap(two, range(INPUT, PAGE)).unwrap();
                assert_eq!(iommu.faults(|_| ()).records, 1);
                assert_eq!(iommu.map(one, more), Err(Error::InChange { cell: Some(one) }), "its own cell waits");
            },
        );
        changed.unwrap();
        assert_eq!(write(&machine, slow, INPUT, 1), maps);
        assert_eq!(write(&machine, slow, INPUT + LARGE, 1), maps);
        iommu.destroy_cell(one).unwrap();
    }
}

/// A change of two cells waits for a unit: nobody else changes either of them, whichever the change names first.
#[test]
fn each_cell_of_a_change_that_waits_is_in_that_change() {
    for order in [[0_usize, 1], [1, 0]] {
        let machine = machine([UnitConfig::server()]);
        let stop = Stop::new();
        let hal = Watched::shared(&machine, stop.looks());
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        let cells = [0, 1].map(|n| {
            let own = region(INPUT, MEMORY + u64::from(n) * LARGE, PAGE, RW);
            cell_with(&iommu, own, function(0, n))
        });
        let changed = stop.meanwhile(
            || {
                let mut change = iommu.change();
                for n in order {
                    change.unmap(cells[n], range(INPUT, PAGE));
                }
                change.commit()
            },
            || {
                for (cell, n) in cells.into_iter().zip(2..) {
                    let more = region(INPUT + LARGE, MEMORY + n * LARGE, PAGE, RW);
                    assert_eq!(iommu.map(cell, more), Err(Error::InChange { cell: Some(cell) }));
                }
            },
        );
        changed.unwrap();
        for (cell, n) in cells.into_iter().zip(2..) {
            iommu.map(cell, region(INPUT + LARGE, MEMORY + n * LARGE, PAGE, RW)).unwrap();
        }
        assert_nothing_differs(&iommu, "both cells are as committed");
    }
}

/// L1: the root cell has part in a change only if that takes memory from it or gives some back; what waits for the root cell is
/// told so.
#[test]
fn changes_wait_for_the_root_cell_only_over_its_memory() {
    const OWN: u64 = MEMORY + 64 * LARGE;
    for slow_is_roots in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let stop = Stop::new();
        let hal = Watched::shared(&machine, stop.looks());
        let options = Options { timeout_ns: 1_000_000, ..Options::default() };
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
        iommu.assign(function(0, 1), root).unwrap();
        let cell_of = |number: u64| {
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map(cell, region(INPUT, MEMORY + number * LARGE, PAGE, RW)).unwrap();
            iommu.map(cell, region(INPUT + LARGE, OWN + number * LARGE, PAGE, RW)).unwrap();
            iommu.assign(function(0, 2 + number as u8), cell).unwrap();
            cell
        };
        let [slow, other, gone] = [0, 1, 2].map(cell_of);
        iommu.unmap(gone, range(INPUT, PAGE)).unwrap();
        let at = |roots: bool| range(if roots { INPUT } else { INPUT + LARGE }, PAGE);
        let changed = stop.meanwhile(
            || iommu.unmap(slow, at(slow_is_roots)),
            || {
                iommu.unmap(other, at(false)).unwrap();
                iommu.map(other, region(INPUT + 2 * LARGE, OWN + 16 * LARGE, PAGE, RW)).unwrap();
                iommu.destroy_cell(gone).unwrap();
                let expected = if slow_is_roots { Err(Error::InChange { cell: Some(root) }) } else { Ok(()) };
                let taken = region(INPUT + 4 * LARGE, MEMORY + 4 * LARGE, PAGE, RW);
                assert_eq!(iommu.map(other, taken).map(drop), expected);
                assert_eq!(iommu.unmap(other, at(true)).map(drop), expected);
            },
        );
        changed.unwrap();
        let disk = function(0, 1);
        assert_eq!([0, 1].map(|n| write(&machine, disk, MEMORY + n * LARGE, 1)), [slow_is_roots, !slow_is_roots]);
        assert_nothing_differs(&iommu, "after the changes");
    }
}

/// L1: what another change is giving a cell, the root cell does not get although it has no part in that change.
#[test]
fn the_root_cell_gets_nothing_that_is_being_mapped() {
    for succeeds in [true, false] {
        let machine = machine([UnitConfig::server().caching_mode(true)]);
        let stop = Stop::new();
        let hal = Watched::shared(&machine, stop.looks());
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        let (disk, card) = (function(0, 1), function(0, 2));
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign(disk, root).unwrap();
        let cell = cell_with(&iommu, region(INPUT, MEMORY + 64 * LARGE, PAGE, RW), card);
        if !succeeds {
            machine.break_unit(0, Defect::QueueErrorAfter(1));
        }
        let changed = stop.meanwhile(
            || iommu.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW)),
            || {
                let _ = iommu.map(root, region(MEMORY, MEMORY, 2 * PAGE, RW));
            },
        );
        assert_eq!(changed.is_ok(), succeeds);
        machine.mend_unit(0);
        let both = [(card, INPUT + LARGE), (disk, MEMORY)].map(|(device, at)| write(&machine, device, at, 1));
        assert_ne!(both, [true, true]);
        assert_eq!(both[0], succeeds);
        iommu.commit(&[]).unwrap();
        assert_nothing_differs(&iommu, "after the changes");
    }
}

/// L6: a closure that calls the front under the configuration's lock gets an error, in time.
#[test]
fn a_call_from_a_closure_under_the_lock_fails_in_time() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(function(0, 0x1e), BridgeKind::Conventional, 4..=4);
    machine.set_windows(function(0, 0x1e), (0x8000_0000, 0x8fff_ffff), (1 << 20, 0));
    let options = Options { timeout_ns: 20_000, ..Options::default() };
    let iommu = enabled_front(&machine, &of_machine(&machine, &[]).table(), options);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 2));
    let locked = Error::InChange { cell: None };
    let calls = || {
        assert_eq!(iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).map(drop), Err(locked));
        assert_eq!(iommu.create_cell(UNSAFE_INTERRUPTS), Err(locked));
        assert_eq!(iommu.device_info(function(0, 2)).map(drop), Err(locked));
        assert_eq!(iommu.audit(|_| ()).map(drop), Err(locked));
        assert_eq!(iommu.coherency(cell).map(drop), Err(locked));
        assert_eq!(iommu.mute(function(0, 2), true), Err(locked));
        assert_eq!(iommu.set_fault_event(None), Err(locked));
    };
    let mut count = 0;
    iommu.reach(|_| (calls(), count += 1).0).unwrap();
    iommu.regions(cell, |_| (calls(), count += 1).0).unwrap();
    iommu.windows(function(4, 1), &mut |_| (calls(), count += 1).0).unwrap();
    assert_eq!(count, 3);
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
}

/// As many cells as fill a queue with what each has to say to unmap its memory: eight invalidations and a wait, nine of the
/// 127 slots that may be in use.
const FULL: u8 = 14;

fn far_apart(n: u64) -> u64 {
    INPUT + n * 512 * LARGE
}

fn cell_of_eight<H: Hal>(iommu: &Front<H>, device: SourceId) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    for n in 0..8 {
        change.map_shared(cell, region(far_apart(n), MEMORY + n * PAGE, PAGE, RW));
    }
    change.assign(device, cell);
    change.commit().unwrap();
    cell
}

fn unmap_eight<H: Hal>(iommu: &Front<H>, cell: CellId) {
    let mut change = iommu.change();
    for n in 0..8 {
        change.unmap(cell, range(far_apart(n), PAGE));
    }
    change.commit().unwrap();
}

/// No call is to give up while a unit does nothing.
const PATIENT: Options = Options { timeout_ns: u64::MAX / 2, ..Options::DEFAULT };

/// Makes `call` while the queue of the first unit is full of what these cells asked, and `meanwhile` while it waits for room.
fn while_full<H: Hal + Sync, T: Send>(
    (machine, iommu, stop): (&Machine, &Front<H>, &Stop),
    cells: &[CellId],
    call: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce(),
) -> T {
    let before = iommu.statistics();
    machine.break_unit(0, Defect::QueueDead);
    std::thread::scope(|scope| {
        let (_fails_or_ends, ended) = mpsc::channel::<()>();
        // Or a call that holds up all others would do so for ever, and so would all if an assertion fails.
        scope.spawn(move || {
            let _ = ended.recv_timeout(Duration::from_secs(30));
            machine.mend_unit(0);
        });
        for &cell in cells {
            scope.spawn(move || unmap_eight(iommu, cell));
        }
        while iommu.statistics().waits < before.waits + u64::from(FULL) {
            std::thread::yield_now();
        }
        stop.meanwhile(call, || {
            let descriptors = iommu.statistics().descriptors;
            assert_eq!(descriptors, before.descriptors + 9 * u64::from(FULL), "it found no room");
            meanwhile();
            machine.mend_unit(0);
        })
    })
}

/// A queue that is full of what fourteen cells asked. The fifteenth waits for room, and nobody waits for it.
#[test]
fn a_change_that_waits_for_room_holds_up_no_other_cell() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), PATIENT);
    let cells: Vec<_> = (0..=FULL).map(|number| cell_of_eight(&iommu, function(1, number))).collect();
    let other = cell_of_eight(&iommu, function(0, 0));
    assert!((0..=FULL).all(|number| write(&machine, function(1, number), INPUT, 1)));
    let (&last, full) = cells.split_last().unwrap();
    while_full(
        (&machine, &iommu, &stop),
        full,
        || unmap_eight(&iommu, last),
        || {
            unmap_eight(&iommu, other);
            assert!(!write(&machine, function(0, 0), INPUT, 1));
            assert_eq!(iommu.faults(|_| ()).records, 1);
        },
    );
    assert!((0..=FULL).all(|number| !write(&machine, function(1, number), INPUT, 1)));
    machine.check();
    let before = iommu.statistics().descriptors;
    iommu.map(cells[0], region(INPUT, MEMORY, PAGE, RW)).unwrap();
    assert_eq!(iommu.statistics().descriptors, before, "the unit has nothing to repeat");
}

/// The same where nothing is kept of devices with a device-TLB.
#[test]
fn a_change_waits_for_room_also_without_device_tlbs() {
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let limits = Limits { device_tlbs: 0, ..Limits::DEFAULT };
    let iommu = limited_front(&hal, &of_machine(&machine, &[]).table(), &limits, PATIENT);
    let cells: Vec<_> = (0..=FULL).map(|number| cell_of_eight(&iommu, function(1, number))).collect();
    let (&last, full) = cells.split_last().unwrap();
    while_full((&machine, &iommu, &stop), full, || unmap_eight(&iommu, last), || ());
}

/// What a queue without room was to be asked is not kept, and yet nothing of it is left out.
#[test]
fn a_device_tlb_is_emptied_although_the_queue_was_full() {
    // A device that somebody else had switched on comes, or one that is quarantined goes, but not one that stays;
    // another call repeats the flush first, or not.
    let cases = [(true, false), (false, true), (false, false)].map(|case| [(case, false), (case, true)]);
    for ((comes, goes), repeated) in cases.into_iter().flatten() {
        let machine = machine([UnitConfig::server()]);
        let stop = Stop::new();
        let device = function(0, 3);
        let all_of_its_device_tlb = u64::from(device.requester()) << 32 | 3;
        let asked = Calls::new(Call::Store(all_of_its_device_tlb));
        let before = |call, _: &Machine| {
            stop.look(call);
            asked.look(call);
        };
        let hal = Watched::shared(&machine, before);
        let iommu = enabled_front(&hal, &table_with_ats(&machine), PATIENT);
        let cells: Vec<_> = (0..FULL).map(|number| cell_of_eight(&iommu, function(1, number))).collect();
        let own = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map_shared(own, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
        machine.add_ats(device, 32);
        let assign = || iommu.assign_with(device, own, DeviceConfig { device_tlb: true, messages: 0 });
        if comes {
            // ATS_CTRL.E
            machine.set_config(device, 0x144, 1 << 31);
        } else {
            assign().unwrap();
            assert!(ats_write(&machine, device, INPUT, 1));
            machine.set_device_tlb(device, Answer::Never, 32);
            iommu.unmap(own, range(INPUT, PAGE)).unwrap_err();
            machine.set_device_tlb(device, Answer::After(0), 32);
        }
        asked.take();
        while_full(
            (&machine, &iommu, &stop),
            &cells,
            || match (comes, goes) {
                (true, _) => assign().unwrap(),
                (_, true) => iommu.release(device).unwrap(),
                _ => iommu.unmap(own, range(INPUT + PAGE, PAGE)).unwrap(),
            },
            || {
                if repeated {
                    machine.mend_unit(0);
                    iommu.mute(function(1, 31), true).unwrap();
                }
                assert_eq!(asked.take(), 0);
            },
        );
        assert_eq!(asked.take() > 0, comes || goes, "{comes}, {goes}, repeated: {repeated}");
    }
}

#[test]
fn the_longest_wait_is_reported() {
    const MILLISECOND: u64 = 1_000_000;
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let (cell, device) = (iommu.create_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 3));
    machine.add_ats(device, 32);
    iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
    let unmap = || {
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        iommu.statistics().longest_wait_ns
    };
    assert!((1..MILLISECOND).contains(&unmap()));
    machine.set_device_tlb(device, Answer::After(5 * MILLISECOND), 32);
    let longest = unmap();
    assert!((5 * MILLISECOND..6 * MILLISECOND).contains(&longest), "{longest}");
    machine.set_device_tlb(device, Answer::After(0), 32);
    assert_eq!(unmap(), longest, "shorter ones change nothing");
}

/// Of several units it is the longest wait of any.
#[test]
fn the_longest_wait_is_that_of_whichever_unit_is_slow() {
    const SLOWER: u64 = 5_000_000;
    for slow in 0..2 {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let cells = [0, 1]
            .map(|n: u8| cell_with(&iommu, region(INPUT, MEMORY + u64::from(n) * LARGE, PAGE, RW), function(1 - n, 0)));
        assert!(iommu.statistics().longest_wait_ns < SLOWER);
        machine.break_unit(slow, Defect::Slow(SLOWER));
        for cell in cells {
            iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        }
        assert!(iommu.statistics().longest_wait_ns >= SLOWER, "unit {slow}");
    }
}

/// Also that of a unit that did not answer.
#[test]
fn a_wait_in_vain_is_the_longest() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 3));
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    let longest = iommu.statistics().longest_wait_ns;
    assert!(longest >= Options::default().timeout_ns, "{longest}");
    machine.abandon();
}

/// No limit of time is too short or too long.
#[test]
fn any_limit_of_time_ends() {
    for timeout_ns in [0, 1, u64::MAX - 1, u64::MAX] {
        let machine = machine([UnitConfig::server()]);
        let options = Options { timeout_ns, device_timeout_ns: timeout_ns, ..Options::DEFAULT };
        let device = function(0, 2);
        machine.add_express(device);
        machine.add_reset(device, Reset::Express, 1000);
        let iommu = front(&machine, &of_machine(&machine, &[]).table(), options).unwrap();
        if iommu.enable().is_ok()
            && let Ok(cell) = iommu.create_cell(UNSAFE_INTERRUPTS)
        {
            let _ = iommu.map(cell, region(INPUT, MEMORY, PAGE, RW));
            let _ = iommu.assign(device, cell);
            let _ = iommu.release(device);
            let _ = iommu.device_info(device);
            let _ = iommu.mute(device, true);
        }
        machine.abandon();
    }
}

/// T2: the root cell and another cell want the same memory at the same time: the second waits, and then takes it from the first.
#[test]
fn memory_that_the_root_cell_is_getting_is_waited_for() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let options = Options { timeout_ns: 1_000_000, ..Options::default() };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(function(0, 1), root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let wanted = region(INPUT, MEMORY, PAGE, RW);
    let made = stop.meanwhile(
        || iommu.map(root, region(MEMORY, MEMORY, PAGE, RW)),
        || assert_eq!(iommu.map(cell, wanted).map(drop), Err(Error::InChange { cell: Some(root) })),
    );
    made.unwrap();
    iommu.map(cell, wanted).unwrap();
    iommu.regions(root, |region| panic!("{region}")).unwrap();
}

/// T4: what the root cell was to get by a change that failed, no later change gives it.
#[test]
fn the_root_cell_is_not_granted_later_what_a_change_could_not_grant() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = enabled(&machine);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(function(0, 1), root).unwrap();
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    assert!(iommu.map(root, region(MEMORY, MEMORY, PAGE, RW)).is_err());
    machine.mend_unit(0);
    iommu.map(root, region(MEMORY + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    let mut all = Vec::new();
    iommu.regions(root, |region| all.push(region)).unwrap();
    assert_eq!(all, [region(MEMORY + LARGE, MEMORY + LARGE, PAGE, RW)]);
    machine.abandon();
}
