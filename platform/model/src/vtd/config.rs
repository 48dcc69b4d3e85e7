//! Units to choose from.
#![forbid(unsafe_code)]

use cofferdam::addr::PhysAddr;
use cofferdam::hal::RegisterWindow;

/// One remapping unit of a machine: registers that say what it can do, and what it serves.
///
/// All fields are free to choose. The presets are starting points.
#[derive(Clone, Debug)]
pub struct UnitConfig {
    /// Physical address of the registers; set by [`Machine::new`](crate::Machine::new) if it is 0.
    pub base: u64,
    /// Size of the register set; a multiple of 4 KiB.
    pub bytes: u32,
    /// PCI segment.
    pub segment: u16,
    /// Buses that the unit serves, but for functions that another unit names.
    pub buses: Vec<u8>,
    /// Functions that the unit serves, each as its bus, and its device in bits 7:3 and function in bits 2:0. A unit that names
    /// neither serves all of the segment that no other unit does.
    pub functions: Vec<(u8, u8)>,
    /// VER_REG (section 11.4.1).
    pub version: u32,
    /// CAP_REG (section 11.4.2).
    pub cap: u64,
    /// ECAP_REG (section 11.4.3).
    pub ecap: u64,
    /// Firmware left it running: translation on with a root table that blocks everything, and an empty queue.
    pub found_running: bool,
    /// It has write buffers although CAP.RWBF says that none need a flush, as some chipsets do.
    pub unsaid_write_buffers: bool,
    /// Of an event's data it keeps a vector and the delivery mode's lowest bit, so that an event is no NMI (section 5.1.6).
    pub narrow_events: bool,
    /// Rules that this unit's machine does not hold the driver to.
    pub forgives: Vec<&'static str>,
}

impl UnitConfig {
    fn new(version: u32, cap: u64, ecap: u64) -> Self {
        let (buses, functions, forgives) = (Vec::new(), Vec::new(), Vec::new());
        let (found_running, unsaid_write_buffers, narrow_events) = (false, false, false);
        Self {
            base: 0,
            bytes: 4096,
            segment: 0,
            buses,
            functions,
            version,
            cap,
            ecap,
            found_running,
            unsaid_write_buffers,
            narrow_events,
            forgives,
        }
    }

    /// A server: 4 and 5 levels, all page sizes, snoop control, coherent walks, device-TLBs, 8 fault records.
    pub fn server() -> Self {
        // ND 6, SAGAW 4 and 5 levels, MGAW 57, FRO 0x400, 2 MiB and 1 GiB, PSI, NFR 8, MAMV 18, draining.
        let cap = 6 | 0b01100 << 8 | 56 << 16 | 1 << 22 | 0x40 << 24 | 3 << 34 | 1 << 39 | 7 << 40 | 18 << 48 | 3 << 54;
        // C, QI, DT, IR, EIM, PT, SC, IRO 0x500, MHMV 15.
        Self::new(0x10, cap, 0b1101_1111 | 0x50 << 8 | 15 << 20)
    }

    /// A client's unit for all but graphics: 3 and 4 levels, walks that do not snoop, protected memory, one record.
    pub fn client() -> Self {
        let cap = 2 | 3 << 5 | 0b00110 << 8 | 38 << 16 | 1 << 22 | 0x22 << 24 | 3 << 34 | 1 << 39 | 18 << 48 | 3 << 54;
        // QI, IR, EIM, PT, SC; IRO 0x50.
        Self::new(0x10, cap, 0b1101_1010 | 5 << 8 | 15 << 20)
    }

    /// A client's unit for graphics: as [`client`](Self::client), without snoop control, and 4 KiB pages only.
    pub fn client_graphics() -> Self {
        let client = Self::client();
        Self { cap: client.cap & !(3 << 34), ecap: client.ecap & !(1 << 7), ..client }
    }

    /// All that the model has: a server's unit of major version 5 that flushes its caches with each new table, with
    /// protected memory, abort mode, throttled device-TLBs, and 256 fault records in a second page.
    pub fn everything() -> Self {
        let server = Self::server().fault_records(256);
        let (cap, ecap) = (server.cap | 3 << 5 | 3 << 62, server.ecap | 1 << 41 | 1 << 52);
        Self { version: 0x50, cap, ecap, ..server }
    }

