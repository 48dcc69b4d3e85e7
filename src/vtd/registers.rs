//! The registers of a unit (S 11.4): where they are and how their fields lie.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::{LocalRegisterCopy, RegisterLongName};

use crate::error::UnitError;
use crate::hal::{Hal, MappedRegisters, RegisterWindow};

pub(super) use fields::*;

#[allow(missing_docs, missing_debug_implementations, reason = "the macro's output; the names are the specification's")]
mod fields {
    tock_registers::register_bitfields! { u32,
        /// Version (S 11.4.1).
        pub(crate) VER [ MIN OFFSET(0) NUMBITS(4), MAX OFFSET(4) NUMBITS(4) ],
        /// Global status (S 11.4.4.2); a command has the same bits (S 11.4.4.1).
        pub(crate) GSTS [
            CFIS OFFSET(23) NUMBITS(1), IRTPS OFFSET(24) NUMBITS(1), IRES OFFSET(25) NUMBITS(1),
            QIES OFFSET(26) NUMBITS(1), WBFS OFFSET(27) NUMBITS(1), RTPS OFFSET(30) NUMBITS(1),
            TES OFFSET(31) NUMBITS(1)
        ],
        /// Fault status (S 11.4.7.1).
        pub(crate) FSTS [
            PFO OFFSET(0) NUMBITS(1), PPF OFFSET(1) NUMBITS(1), IQE OFFSET(4) NUMBITS(1), ICE OFFSET(5) NUMBITS(1),
            ITE OFFSET(6) NUMBITS(1), FRI OFFSET(8) NUMBITS(8)
        ],
        /// Fault event control (S 11.4.7.2).
        pub(crate) FECTL [ IP OFFSET(30) NUMBITS(1), IM OFFSET(31) NUMBITS(1) ],
        /// Protected memory enable (S 11.4.8.1).
        pub(crate) PMEN [ PRS OFFSET(0) NUMBITS(1), EPM OFFSET(31) NUMBITS(1) ]
    }
    tock_registers::register_bitfields! { u64,
        /// Capabilities (S 11.4.2).
        pub(crate) CAP [
            ND OFFSET(0) NUMBITS(3), RWBF OFFSET(4) NUMBITS(1), PLMR OFFSET(5) NUMBITS(1), PHMR OFFSET(6) NUMBITS(1),
            CM OFFSET(7) NUMBITS(1), SAGAW OFFSET(8) NUMBITS(5), MGAW OFFSET(16) NUMBITS(6), FRO OFFSET(24) NUMBITS(10),
            SSLPS OFFSET(34) NUMBITS(4), PSI OFFSET(39) NUMBITS(1), NFR OFFSET(40) NUMBITS(8),
            MAMV OFFSET(48) NUMBITS(6), DWD OFFSET(54) NUMBITS(1), DRD OFFSET(55) NUMBITS(1), PI OFFSET(59) NUMBITS(1),
            ESIRTPS OFFSET(62) NUMBITS(1), ESRTPS OFFSET(63) NUMBITS(1)
        ],
        /// Extended capabilities (S 11.4.3).
        pub(crate) ECAP [
            C OFFSET(0) NUMBITS(1), QI OFFSET(1) NUMBITS(1), DT OFFSET(2) NUMBITS(1), IR OFFSET(3) NUMBITS(1),
            EIM OFFSET(4) NUMBITS(1), PT OFFSET(6) NUMBITS(1), SC OFFSET(7) NUMBITS(1), IRO OFFSET(8) NUMBITS(10),
            MHMV OFFSET(20) NUMBITS(4), PRS OFFSET(29) NUMBITS(1), DIT OFFSET(41) NUMBITS(1), ADMS OFFSET(52) NUMBITS(1),
            EIMER OFFSET(61) NUMBITS(1)
        ],
        /// Context command (S 11.4.6.1).
        pub(crate) CCMD [ CAIG OFFSET(59) NUMBITS(2), ICC OFFSET(63) NUMBITS(1) ],
        /// IOTLB invalidate (S 11.4.6.3).
        pub(crate) IOTLB [ IAIG OFFSET(57) NUMBITS(2), IVT OFFSET(63) NUMBITS(1) ],
        /// Root table address, in 63:12 (S 11.4.5).
        pub(crate) RTADDR [ TTM OFFSET(10) NUMBITS(2) [ Legacy = 0b00, Abort = 0b11 ] ],
        /// Invalidation queue head (S 11.4.9.1).
        pub(crate) IQH [ QH OFFSET(4) NUMBITS(15) ],
        /// Invalidation queue tail (S 11.4.9.2).
        pub(crate) IQT [ QT OFFSET(4) NUMBITS(15) ],
        /// Invalidation queue address (S 11.4.9.3).
        pub(crate) IQA [ QS OFFSET(0) NUMBITS(3), DW OFFSET(11) NUMBITS(1), IQA OFFSET(12) NUMBITS(52) ],
        /// Invalidation queue error record (S 11.4.9.9).
        pub(crate) IQERCD [ IQEI OFFSET(0) NUMBITS(4), ITESID OFFSET(32) NUMBITS(16), ICESID OFFSET(48) NUMBITS(16) ]
    }
}

