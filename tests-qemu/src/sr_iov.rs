//! A physical function that can have virtual ones: its SR-IOV capability, and the port above it (PCIe 6.0, sections 9.3.3 and
//! 7.5.3.16). Shares no code with the driver.

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam_pc::{Bar, Pc};
use heapless::Vec;

use crate::config_space::{EXPRESS, capability, extended_capability};

/// The number of the capability.
const SR_IOV: u16 = 0x10;

/// Control (section 9.3.3.3): VF Enable, VF Memory Space Enable, ARI Capable Hierarchy.
const CONTROL: u16 = 0x08;
const ENABLE: u32 = 1;
const MEMORY_SPACE: u32 = 1 << 3;
const EXTENDED: u32 = 1 << 4;
/// TotalVFs in bits 31:16 (section 9.3.3.6).
const MOST: u16 = 0x0c;
/// NumVFs in bits 15:0 (section 9.3.3.7).
const COUNT: u16 = 0x10;
/// First VF Offset in bits 15:0, VF Stride in bits 31:16 (sections 9.3.3.9 and 9.3.3.10).
const ROUTING: u16 = 0x14;
/// The six base addresses (section 9.3.3.14): bit 0 for ports, bits 2:1 10b for 64 bits.
const BARS: u16 = 0x24;
const BAR_COUNT: usize = 6;

/// Of the port: header type 1; the bus right below in bits 15:8; the window for memory, with bits 31:20 of its last byte's address in
/// bits 31:20 (PCI-to-PCI bridge 1.2, section 3.2.5).
const HEADER_TYPE: u16 = 0x0c;
const BUSES: u16 = 0x18;
const WINDOW: u16 = 0x20;
/// Device Control 2: ARI Forwarding Enable.
const CONTROL_2: u16 = 0x28;
const FORWARD: u32 = 1 << 5;

/// Nobody may look at virtual functions so long after they were switched on, and so long after they were switched off (section
/// 9.3.3.3.1).
const ON_NS: u64 = 100_000_000;
const OFF_NS: u64 = 1_000_000_000;

/// True if a function has virtual ones that are on.
pub(crate) fn has_virtual_functions(pc: &Pc, function: SourceId) -> bool {
    let control = extended_capability(pc, function, SR_IOV).map(|at| pc.config_read(function, at + CONTROL));
    control.is_some_and(|control| control & ENABLE != 0)
}

/// One such function, whose virtual ones are at places where no memory and no other device is.
#[derive(Debug)]
pub struct SrIov {
    pc: &'static Pc,
    physical: SourceId,
    at: u16,
    /// Where the first function's memory behind each base address is, and how much each has.
    bars: Vec<Option<Bar>, BAR_COUNT>,
}

impl SrIov {
    /// That of a function. Its port passes numbers of functions on that have 8 bits.
    pub fn of(pc: &'static Pc, physical: SourceId) -> Option<Self> {
        let at = extended_capability(pc, physical, SR_IOV)?;
        let is_above = |function: &SourceId| {
            pc.config_read(*function, HEADER_TYPE) >> 16 & 0x7f == 1
                && (pc.config_read(*function, BUSES) >> 8) as u8 == physical.bus()
        };
        let port = pc.functions().find(is_above)?;
        let control = capability(pc, port, EXPRESS)? + CONTROL_2;
        let forward = (pc.config_read(port, control) & 0xffff) | FORWARD;
        // SAFETY: it reaches more functions, and each as before.
        unsafe { pc.config_write(port, control, forward) };

        let mut it = Self { pc, physical, at, bars: Vec::new() };
        // Firmware has placed nothing behind the function's own memory.
        let own = (0..BAR_COUNT as u8).filter_map(|index| pc.bar(physical, index));
        let start = own.map(|bar| bar.base.as_u64() + bar.bytes).max()?;
        let end = u64::from(pc.config_read(port, WINDOW) | 0xf_ffff) + 1;
        (it.place(start)? <= end).then_some(it)
    }

    /// Gives the memory of virtual functions, as many as there may be, places from `start` on, and says where they end.
    fn place(&mut self, start: u64) -> Option<u64> {
        let (most, mut next) = (u64::from(self.read(MOST) >> 16), start);
        while self.bars.len() < BAR_COUNT {
            let at = BARS + 4 * self.bars.len() as u16;
            self.write(at, u32::MAX);
            let mask = self.read(at);
            if mask & 7 != 4 || self.bars.len() + 2 > BAR_COUNT {
                // None, or of a kind that is not in use here.
                self.write(at, 0);
                let _ = self.bars.push(None);
                continue;
            }
            let bytes = u64::from((mask & !0xf).wrapping_neg());
            let base = next.checked_next_multiple_of(bytes)?;
            self.write(at, base as u32);
            self.write(at + 4, (base >> 32) as u32);
            next = base.checked_add(most.checked_mul(bytes)?)?;
            self.bars.extend([Some(Bar { base: PhysAddr::try_new(base).ok()?, bytes }), None]);
        }
        Some(next)
    }

    /// Switches so many virtual functions on. It has none before.
    pub fn enable(&self, count: u16) {
        // First VF Offset and VF Stride may depend on either.
        self.write(CONTROL, EXTENDED);
        self.write(COUNT, count.into());
        self.write(CONTROL, EXTENDED | MEMORY_SPACE | ENABLE);
        self.pc.delay_ns(ON_NS);
    }

    /// Switches all of them off.
    pub fn disable(&self) {
        self.write(CONTROL, EXTENDED);
        self.pc.delay_ns(OFF_NS);
    }

    /// Who the requests of a virtual function come from (section 9.2.1.2).
    pub fn source(&self, number: u16) -> SourceId {
        let routing = self.read(ROUTING);
        let (first, stride) = (routing as u16, (routing >> 16) as u16);
        let requester = self.physical.requester().wrapping_add(first).wrapping_add(stride.wrapping_mul(number));
        SourceId::from_requester(self.physical.segment(), requester)
    }

    /// Where a virtual function's memory behind a base address is.
    pub fn bar(&self, number: u16, index: usize) -> Option<Bar> {
        let Bar { base, bytes } = (*self.bars.get(index)?)?;
        Some(Bar { base: PhysAddr::try_new(base.as_u64() + u64::from(number) * bytes).ok()?, bytes })
    }

    fn read(&self, offset: u16) -> u32 {
        self.pc.config_read(self.physical, self.at + offset)
    }

    fn write(&self, offset: u16, value: u32) {
        // SAFETY: virtual functions send nothing before they are bus masters, and answer where no memory is.
        unsafe { self.pc.config_write(self.physical, self.at + offset, value) };
    }
}
