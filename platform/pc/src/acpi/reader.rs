//! Memory as the `acpi` crate may see it, and the types that it looks for.
//!
//! The crate (5.2.0) takes the length of a table on trust: it sums that many bytes, and takes the header's size off the
//! root's without a look. So it gets to see whole tables only.

use core::cell::Cell;
use core::ptr::NonNull;

use ::acpi::sdt::{SdtHeader, Signature};
use ::acpi::{AcpiHandler, AcpiTable, PhysicalMapping};

use super::{HEADER, Memory, Root, whole};

/// What stands for a table that is not there: no signature is that, so the crate reads no further.
static NO_TABLE: [u8; HEADER] = [0; HEADER];

/// Hands out bytes of tables that are there as a whole, and takes a note where a table of the signature is.
#[derive(Clone)]
pub(super) struct Reader<'r, 'a> {
    pub(super) memory: &'r dyn Memory<'a>,
    pub(super) root: Root,
    /// Of the table that is looked for.
    pub(super) signature: [u8; 4],
    /// The first address that has this signature, whatever else is wrong there.
    pub(super) seen: &'r Cell<Option<u64>>,
}

impl AcpiHandler for Reader<'_, '_> {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        const { assert!(size_of::<T>() == HEADER && align_of::<T>() == 1, "the crate asks for more than headers") };
        let address = at as u64;
        if (self.memory)(address, 4) == Some(&self.signature) {
            self.seen.set(self.seen.get().or(Some(address)));
        }
        let table = whole(address, self.memory).unwrap_or(&NO_TABLE);
        let mut bytes = size.clamp(HEADER, table.len());
        if address == self.root.at {
            // The crate follows half a pointer at the end of the root, too.
            bytes -= (bytes - HEADER) % self.root.entry_bytes();
        }
        let start = NonNull::from_ref(table).cast();
        // SAFETY: the bytes are there, nobody writes them for as long as the reader may be used, and there are as many
        // as a `T` has, which may be at any address; that they make a good one is the caller's promise.
        unsafe { PhysicalMapping::new(at, start, bytes, bytes, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Types to look for. They are no more than the header, or the crate would read a short table as a longer one.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $signature:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct $name(SdtHeader);

        // SAFETY: every table starts with a header, and any bytes make one.
        unsafe impl AcpiTable for $name {
            const SIGNATURE: Signature = Signature::$signature;

            fn header(&self) -> &SdtHeader {
                &self.0
            }
        }
    )*};
}

tables! {
    /// The DMA remapping table of Intel's machines.
    Dmar = DMAR;
    /// The fixed description of the machine, with its power management timer.
    Fadt = FADT;
    /// The high precision event timer.
    Hpet = HPET;
    /// The I/O virtualization table of AMD's machines.
    Ivrs = IVRS;
    /// Interrupt controllers, and with them CPUs.
    Madt = MADT;
    /// Where PCI Express configuration space is.
    Mcfg = MCFG;
    /// The serial port that the firmware has its console on.
    Spcr = SPCR;
}
