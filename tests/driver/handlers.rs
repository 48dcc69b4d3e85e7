//! Handlers of interrupts that a platform lets in where a call waits, in `Hal::pause`: they run within the call that they interrupt.

use std::cell::Cell;

use cofferdam::CellId;
use cofferdam::addr::Rights;
use cofferdam::iommu::{Error, Options};
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

type Shared = Watched<Machine, dyn Fn(Call, &Machine) + Sync>;
type Interrupted = (&'static Front<&'static Shared>, [CellId; 2]);

const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

thread_local! {
    static INTERRUPTED: Cell<Option<Interrupted>> = const { Cell::new(None) };
}

/// Makes calls of all kinds but those that switch units, while a change of the first cell waits for its unit.
fn handle(call: Call, machine: &Machine) {
    let Some((iommu, [own, other])) = INTERRUPTED.get().filter(|_| call == Call::Pause) else { return };
    INTERRUPTED.set(None);
    iommu.unmap(other, range(INPUT, PAGE)).unwrap();
    assert!(!write(machine, function(0, 2), INPUT, 1));
    assert_eq!(iommu.faults(|_| ()).records, 1);
    assert_eq!(iommu.unmap(own, range(INPUT, PAGE)), Err(Error::InChange { cell: Some(own) }));
    assert_eq!(iommu.audit(|_| ()), Err(Error::InChange { cell: Some(own) }));
    assert_eq!(iommu.disable(), Err(Error::InChange { cell: Some(own) }));
    assert!(iommu.statistics().descriptors != 0);
    iommu.device_info(function(0, 2)).unwrap();
    let third = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(function(0, 3), third).unwrap();
    iommu.destroy_cell(third).unwrap();
}

#[test]
fn a_handler_makes_changes_while_a_change_waits_on_its_cpu() {
    let machine = machine([UnitConfig::server()]);
    let hal: &'static Shared = Box::leak(Box::new(Watched::shared(machine, handle)));
    let options = Options { timeout_ns: 1_000_000, ..Options::default() };
    let iommu = enabled_front(hal, &of_machine(&hal.machine, &[]).table(), options);
    let iommu = &*Box::leak(Box::new(iommu));
    let cells = [1, 2].map(|number| {
        let own = region(INPUT, MEMORY + u64::from(number) * LARGE, PAGE, Rights::all());
        cell_with(iommu, own, function(0, number))
    });
    INTERRUPTED.set(Some((iommu, cells)));
    iommu.unmap(cells[0], range(INPUT, PAGE)).unwrap();
    assert!(INTERRUPTED.get().is_none(), "no handler ran");
    assert!(!write(&hal.machine, function(0, 1), INPUT, 1));
    assert_eq!(iommu.audit(|difference| panic!("{difference}")).unwrap().differences, 0);
}
