#![forbid(unsafe_code)]

use core::fmt;

use tock_registers::LocalRegisterCopy;
use tock_registers::interfaces::Readable;

use super::registers::{CAP, ECAP, Registers, VER};
use crate::contract::{DeviceTlbFeatures, Features, InterruptFeatures, TableFormat};
use crate::error::UnitError;
use crate::hal::{Hal, RegisterWindow};
use crate::paging::{Geometry, Hole};

/// What a unit can do: the registers VER, CAP and ECAP, decoded (S 11.4.1 to 11.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Major version; from 6 on there is no invalidation by registers.
    pub major_version: u8,
    /// Minor version.
    pub minor_version: u8,
    /// How many domain-ids there are, 0 among them.
    pub domain_ids: u32,
    /// Structures in memory need a write-buffer flush before the unit sees them (RWBF).
    pub write_buffer_flush: bool,
    /// There is a protected memory region below 4 GiB (PLMR).
    pub protected_low: bool,
    /// There is a protected memory region anywhere (PHMR).
    pub protected_high: bool,
    /// The unit caches entries that are not present (CM).
    pub caching_mode: bool,
    /// Page tables of 3 levels, 39 bits, are supported.
    pub three_levels: bool,
    /// Page tables of 4 levels, 48 bits, are supported.
    pub four_levels: bool,
    /// Page tables of 5 levels, 57 bits, are supported.
    pub five_levels: bool,
    /// Width of an input address (MGAW + 1).
    pub input_bits: u8,
    /// Byte offset of the first fault recording register.
    pub fault_offset: u32,
    /// How many fault recording registers there are, 1 to 256.
    pub fault_records: u16,
    /// The largest page, as the level of its entry: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub max_leaf_level: u8,
    /// Largest address mask of a page-selective invalidation; `None` if there is no such invalidation.
    pub page_selective: Option<u8>,
    /// Invalidations can drain writes.
    pub write_draining: bool,
    /// Invalidations can drain reads.
    pub read_draining: bool,
    /// Setting the root table pointer invalidates by itself (ESRTPS).
    pub root_pointer_invalidates: bool,
    /// The unit's own accesses snoop the CPU's caches (C).
    pub coherent: bool,
    /// There is an invalidation queue (QI).
    pub queued_invalidation: bool,
    /// Device-TLBs are supported (DT).
    pub device_tlb: bool,
    /// Invalidations of device-TLBs are throttled for each physical function, which has to be named (DIT).
    pub device_tlb_throttling: bool,
    /// Page requests of devices are supported (PRS).
    pub page_requests: bool,
    /// Interrupts can be remapped (IR).
    pub interrupt_remapping: bool,
    /// Interrupts can go to CPUs with ids above 255 (EIM).
    pub extended_interrupts: bool,
    /// They are remapped in that mode only (EIMER).
    pub extended_interrupts_only: bool,
    /// They can be posted (PI).
    pub posted_interrupts: bool,
    /// One invalidation of interrupts' entries is of 2^n at most, where this is n (MHMV).
    pub interrupt_block_order: u8,
    /// Setting the pointer to the table of interrupts invalidates by itself (ESIRTPS).
    pub interrupt_pointer_invalidates: bool,
    /// DMA can be made to snoop, whatever the device asks for (SC).
    pub snoop_control: bool,
    /// Byte offset of the registers that invalidate the IOTLB.
    pub iotlb_offset: u32,
    /// All DMA can be aborted without any table (ADMS).
    pub abort_mode: bool,
}