/// What GSTS_REG reads.
pub(super) type Status = LocalRegisterCopy<u32, GSTS::Register>;

/// One register of one unit, reached through the [`Hal`].
pub(super) struct Register<'h, H, T, R> {
    hal: &'h H,
    window: RegisterWindow,
    first: Option<NonNull<u8>>,
    offset: u32,
    kind: PhantomData<(T, R)>,
}

impl<H, T, R> Register<'_, H, T, R> {
    fn mapped(&self) -> Option<MappedRegisters> {
        self.first.map(|first| MappedRegisters { window: self.window, first })
    }
}

impl<H: Hal, R: RegisterLongName> Readable for Register<'_, H, u32, R> {
    type T = u32;
    type R = R;
    fn get(&self) -> u32 {
        let Some(mapped) = self.mapped() else { return u32::MAX };
        // SAFETY: `Registers` gives only registers that lie within the window.
        unsafe { self.hal.read32(mapped, self.offset) }
    }
}

impl<H: Hal, R: RegisterLongName> Writeable for Register<'_, H, u32, R> {
    type T = u32;
    type R = R;
    fn set(&self, value: u32) {
        let Some(mapped) = self.mapped() else { return };
        // SAFETY: `Registers` gives only registers that lie within the window; this floor writes them by the rules.
        unsafe { self.hal.write32(mapped, self.offset, value) }
    }
}

impl<H: Hal, R: RegisterLongName> Readable for Register<'_, H, u64, R> {
    type T = u64;
    type R = R;
    fn get(&self) -> u64 {
        let Some(mapped) = self.mapped() else { return u64::MAX };
        // SAFETY: `Registers` gives only registers that lie within the window.
        unsafe { self.hal.read64(mapped, self.offset) }
    }
}

impl<H: Hal, R: RegisterLongName> Writeable for Register<'_, H, u64, R> {
    type T = u64;
    type R = R;
    fn set(&self, value: u64) {
        let Some(mapped) = self.mapped() else { return };
        // SAFETY: `Registers` gives only registers that lie within the window; this floor writes them by the rules.
        unsafe { self.hal.write64(mapped, self.offset, value) }
    }
}

/// The registers of one unit. Those that are mapped nowhere read all ones, as those of a unit that is gone.
pub(super) struct Registers<'h, H> {
    pub(super) hal: &'h H,
    pub(super) window: RegisterWindow,
    /// Where they are mapped.
    pub(super) first: Option<NonNull<u8>>,
}

