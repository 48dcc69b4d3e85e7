//! Devices' own registers and tables for messages, written for those who want that.

use std::ptr::NonNull;

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam::interrupt::Route;
use cofferdam::iommu::{Error, Unroutable};
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::machine::*;

use super::interrupts::*;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);

/// A machine whose card has MSI for 4 messages and MSI-X for 8, with its table at 0xfeb0_2000.
fn with_card() -> Machine {
    let machine = machine([UnitConfig::server()]);
    for (offset, value) in [
        (4, 1 << 20),
        (0x10, 0xfeb0_0000),
        (0x34, 0xb0),
        (0xb0, 0xc005 | 1 << 23 | 2 << 17),
        (0xc0, 0x11 | 7 << 16),
        (0xc4, 0x2000),
    ] {
        machine.set_config(CARD, offset, value);
    }
    machine
}

fn reason(result: Result<(), Error>) -> Option<Unroutable> {
    match result {
        Ok(()) => None,
        Err(Error::Route { reason, .. }) => Some(reason),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_table_of_msi_x_has_an_entry_for_each_message() {
    let machine = with_card();
    let iommu = remapping(&machine, false);
    let cell = iommu.create_cell(CONFIG).unwrap();
    let table = iommu.msi_x_table(CARD).unwrap();
    assert_eq!((table.address, table.entries), (PhysAddr::new(0xfeb0_2000), 8));
    let mut memory = [[7_u32; 4]; 8];
    let at = NonNull::from(&mut memory).cast();
    // SAFETY: the memory has all entries.
    let program = |device| reason(unsafe { iommu.program_msi_x(device, at) });
    assert_eq!(program(CARD), Some(Unroutable::NotHeld));
    assert_eq!(memory, [[7; 4]; 8], "nothing is written");
    iommu.assign_with(CARD, cell, messages(4)).unwrap();
    iommu.assign_with(OTHER, cell, messages(2)).unwrap();
    assert_eq!((program(CARD), program(OTHER)), (None, Some(Unroutable::NoMsiX)));
    for (index, entry) in memory.iter().enumerate() {
        if index < 4 {
            let message = iommu.message(of(CARD, index as u16)).unwrap();
            assert_eq!(*entry, [message.address as u32, (message.address >> 32) as u32, message.data, 0]);
            iommu.route(cell, of(CARD, index as u16), Route::to(2, 0x41 + index as u8)).unwrap();
            assert_eq!(send(&machine, CARD, message, 0), Ok((2, 0x41 + index as u32)));
        } else {
            assert_eq!(*entry, [7, 7, 7, 1], "{index} is masked");
        }
    }
    assert_eq!(machine.config_read(CARD, 0xc0) >> 30, 2, "on, and not masked");
    assert_eq!(reason(iommu.msi_x_table(OTHER).map(drop)), Some(Unroutable::NoMsiX));
    machine.check();
}

#[test]
fn registers_of_msi_have_what_message_0_is() {
    let machine = with_card();
    let iommu = remapping(&machine, false);
    let cell = iommu.create_cell(CONFIG).unwrap();
    assert_eq!(reason(iommu.program_msi(CARD)), Some(Unroutable::NotHeld));
    iommu.assign_with(OTHER, cell, messages(1)).unwrap();
    assert_eq!(reason(iommu.program_msi(OTHER)), Some(Unroutable::NoMsi));
    iommu.assign_with(CARD, cell, messages(2)).unwrap();
    assert_eq!(reason(iommu.program_msi(CARD)), None);
    let message = iommu.message(of(CARD, 0)).unwrap();
    let words = [0xb4, 0xb8, 0xbc].map(|offset| machine.config_read(CARD, offset));
    assert_eq!(words, [message.address as u32, (message.address >> 32) as u32, message.data]);
    assert_eq!(machine.config_read(CARD, 0xb0), 0xc005 | 1 << 23 | 2 << 17 | 1 << 20 | 1 << 16, "two of four");
    machine.check();
}