impl Capabilities {
    /// Those of a unit that cannot be used.
    pub(super) const NONE: Self = Self {
        major_version: 0,
        minor_version: 0,
        domain_ids: 1 << 4,
        write_buffer_flush: false,
        protected_low: false,
        protected_high: false,
        caching_mode: false,
        three_levels: false,
        four_levels: false,
        five_levels: false,
        input_bits: 0,
        fault_offset: 0,
        fault_records: 0,
        max_leaf_level: 1,
        page_selective: None,
        write_draining: false,
        read_draining: false,
        root_pointer_invalidates: false,
        coherent: false,
        queued_invalidation: false,
        device_tlb: false,
        device_tlb_throttling: false,
        page_requests: false,
        interrupt_remapping: false,
        extended_interrupts: false,
        extended_interrupts_only: false,
        posted_interrupts: false,
        interrupt_block_order: 0,
        interrupt_pointer_invalidates: false,
        snoop_control: false,
        iotlb_offset: 0,
        abort_mode: false,
    };

    /// Reads and checks them.
    ///
    /// # Errors
    ///
    /// No unit answers there, a value is one that no unit can have, or registers lie outside of the window (R4, R6b).
    pub(super) fn read<H: Hal>(registers: &Registers<'_, H>) -> Result<Self, UnitError> {
        Self::decode(registers.window, registers.ver().get(), registers.cap().get(), registers.ecap().get())
    }

    fn decode(unit: RegisterWindow, ver: u32, cap: u64, ecap: u64) -> Result<Self, UnitError> {
        let dead = |register, value| Err(UnitError::Dead { unit, register, value });
        match (ver, cap, ecap) {
            (0 | u32::MAX, ..) => return dead("VER_REG", ver.into()),
            (_, u64::MAX, _) => return dead("CAP_REG", cap),
            (.., u64::MAX) => return dead("ECAP_REG", ecap),
            _ => {}
        }
        let ver = LocalRegisterCopy::<u32, VER::Register>::new(ver);
        let cap = LocalRegisterCopy::<u64, CAP::Register>::new(cap);
        let ecap = LocalRegisterCopy::<u64, ECAP::Register>::new(ecap);
        let sagaw = cap.read(CAP::SAGAW);
        let capabilities = Self {
            major_version: ver.read(VER::MAX) as u8,
            minor_version: ver.read(VER::MIN) as u8,
            domain_ids: 1 << (4 + 2 * cap.read(CAP::ND)),
            write_buffer_flush: cap.is_set(CAP::RWBF),
            protected_low: cap.is_set(CAP::PLMR),
            protected_high: cap.is_set(CAP::PHMR),
            caching_mode: cap.is_set(CAP::CM),
            three_levels: sagaw & 1 << 1 != 0,
            four_levels: sagaw & 1 << 2 != 0,
            five_levels: sagaw & 1 << 3 != 0,
            input_bits: cap.read(CAP::MGAW) as u8 + 1,
            fault_offset: cap.read(CAP::FRO) as u32 * 16,
            fault_records: cap.read(CAP::NFR) as u16 + 1,
            max_leaf_level: match cap.read(CAP::SSLPS) & 0b11 {
                0b00 | 0b10 => 1,
                0b01 => 2,
                _ => 3,
            },
            page_selective: cap.is_set(CAP::PSI).then(|| cap.read(CAP::MAMV) as u8),
            write_draining: cap.is_set(CAP::DWD),
            read_draining: cap.is_set(CAP::DRD),
            root_pointer_invalidates: cap.is_set(CAP::ESRTPS),
            coherent: ecap.is_set(ECAP::C),
            queued_invalidation: ecap.is_set(ECAP::QI),
            device_tlb: ecap.is_set(ECAP::DT),
            device_tlb_throttling: ecap.is_set(ECAP::DIT),
            page_requests: ecap.is_set(ECAP::PRS),
            interrupt_remapping: ecap.is_set(ECAP::IR),
            extended_interrupts: ecap.is_set(ECAP::EIM),
            extended_interrupts_only: ecap.is_set(ECAP::EIMER),
            posted_interrupts: cap.is_set(CAP::PI),
            interrupt_block_order: ecap.read(ECAP::MHMV) as u8,
            interrupt_pointer_invalidates: cap.is_set(CAP::ESIRTPS),
            snoop_control: ecap.is_set(ECAP::SC),
            iotlb_offset: ecap.read(ECAP::IRO) as u32 * 16,
            abort_mode: ecap.is_set(ECAP::ADMS),
        };
        capabilities.check(unit)
    }

