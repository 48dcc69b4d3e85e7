//! A hand-back that failed: what is left of it, what the next call makes of that, and what only a reset ends.

use std::cell::Cell;

use cofferdam::addr::PhysAddr;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, UnitState};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use super::audit::audit;
use super::given_back::{CARD, CFI, DISK, GSTS, IRE, MEMORY, formerly, register, switch, taker};
use super::hand_back::{registers, root_with, running};
use super::interrupts::*;

/// A word of a queue of a type that there is not.
const NO_DESCRIPTOR: u64 = 0xf;
/// Which of the [`registers`] it is.
const IQH: usize = 5;
const IQA: usize = 7;
/// TES, QIES and IRES.
const ON: u32 = 1 << 31 | 1 << 26 | 1 << 25;

thread_local! {
    /// The queue of a former owner in which there is no descriptor.
    static SPOILT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Accesses until the unit is gone.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    static SLOW: Cell<bool> = const { Cell::new(false) };
}

type Looks = dyn Fn(Call, &Machine);

/// A server whose former owner's queue can be spoilt.
fn spoilt() -> Watched<Machine, Looks> {
    Watched::new(machine([UnitConfig::server()]), |call: Call, machine: &Machine| {
        if let (Call::Register, Some(queue)) = (call, SPOILT.get()) {
            // SAFETY: the former owner's queue is there.
            let first = unsafe { machine.phys_to_virt(PhysAddr::new(queue)) };
            // SAFETY: as above, and nobody else writes there.
            unsafe { machine.store(first, NO_DESCRIPTOR) };
            machine.fence();
        }
    })
}

fn is_refused(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Unit(UnitError::Queue { bit: "IQE", slot: 0, .. })))
}

/// The unit finds what is no descriptor in its former owner's queue: that is said each time, and the driver may have it again.
#[test]
fn an_error_in_a_former_owners_queue_leaves_the_unit_to_be_taken_again() {
    for disabled in [false, true] {
        let hal = spoilt();
        let machine = &hal.machine;
        let _former = formerly(machine, 0);
        let before = registers(machine, 0);
        let iommu = taker(&hal, machine);
        let root = root_with(&iommu, &[DISK], &[], CONFIG);
        iommu.enable().unwrap();
        SPOILT.set(Some(before[IQA] & !0xfff));
        let refused = iommu.hand_back();
        SPOILT.set(None);
        assert!(is_refused(&refused), "{refused:?}");
        assert_eq!(states(&iommu), [UnitState::Off], "the driver has nothing of it");
        assert!(is_refused(&iommu.hand_back()), "nobody has mended the queue");
        if disabled {
            // It goes by what is its former owner's.
            assert!(iommu.disable().is_err());
        }
        iommu.enable().unwrap();
        iommu.commit(&[Edit::Assign(CARD, root, DeviceConfig::default())]).unwrap();
        assert_eq!(audit(&iommu), []);
        assert!(write(machine, CARD, MEMORY, 1) && !write(machine, DISK, MEMORY, 1));
        iommu.hand_back().unwrap();
        assert_eq!(registers(machine, 0), before);
        iommu.enable().unwrap();
        iommu.disable().unwrap();
        hal.machine.abandon();
    }
}

#[test]
fn where_a_queue_is_refused_all_else_is_given_back() {
    let hal = spoilt();
    let machine = &hal.machine;
    running(machine, 0);
    switch(machine, IRE, false);
    switch(machine, CFI, true);
    machine.take_violations();
    let mut before = registers(machine, 0);
    let iommu = taker(&hal, machine);
    iommu.enable().unwrap();
    SPOILT.set(Some(before[IQA] & !0xfff));
    assert!(is_refused(&iommu.hand_back()));
    SPOILT.set(None);
    before[IQH] = 0;
    assert_eq!(registers(machine, 0), before, "but where it stands in its queue");
    hal.machine.abandon();
}

/// A command that a unit has not confirmed may still be under way, and only a reset ends that.
#[test]
fn a_unit_that_is_late_at_being_given_back_is_not_taken_again_without_a_reset() {
    for late in ["QIES", "CFIS"] {
        let hal = Watched::new(machine([UnitConfig::server()]), |call: Call, machine: &Machine| {
            // Once nothing of the driver's is on.
            if SLOW.get() && call == Call::Register && register(machine, GSTS) & ON == 0 {
                machine.break_unit(0, Defect::Slow(1_000_000));
            }
        });
        let machine = &hal.machine;
        if late == "QIES" {
            running(machine, 0);
            switch(machine, IRE, false);
        } else {
            switch(machine, CFI, true);
        }
        machine.take_violations();
        let iommu = front(&hal, &machine.dmar(), Options { timeout_ns: 200_000, ..TAKES_OVER }).unwrap();
        if late == "CFIS" {
            iommu.remap_interrupts(&[0], false).unwrap();
        }
        iommu.enable().unwrap();
        SLOW.set(true);
        let result = iommu.hand_back();
        SLOW.set(false);
        assert!(matches!(result, Err(Error::Unit(UnitError::Timeout { bit, .. })) if bit == late), "{result:?}");
        machine.mend_unit(0);
        machine.take_violations();
        assert!(matches!(iommu.enable(), Err(Error::Unit(UnitError::Failed { .. }))), "{late}");
        assert_eq!(machine.violations().len(), 0, "{late}");
        machine.reset_unit(0);
        iommu.enable().unwrap();
        hal.machine.abandon();
    }
}

/// Gone at the last look, when the driver has nothing of it any more: it is the driver's again after a reset.
#[test]
fn a_unit_that_is_gone_at_any_access_of_hand_back_or_disable_comes_back_with_a_reset() {
    for is_disabled in [false, true] {
        let gone_at = |nth: u32| {
            let hal = Watched::new(machine([UnitConfig::server()]), |_: Call, machine: &Machine| {
                if LEFT.get() == Some(0) {
                    machine.break_unit(0, Defect::AllOnes);
                }
                LEFT.set(LEFT.get().map(|left| left.wrapping_sub(1)));
            });
            let machine = &hal.machine;
            let iommu = front(&hal, &machine.dmar(), Options { timeout_ns: 200_000, ..TAKES_OVER }).unwrap();
            iommu.enable().unwrap();
            LEFT.set(Some(nth));
            let result = if is_disabled { iommu.disable() } else { iommu.hand_back() };
            let left = LEFT.take().unwrap_or_default();
            if result.is_err() {
                machine.mend_unit(0);
                machine.reset_unit(0);
                iommu.enable().unwrap_or_else(|error| panic!("access {nth}, {result:?}: {error}"));
                assert_eq!(states(&iommu), [UnitState::On]);
            }
            hal.machine.abandon();
            (result, left)
        };
        let (result, left) = gone_at(u32::MAX);
        result.unwrap();
        let failed = (0..u32::MAX - left).filter(|nth| gone_at(*nth).0.is_err()).count();
        assert!(failed > 20, "{failed}");
    }
}
