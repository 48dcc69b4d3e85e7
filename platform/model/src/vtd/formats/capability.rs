//! What a unit says of itself: VER, CAP and ECAP (sections 11.4.1 to 11.4.3).
#![forbid(unsafe_code)]

use crate::memory::frames::View;

/// Version and capability registers, with what follows from them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capability {
    pub(crate) ver: u32,
    pub(crate) cap: u64,
    pub(crate) ecap: u64,
    /// Host address width in bits (section 8.1).
    pub(crate) haw: u8,
}

impl Capability {
    fn cap(&self, shift: u32, width: u32) -> u64 {
        self.cap >> shift & ((1 << width) - 1)
    }

    fn ecap(&self, shift: u32, width: u32) -> u64 {
        self.ecap >> shift & ((1 << width) - 1)
    }

    pub(crate) fn major(&self) -> u32 {
        self.ver >> 4 & 0xf
    }

    /// CAP.ND: bits of a domain-id.
    pub(crate) fn domain_bits(&self) -> u32 {
        4 + 2 * self.cap(0, 3) as u32
    }

    pub(crate) fn needs_write_buffer_flush(&self) -> bool {
        self.cap(4, 1) != 0
    }

    pub(crate) fn has_protected_low(&self) -> bool {
        self.cap(5, 1) != 0
    }

    pub(crate) fn has_protected_high(&self) -> bool {
        self.cap(6, 1) != 0
    }

    pub(crate) fn caching_mode(&self) -> bool {
        self.cap(7, 1) != 0
    }

    /// CAP.SAGAW: true if page tables of that many levels are supported.
    pub(crate) fn levels(&self, levels: u8) -> bool {
        (3..=5).contains(&levels) && self.cap(8, 5) >> (levels - 2) & 1 != 0
    }

    pub(crate) fn can_translate(&self) -> bool {
        (3..=5).any(|levels| self.levels(levels))
    }

    /// CAP.MGAW, in bits.
    pub(crate) fn guest_width(&self) -> u8 {
        self.cap(16, 6) as u8 + 1
    }

    /// CAP.FRO: where the fault records are.
    pub(crate) fn fault_offset(&self) -> u32 {
        self.cap(24, 10) as u32 * 16
    }

    /// CAP.NFR: how many there are.
    pub(crate) fn fault_records(&self) -> usize {
        self.cap(40, 8) as usize + 1
    }

    /// Where in the fault records a register is, if it is one of them.
    pub(crate) fn fault_record(&self, at: u32) -> Option<u32> {
        let bytes = self.fault_records() as u32 * 16;
        at.checked_sub(self.fault_offset()).filter(|at| *at < bytes)
    }

    /// CAP.SSLPS: true if a leaf at that level is supported; level 1 is 4 KiB.
    pub(crate) fn leaf(&self, level: u8) -> bool {
        match level {
            1 => true,
            2 | 3 => self.cap(34, 4) >> (level - 2) & 1 != 0,
            _ => false,
        }
    }

    pub(crate) fn page_selective(&self) -> bool {
        self.cap(39, 1) != 0
    }

    pub(crate) fn max_address_mask(&self) -> u8 {
        self.cap(48, 6) as u8
    }

    pub(crate) fn drains_writes(&self) -> bool {
        self.cap(54, 1) != 0
    }

    pub(crate) fn drains_reads(&self) -> bool {
        self.cap(55, 1) != 0
    }

    /// ECAP.PRS: devices may request pages.
    pub(crate) fn has_page_requests(&self) -> bool {
        self.ecap(29, 1) != 0
    }

    /// CAP.ESIRTPS: a new interrupt table drops all cached entries.
    pub(crate) fn interrupt_table_flushes(&self) -> bool {
        self.cap(62, 1) != 0
    }

    /// CAP.ESRTPS: a new root table drops all cached translations.
    pub(crate) fn root_table_flushes(&self) -> bool {
        self.cap(63, 1) != 0
    }

    /// ECAP.C.
    pub(crate) fn view(&self) -> View {
        if self.ecap(0, 1) != 0 { View::Snooped } else { View::Memory }
    }

    pub(crate) fn has_queue(&self) -> bool {
        self.ecap(1, 1) != 0
    }

    pub(crate) fn has_device_tlb(&self) -> bool {
        self.ecap(2, 1) != 0
    }

    pub(crate) fn remaps_interrupts(&self) -> bool {
        self.ecap(3, 1) != 0
    }

    /// CAP.PI.
    pub(crate) fn posts_interrupts(&self) -> bool {
        self.remaps_interrupts() && self.cap(59, 1) != 0
    }

    pub(crate) fn has_extended_interrupts(&self) -> bool {
        self.ecap(4, 1) != 0
    }

    pub(crate) fn passes_through(&self) -> bool {
        self.ecap(6, 1) != 0
    }

    pub(crate) fn snoop_control(&self) -> bool {
        self.ecap(7, 1) != 0
    }

    /// ECAP.IRO: where the IOTLB registers are.
    pub(crate) fn iotlb_offset(&self) -> u32 {
        self.ecap(8, 10) as u32 * 16
    }

    /// ECAP.MHMV.
    pub(crate) fn max_index_mask(&self) -> u8 {
        self.ecap(20, 4) as u8
    }

    pub(crate) fn throttles_device_tlb(&self) -> bool {
        self.ecap(41, 1) != 0
    }

    pub(crate) fn drains_page_requests(&self) -> bool {
        self.ecap(42, 1) != 0
    }

    pub(crate) fn scalable(&self) -> bool {
        self.ecap(43, 1) != 0
    }

    pub(crate) fn aborts(&self) -> bool {
        self.ecap(52, 1) != 0
    }
}