    fn check(self, unit: RegisterWindow) -> Result<Self, UnitError> {
        let unsupported = |register, bit, missing| Err(UnitError::Unsupported { unit, register, bit, missing });
        if self.domain_ids > 1 << 16 {
            return unsupported("CAP_REG", "ND", "known width of domain-ids");
        }
        if self.fault_offset + u32::from(self.fault_records) * 16 > unit.bytes {
            return unsupported("CAP_REG", "FRO", "fault recording register within the unit's window");
        }
        if self.has_invalidation_registers() && self.iotlb_offset + 16 > unit.bytes {
            return unsupported("ECAP_REG", "IRO", "IOTLB register within the unit's window");
        }
        Ok(self)
    }

    /// Caches can be invalidated through registers (R5).
    pub(super) fn has_invalidation_registers(&self) -> bool {
        self.major_version < 6
    }

    /// The unit can abort all DMA until it is given tables: changing to them while translation is on takes ESRTPS (R9).
    pub(super) fn can_abort_meanwhile(&self) -> bool {
        self.abort_mode && self.root_pointer_invalidates && self.queued_invalidation
    }

    /// The same, as far as it matters to those who do not know who made the unit.
    pub(super) fn features(&self, host_bits: u8) -> Features {
        let device_tlbs = DeviceTlbFeatures { throttled: self.device_tlb_throttling };
        let interrupts = InterruptFeatures {
            extended: self.extended_interrupts,
            extended_only: self.extended_interrupts_only,
            posted: self.posted_interrupts,
        };
        Features {
            geometry: self.geometry(host_bits),
            format: TableFormat::SecondStage,
            domain_ids: self.domain_ids,
            snoop_control: self.snoop_control,
            coherent_walks: self.coherent,
            caches_absent: self.caching_mode,
            write_buffer: self.write_buffer_flush,
            // Without a queue, nothing could be invalidated there.
            device_tlbs: (self.device_tlb && self.queued_invalidation).then_some(device_tlbs),
            // As for device-TLBs (R61).
            interrupts: (self.interrupt_remapping && self.queued_invalidation).then_some(interrupts),
        }
    }

