//! Suspend to RAM (ACPI 6.5, sections 4.8.3, 5.2.9, 5.2.10 and 16.1.3): the machine is switched off but for its memory, until the
//! real-time clock wakes it.

use core::ptr;

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use heapless::Vec;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use crate::acpi::Fadt;
use crate::boot::{CPU_PAGE, sleep_now, wake_code};
use crate::memory::PAGE;
use crate::{Pc, cpus, pci, serial};

/// The PM1 registers: in status and enable, bit 10 is of the real-time clock; in control, SLP_TYP is in bits 12:10 and SLP_EN in 13.
const BY_CLOCK: u16 = 1 << 10;
const CLEAR_ALL: u16 = 0xffff;
const SLEEP: u32 = 1 << 13;
/// SLP_TYP of S3, as QEMU's DSDT has it in \_S3; which is the only one that this sleeps in.
const S3: u32 = 1 << 10;
const TYPE: u32 = 0b111 << 10;

/// Registers of the real-time clock (ICH9 datasheet, section 13.6): seconds, the alarm's seconds, minutes and hours, B and C.
const SECONDS: u8 = 0;
const ALARM: [u8; 3] = [1, 3, 5];
const B: u8 = 0xb;
const C: u8 = 0xc;
/// B: the alarm interrupts. In the alarm: whatever the clock shows.
const ALARM_ON: u8 = 1 << 5;
const ANY: u8 = 0xff;

/// The host bridge of QEMU's q35, and the registers that say where configuration space is mapped (Intel 3 Series Express Chipset
/// Family Datasheet, section 5.1.15): the upper half first.
const HOST_BRIDGE: SourceId = SourceId::from_requester(0, 0);
const Q35: u32 = 0x29c0_8086;
const MAPPED_AT: [u16; 2] = [0x64, 0x60];

/// Base address registers of an ordinary function.
const BARS: [u16; 6] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24];

impl Pc {
    /// Sleeps for one or two seconds. The other CPUs do not run afterwards. Devices are as after a reset, and answer to their memory
    /// where they did before, but none is a bus master; remapping units are as after a reset, too. Memory is as it was. Once: it does not
    /// have the chipset answer at the ports again that it sleeps by.
    ///
    /// `None` if the machine cannot: it is none of QEMU's, the firmware says not how, or there is no memory for a copy of the image
    /// below 4 GiB.
    pub fn sleep(&self) -> Option<()> {
        let fadt = self.table::<Fadt>().ok()??;
        let dword = |at: usize| Some(u32::from_le_bytes(*fadt.get(at..)?.first_chunk()?)).filter(|value| *value != 0);
        let (facs, events, control) = (dword(36)?, dword(56)? as u16, dword(64)?);
        let enable = events + u16::from(*fadt.get(88)?) / 2;
        let copy = self.prepare_to_wake(facs)?;
        let functions: Vec<(SourceId, [u32; 6]), 16> = self
            .functions()
            .filter(|&function| self.config_read(function, pci::HEADER_TYPE) >> 16 & 0x7f == 0)
            .take(16)
            .map(|function| (function, BARS.map(|bar| self.config_read(function, bar))))
            .collect();
        let mapped_at = MAPPED_AT.map(|register| self.config_read(HOST_BRIDGE, register));
        if self.config_read(HOST_BRIDGE, 0) != Q35 {
            return None;
        }
        interrupts::disable();
        set_alarm();
        // SAFETY: the firmware says that these are the PM1 registers, and nobody else uses them.
        unsafe { Port::new(events).write(CLEAR_ALL) };
        // SAFETY: as above.
        unsafe { Port::new(enable).write(BY_CLOCK) };
        // SAFETY: as above.
        let before = unsafe { Port::<u16>::new(control as u16).read() };
        // SAFETY: `prepare_to_wake` has made room, and put the code to its page; the clock wakes the machine.
        unsafe { sleep_now(copy, control, u32::from(before) & !TYPE | S3 | SLEEP) };
        serial::init();
        cpus::wake();
        MAPPED_AT.into_iter().zip(mapped_at).for_each(|(register, value)| config_write_by_port(register, value));
        for (function, bars) in functions {
            for (bar, value) in BARS.into_iter().zip(bars) {
                // SAFETY: the function answers where it did before.
                unsafe { self.config_write(function, bar, value) };
            }
            self.answer(function);
        }
        self.take_serial();
        Some(())
    }

    /// Puts the code to wake to its page, and tells firmware of it. Where the image is to be copied comes back.
    fn prepare_to_wake(&self, facs: u32) -> Option<u64> {
        let page = self.cpu_page()?;
        let (code, image) = (wake_code(), self.image());
        let copy = self.allocate_block(image.end - image.start, PAGE as u64)?.base().as_u64();
        let address = u32::try_from(copy).ok()?.to_le_bytes();
        // SAFETY: the code is shorter than the page, which is nobody else's memory.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), page, code.len()) };
        // SAFETY: as above.
        let last = unsafe { page.add(code.len().checked_sub(address.len())?) };
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(address.as_ptr(), last, address.len()) };
        let vector: *mut u32 = ptr::with_exposed_provenance_mut(facs as usize + 12);
        // SAFETY: the firmware says that its FACS is there, which is memory, of which the system sets the waking vector.
        unsafe { vector.write_volatile(CPU_PAGE) };
        Some(copy)
    }
}

/// Sets the alarm: two seconds from now, so that it does not come before the machine sleeps. All numbers are binary-coded decimals.
fn set_alarm() {
    let now = clock_read(SECONDS);
    let then = ((now >> 4) * 10 + (now & 0xf) + 2) % 60;
    for (register, value) in ALARM.into_iter().zip([(then / 10) * 16 + then % 10, ANY, ANY]) {
        clock_write(register, value);
    }
    clock_write(B, clock_read(B) | ALARM_ON);
    // What was pending is cleared by that.
    clock_read(C);
}

/// Writes a register of the host bridge where configuration space is not mapped.
fn config_write_by_port(register: u16, value: u32) {
    // SAFETY: each PC has this way to configuration space, and nobody else uses it.
    unsafe { Port::new(0xcf8).write(1 << 31 | u32::from(register)) };
    // SAFETY: as above; the register is as it was before.
    unsafe { Port::new(0xcfc).write(value) };
}

fn clock_read(register: u8) -> u8 {
    // SAFETY: each PC has its real-time clock there, and nobody else uses it.
    unsafe { Port::<u8>::new(0x70).write(register) };
    // SAFETY: as above.
    unsafe { Port::<u8>::new(0x71).read() }
}

fn clock_write(register: u8, value: u8) {
    // SAFETY: as above; an alarm harms nobody.
    unsafe { Port::<u8>::new(0x70).write(register) };
    // SAFETY: as above.
    unsafe { Port::<u8>::new(0x71).write(value) };
}