    /// The first generation: 3 levels, no queue, no interrupt remapping, write buffers to flush, no pages to select.
    pub fn first_generation() -> Self {
        let cap = 2 | 1 << 4 | 0b00010 << 8 | 38 << 16 | 0x22 << 24 | 3 << 54;
        Self::new(0x10, cap, 5 << 8)
    }

    /// What QEMU 7.2 shows by default, with or without caching mode.
    pub fn qemu_7_2(caching_mode: bool) -> Self {
        Self::new(0x10, 0x00d2_008c_2226_0206 | u64::from(caching_mode) << 7, 0xf0_0f4a)
    }

    /// What QEMU 10.0 shows by default, with or without caching mode.
    pub fn qemu_10_0(caching_mode: bool) -> Self {
        Self::new(0x10, 0x00d2_008c_222f_0606 | u64::from(caching_mode) << 7, 0xf0_0f4a)
    }

    /// What QEMU 11.1 shows by default, with or without caching mode.
    pub fn qemu_11_1(caching_mode: bool) -> Self {
        Self::new(0x10, 0x80d2_008c_222f_0606 | u64::from(caching_mode) << 7, 0xf0_0f4a)
    }

    /// The same unit with or without walks that snoop the CPU's caches (ECAP.C).
    pub fn coherent(self, coherent: bool) -> Self {
        Self { ecap: self.ecap & !1 | u64::from(coherent), ..self }
    }

    /// The same unit with or without caching mode (CAP.CM).
    pub fn caching_mode(self, caching: bool) -> Self {
        Self { cap: self.cap & !(1 << 7) | u64::from(caching) << 7, ..self }
    }

    /// The same unit with or without snoop control (ECAP.SC).
    pub fn snoop_control(self, control: bool) -> Self {
        Self { ecap: self.ecap & !(1 << 7) | u64::from(control) << 7, ..self }
    }

    /// The same unit with or without page-selective invalidation (CAP.PSI).
    pub fn page_selective(self, pages: bool) -> Self {
        Self { cap: self.cap & !(1 << 39) | u64::from(pages) << 39, ..self }
    }

    /// The same unit, which can post interrupts (CAP.PI).
    pub fn posts_interrupts(self) -> Self {
        Self { cap: self.cap | 1 << 59, ..self }
    }

    /// The same unit, as firmware leaves one that it used.
    pub fn found_running(self) -> Self {
        Self { found_running: true, ..self }
    }

    /// The same unit with that many fault records (CAP.NFR), 1 to 256, behind its first page if they do not fit there.
    pub fn fault_records(self, count: u16) -> Self {
        let offset = if count > 8 { 0x100 } else { 0x40 };
        let cap = self.cap & !(0xff << 40 | 0x3ff << 24) | u64::from(count - 1) << 40 | offset << 24;
        Self { cap, bytes: if count > 8 { 0x2000 } else { self.bytes }, ..self }
    }

    /// The same unit for these buses only.
    pub fn serving(self, buses: &[u8]) -> Self {
        Self { buses: buses.to_vec(), ..self }
    }

    /// The same unit for these functions only, as [`functions`](Self::functions) has them.
    pub fn serving_functions(self, functions: &[(u8, u8)]) -> Self {
        Self { functions: functions.to_vec(), ..self }
    }

    /// The same unit for the devices of this PCI segment.
    pub fn in_segment(self, segment: u16) -> Self {
        Self { segment, ..self }
    }

    /// True if it serves all of its segment that no other unit does.
    pub fn takes_rest(&self) -> bool {
        self.buses.is_empty() && self.functions.is_empty()
    }

    /// The same unit, not held to what QEMU's emulation forgives, so that it accepts what QEMU accepts.
    pub fn as_forgiving_as_qemu(self) -> Self {
        let forgives = ["R8", "R14", "R25", "R26", "R28", "R29", "R33b", "R37", "R38"];
        Self { forgives: forgives.to_vec(), ..self }
    }

    /// The registers, once the machine has placed them.
    pub(crate) fn window(&self) -> RegisterWindow {
        RegisterWindow { base: PhysAddr::new_truncate(self.base), bytes: self.bytes }
    }
}