    /// The page tables that the unit is given: the fewest levels that reach its input width, the largest pages.
    ///
    /// `None` if it translates nothing (SAGAW = 0, R40), or less than a page.
    pub(crate) fn geometry(&self, host_bits: u8) -> Option<Geometry> {
        let supported = [(3, 39, self.three_levels), (4, 48, self.four_levels), (5, 57, self.five_levels)];
        let mut usable = supported.into_iter().filter(|&(.., supported)| supported);
        let widest = usable.clone().next_back()?;
        let (levels, width, _) = usable.find(|&(_, width, _)| width >= self.input_bits).unwrap_or(widest);
        Geometry::new(levels, self.max_leaf_level, width.min(self.input_bits), host_bits.min(52), &[Hole::INTERRUPTS])
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}.{}, page tables of ", self.major_version, self.minor_version)?;
        let mut separator = "";
        for (levels, supported) in [(3, self.three_levels), (4, self.four_levels), (5, self.five_levels)] {
            if supported {
                write!(f, "{separator}{levels}")?;
                separator = " or ";
            }
        }
        let page = match self.max_leaf_level {
            1 => "4 KiB",
            2 => "2 MiB",
            _ => "1 GiB",
        };
        let records = if self.fault_records == 1 { "fault record" } else { "fault records" };
        write!(
            f,
            "{}levels, {} input bits, pages up to {page}, {} domain-ids, {} {records}",
            if separator.is_empty() { "no " } else { " " },
            self.input_bits,
            self.domain_ids,
            self.fault_records,
        )?;
        let features = [
            (self.queued_invalidation, "queued invalidation"),
            (self.snoop_control, "snoop control"),
            (self.caching_mode, "caching mode"),
            (self.coherent, "page walks that snoop"),
            (!self.coherent, "page walks that do not snoop"),
            (self.device_tlb, "device-TLBs"),
            (self.write_buffer_flush, "write-buffer flush"),
            (self.posted_interrupts, "posted interrupts"),
        ];
        features.iter().filter(|(present, _)| *present).try_for_each(|(_, words)| write!(f, ", {words}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What QEMU 10.0 shows with 48 bits: CAP 00d2008c222f0606, ECAP f00f4a.
    pub(in crate::vtd) const QEMU: Capabilities = Capabilities {
        major_version: 1,
        minor_version: 0,
        domain_ids: 1 << 16,
        write_buffer_flush: false,
        protected_low: false,
        protected_high: false,
        caching_mode: false,
        three_levels: true,
        four_levels: true,
        five_levels: false,
        input_bits: 48,
        fault_offset: 0x220,
        fault_records: 1,
        max_leaf_level: 3,
        page_selective: Some(18),
        write_draining: true,
        read_draining: true,
        root_pointer_invalidates: false,
        coherent: false,
        queued_invalidation: true,
        device_tlb: false,
        device_tlb_throttling: false,
        page_requests: false,
        interrupt_remapping: true,
        extended_interrupts: false,
        extended_interrupts_only: false,
        posted_interrupts: false,
        interrupt_block_order: 15,
        interrupt_pointer_invalidates: false,
        snoop_control: false,
        iotlb_offset: 0xf0,
        abort_mode: false,
    };

    const WINDOW: RegisterWindow = RegisterWindow { base: crate::addr::PhysAddr::zero(), bytes: 4096 };
    const CAP: u64 = 0x00d2_008c_222f_0606;
    const ECAP: u64 = 0xf0_0f4a;

    fn read(ver: u32, cap: u64, ecap: u64) -> Result<Capabilities, UnitError> {
        Capabilities::decode(WINDOW, ver, cap, ecap)
    }

    #[test]
    fn known_units_are_decoded() {
        assert_eq!(read(0x10, CAP, ECAP).unwrap(), QEMU);
        // QEMU 7.2 with its default of 39 bits.
        let narrow = Capabilities { four_levels: false, input_bits: 39, ..QEMU };
        assert_eq!(read(0x10, 0x00d2_008c_2226_0206, ECAP).unwrap(), narrow);
        let all = read(0x65, CAP | 1 << 63 | 0b1_1111 << 4 | 1 << 11, ECAP | 0x95 | 1 << 41).unwrap();
        assert_eq!((all.major_version, all.minor_version), (6, 5));
        assert!(all.root_pointer_invalidates && all.write_buffer_flush && all.protected_low && all.protected_high);
        assert!(
            all.caching_mode
                && all.five_levels
                && all.coherent
                && all.device_tlb
                && all.device_tlb_throttling
                && all.snoop_control
                && all.extended_interrupts
        );
        let of_interrupts = |cap, ecap| {
            let unit = read(0x10, CAP | cap, ECAP & !(0xf << 20) | ecap).unwrap();
            assert_eq!(unit.features(39).interrupts.unwrap().posted, unit.posted_interrupts);
            let flags = (unit.interrupt_pointer_invalidates, unit.extended_interrupts_only, unit.posted_interrupts);
            (flags, unit.interrupt_block_order)
        };
        assert_eq!(of_interrupts(1 << 62, 0), ((true, false, false), 0));
        assert_eq!(of_interrupts(1 << 59, 1 << 61 | 9 << 20), ((false, true, true), 9));
    }

    #[test]
    fn levels_and_pages_are_those_that_the_unit_says() {
        let levels = |bit: u32| {
            let unit = read(0x10, CAP & !(0x1f << 8) | 1 << (8 + bit), ECAP).unwrap();
            [unit.three_levels, unit.four_levels, unit.five_levels]
        };
        assert_eq!([1, 2, 3].map(levels), [[true, false, false], [false, true, false], [false, false, true]]);
        assert_eq!([0, 4].map(levels), [[false; 3]; 2], "reserved");
        let page = |sizes: u64| read(0x10, CAP & !(0xf << 34) | sizes << 34, ECAP).unwrap().max_leaf_level;
        assert_eq!([0b00, 0b01, 0b10, 0b11].map(page), [1, 2, 1, 3], "1 GiB alone is not relied upon");
    }

    #[test]
    fn a_unit_that_does_not_answer_is_named() {
        let dead = |register, value| Err(UnitError::Dead { unit: WINDOW, register, value });
        assert_eq!(read(u32::MAX, CAP, ECAP), dead("VER_REG", u32::MAX.into()));
        assert_eq!(read(0, CAP, ECAP), dead("VER_REG", 0));
        assert_eq!(read(0x10, u64::MAX, ECAP), dead("CAP_REG", u64::MAX));
        assert_eq!(read(0x10, CAP, u64::MAX), dead("ECAP_REG", u64::MAX));
    }

    #[test]
    fn registers_outside_the_window_and_reserved_widths_are_refused() {
        let bit = |cap| match read(0x10, cap, ECAP) {
            Err(UnitError::Unsupported { bit, .. }) => Some(bit),
            _ => None,
        };
        assert_eq!(bit(CAP | 0b111), Some("ND"));
        let fro = |offset: u64| CAP & !(0x3ff << 24) | offset << 24;
        assert_eq!(bit(fro(0xff)), None);
        assert_eq!(bit(fro(0x100)), Some("FRO"));
        assert_eq!(bit(fro(0xff) | 1 << 40), Some("FRO"));
        let iro = |ver, offset: u64| match read(ver, CAP, ECAP & !(0x3ff << 8) | offset << 8) {
            Err(UnitError::Unsupported { bit, .. }) => Some(bit),
            _ => None,
        };
        assert_eq!((iro(0x10, 0xff), iro(0x50, 0x100)), (None, Some("IRO")));
        assert_eq!(iro(0x60, 0x3ff), None, "a version that has no such registers");
    }

    #[test]
    fn the_fewest_levels_that_reach_the_input_width_are_taken() {
        let geometry = |three_levels, four_levels, five_levels, input_bits| {
            let unit = Capabilities { three_levels, four_levels, five_levels, input_bits, ..QEMU };
            unit.geometry(46).map(|geometry| (geometry.levels(), geometry.input_bits()))
        };
        assert_eq!(geometry(true, true, false, 48), Some((4, 48)));
        assert_eq!(geometry(true, true, false, 39), Some((3, 39)));
        assert_eq!(geometry(false, true, false, 39), Some((4, 39)), "MGAW bounds what can be mapped");
        assert_eq!(geometry(true, false, false, 48), Some((3, 39)), "so does the table's width");
        assert_eq!(geometry(true, true, true, 57), Some((5, 57)));
        assert_eq!(geometry(false, false, false, 48), None);
    }

    #[test]
    fn the_words_name_what_matters() {
        assert_eq!(
            QEMU.to_string(),
            "version 1.0, page tables of 3 or 4 levels, 48 input bits, pages up to 1 GiB, 65536 domain-ids, \
             1 fault record, queued invalidation, page walks that do not snoop"
        );
        let none = Capabilities { three_levels: false, four_levels: false, fault_records: 8, coherent: true, ..QEMU };
        assert!(none.to_string().starts_with("version 1.0, page tables of no levels, "));
        assert!(none.to_string().contains("8 fault records") && none.to_string().ends_with(", page walks that snoop"));
        for (max_leaf_level, words) in [(1, "4 KiB"), (2, "2 MiB"), (3, "1 GiB")] {
            let unit = Capabilities { max_leaf_level, ..QEMU }.to_string();
            assert!(unit.contains(&format!("pages up to {words}, ")), "{unit}");
        }
    }
}