/// The fixed registers, all in the first page of the window, and those whose offset the capabilities were checked to give
/// within it.
impl<'h, H: Hal> Registers<'h, H> {
    /// Those of a unit of which a test, or a benchmark, has no more.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn of(hal: &'h H, window: RegisterWindow) -> Self {
        Self { hal, window, first: hal.map_registers(window) }
    }

    fn at<T, R>(&self, offset: u32) -> Register<'h, H, T, R> {
        Register { hal: self.hal, window: self.window, first: self.first, offset, kind: PhantomData }
    }

    pub(super) fn ver(&self) -> Register<'h, H, u32, VER::Register> {
        self.at(0x00)
    }

    pub(super) fn cap(&self) -> Register<'h, H, u64, CAP::Register> {
        self.at(0x08)
    }

    pub(super) fn ecap(&self) -> Register<'h, H, u64, ECAP::Register> {
        self.at(0x10)
    }

    pub(super) fn gcmd(&self) -> Register<'h, H, u32, GSTS::Register> {
        self.at(0x18)
    }

    pub(super) fn gsts(&self) -> Register<'h, H, u32, GSTS::Register> {
        self.at(0x1c)
    }

    /// What `gsts` reads, unless no unit answers any more (R4): its lower bits are always zero.
    pub(super) fn status(&self) -> Result<Status, UnitError> {
        let status = self.gsts().extract();
        if status.get() == u32::MAX {
            return Err(UnitError::Dead { unit: self.window, register: "GSTS_REG", value: status.get().into() });
        }
        Ok(status)
    }

    /// Fails if the queue is not on, which only a reset does to one that is in use.
    pub(super) fn check_queue(&self) -> Result<(), UnitError> {
        if self.status()?.is_set(GSTS::QIES) { Ok(()) } else { Err(self.was_reset("GSTS_REG", "QIES")) }
    }

    /// What is said of a register that does not show what was put there.
    pub(super) fn was_reset(&self, register: &'static str, bit: &'static str) -> UnitError {
        UnitError::Reset { unit: self.window, register, bit }
    }

    pub(super) fn rtaddr(&self) -> Register<'h, H, u64, RTADDR::Register> {
        self.at(0x20)
    }

    pub(super) fn ccmd(&self) -> Register<'h, H, u64, CCMD::Register> {
        self.at(0x28)
    }

    pub(super) fn fsts(&self) -> Register<'h, H, u32, FSTS::Register> {
        self.at(0x34)
    }

    /// What `fsts` reads, unless no unit answers any more: its upper half is always zero.
    pub(super) fn fault_status(&self) -> Result<LocalRegisterCopy<u32, FSTS::Register>, UnitError> {
        let status = self.fsts().extract();
        if status.get() == u32::MAX {
            return Err(UnitError::Dead { unit: self.window, register: "FSTS_REG", value: status.get().into() });
        }
        Ok(status)
    }

    pub(super) fn fectl(&self) -> Register<'h, H, u32, FECTL::Register> {
        self.at(0x38)
    }

    /// Message data in bits 15:0 (S 11.4.7.3).
    pub(super) fn fedata(&self) -> Register<'h, H, u32, ()> {
        self.at(0x3c)
    }

    /// Message address (S 11.4.7.4).
    pub(super) fn feaddr(&self) -> Register<'h, H, u32, ()> {
        self.at(0x40)
    }

    /// Upper message address, on units with extended interrupt mode (S 11.4.7.5).
    pub(super) fn feuaddr(&self) -> Register<'h, H, u32, ()> {
        self.at(0x44)
    }

    /// Control, data, address or upper address, 0 to 3, of an event whose control is at `first`: those of faults (S 11.4.7.2), of
    /// waits (S 11.4.9.5) and of page requests (S 11.4.11.5) lie alike.
    pub(super) fn event(&self, first: u32, index: u32) -> Register<'h, H, u32, ()> {
        self.at(first + index * 4)
    }

    pub(super) fn pmen(&self) -> Register<'h, H, u32, PMEN::Register> {
        self.at(0x64)
    }

    /// Last protected address below 4 GiB, in steps that the register shows (S 11.4.8.3); its base (S 11.4.8.2).
    pub(super) fn plmlimit(&self) -> Register<'h, H, u32, ()> {
        self.at(0x6c)
    }

    pub(super) fn plmbase(&self) -> Register<'h, H, u32, ()> {
        self.at(0x68)
    }

    /// The same for the other region (S 11.4.8.5, 11.4.8.4).
    pub(super) fn phmlimit(&self) -> Register<'h, H, u64, ()> {
        self.at(0x78)
    }

    pub(super) fn phmbase(&self) -> Register<'h, H, u64, ()> {
        self.at(0x70)
    }

    pub(super) fn iqh(&self) -> Register<'h, H, u64, IQH::Register> {
        self.at(0x80)
    }

    pub(super) fn iqt(&self) -> Register<'h, H, u64, IQT::Register> {
        self.at(0x88)
    }

    /// The lower halves of `iqh` and `iqt`, which have all of their fields: for an NMI, in which nothing is accessed but registers
    /// of 32 bits.
    pub(super) fn iqh_lower(&self) -> Register<'h, H, u32, ()> {
        self.at(0x80)
    }

    /// That of `iqt`.
    pub(super) fn iqt_lower(&self) -> Register<'h, H, u32, ()> {
        self.at(0x88)
    }

    pub(super) fn iqa(&self) -> Register<'h, H, u64, IQA::Register> {
        self.at(0x90)
    }

    /// Invalidation completion status (S 11.4.9.4).
    pub(super) fn ics(&self) -> Register<'h, H, u32, ()> {
        self.at(0x9c)
    }

    /// Invalidation event control, with the fields of fault event control (S 11.4.9.5).
    pub(super) fn iectl(&self) -> Register<'h, H, u32, FECTL::Register> {
        self.at(0xa0)
    }

    /// Page request event control, likewise (S 11.4.11.5).
    pub(super) fn pectl(&self) -> Register<'h, H, u32, FECTL::Register> {
        self.at(0xe0)
    }

    pub(super) fn iqercd(&self) -> Register<'h, H, u64, IQERCD::Register> {
        self.at(0xb0)
    }

    /// Interrupt-remapping table address (S 11.4.10).
    pub(super) fn irta(&self) -> Register<'h, H, u64, ()> {
        self.at(0xb8)
    }

    /// Invalidate address, at the offset that the capabilities give (S 11.4.6.4).
    pub(super) fn iva(&self, offset: u32) -> Register<'h, H, u64, ()> {
        self.at(offset)
    }

    /// IOTLB invalidate, behind the invalidate address.
    pub(super) fn iotlb(&self, offset: u32) -> Register<'h, H, u64, IOTLB::Register> {
        self.at(offset + 8)
    }

    /// One of the four doublewords of the fault recording register at `offset` (S 11.4.7.6).
    pub(super) fn frcd(&self, offset: u32, doubleword: u32) -> Register<'h, H, u32, ()> {
        self.at(offset + 4 * doubleword)
    }
}

impl<H> fmt::Debug for Registers<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registers({})", self.window)
    }
}
