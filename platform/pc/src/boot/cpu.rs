//! The start of a CPU other than the first: from real mode to [`cpus::run`].

use core::arch::global_asm;
use core::slice;

use super::CPU_PAGE;
use crate::cpus;

global_asm!(
    include_str!("cpu.s"),
    page = const CPU_PAGE,
    stack = sym cpus::STACK,
    run = sym cpus::run,
    options(att_syntax)
);

unsafe extern "C" {
    static cpu_start: u8;
    static cpu_start_end: u8;
}

/// What has to be copied to [`CPU_PAGE`].
pub(crate) fn cpu_code() -> &'static [u8] {
    let (first, end) = (&raw const cpu_start, &raw const cpu_start_end);
    // SAFETY: both symbols are of the same section, which nobody writes.
    unsafe { slice::from_raw_parts(first, end.addr() - first.addr()) }
}
