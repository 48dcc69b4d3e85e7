//! A machine whose one unit is mapped nowhere.

use core::ffi::c_void;
use core::ptr::null_mut;
use std::vec::Vec;

use crate::flat::Range;

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_allocate(_: u8) -> u64 {
    u64::MAX
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_free(_: u64, _: u8) {}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_own_memory(_: u64, _: u64, _: *mut Range) -> i32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_phys_to_virt(_: u64) -> *mut c_void {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_word_at(_: u64, _: *mut u64) -> i32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_map_registers(_: u64, _: u32) -> *mut c_void {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_config_read(_: u32, _: u16) -> u32 {
    u32::MAX
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_config_write(_: u32, _: u16, _: u32) {}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_now_ns() -> u64 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cofferdam_platform_pause() {}

/// A DMAR with one unit that takes all of segment 0.
pub(super) fn dmar() -> Vec<u8> {
    let mut table = Vec::from(*b"DMAR");
    table.extend(64_u32.to_le_bytes());
    table.resize(48, 0);
    (table[8], table[36]) = (1, 38);
    // A DRHD of 16 bytes, with all that is not listed; its registers.
    table.extend([0, 0, 16, 0, 1, 0, 0, 0]);
    table.extend(0xfed9_0000_u64.to_le_bytes());
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = 0_u8.wrapping_sub(sum);
    table
}
