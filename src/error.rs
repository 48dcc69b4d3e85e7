//! What goes wrong with a remapping unit, whoever made it: the error names the unit, the register and the bit.
#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::Requester;
use crate::hal::{NoFrame, RegisterWindow};

/// A remapping unit did not do what the driver requested, or cannot be used.
///
/// DMA through it stays as it was before the call, unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitError {
    /// A status bit did not reach its value before the deadline. What was requested may still happen later.
    Timeout {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The register, by its abbreviation in the specification.
        register: &'static str,
        /// The bit, by its name there.
        bit: &'static str,
        /// How long was waited, in nanoseconds: less than the limit if the platform's clock stood still.
        waited_ns: u64,
    },
    /// A register shows what no working unit shows: the unit is absent or powered off.
    Dead {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The register, by its abbreviation in the specification.
        register: &'static str,
        /// What it reads.
        value: u64,
    },
    /// A register of a unit that was switched on does not show what the driver put there: the unit was reset, as in a sleep
    /// state, or somebody else has programmed it. Its devices may reach all memory until
    /// [`enable`](crate::Iommu::enable) programs it again.
    Reset {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The register, by its abbreviation in the specification.
        register: &'static str,
        /// The bit or field, by its name there.
        bit: &'static str,
    },
    /// The platform maps its registers nowhere ([`Hal::map_registers`](crate::hal::Hal::map_registers)).
    NotMapped {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// Somebody else has the unit on, and it was not to be [taken over](crate::iommu::Options::take_over). Nothing was done to it.
    FoundOn {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The register that says so.
        register: &'static str,
        /// The bit that is set.
        bit: &'static str,
    },
    /// The unit was found with its queue in use, in memory that [`Hal::found_memory`](crate::hal::Hal::found_memory) does not give, so it
    /// cannot be handed back as it was.
    FoundQueue {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// The unit lacks something that the driver needs.
    Unsupported {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The register that says so.
        register: &'static str,
        /// The field that says so.
        bit: &'static str,
        /// What is missing, in words.
        missing: &'static str,
    },
    /// The unit refused a command of its queue, so nothing that was requested with it is known to be done. Commands of
    /// other callers are not affected.
    Queue {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The status register.
        register: &'static str,
        /// The bit that is set.
        bit: &'static str,
        /// Index of the command at which it stopped.
        slot: u32,
        /// The cause, in words.
        cause: &'static str,
    },
    /// The unit refused an invalidation that was requested through its registers, or did less.
    Invalidation {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The register that was written.
        register: &'static str,
        /// The field that says what was done.
        bit: &'static str,
    },
    /// A device did not answer an invalidation of its device-TLB, also when it was issued again. Nothing that was requested
    /// together with it is known to be done, and the device may still use what it has cached. The front blocks the device
    /// and issues the rest again ([`Iommu::commit`](crate::Iommu::commit)). The unit works, and what other callers
    /// requested is not affected.
    Device {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The device, as its requests name it: bus, device and function. If the unit does not name it, the first
        /// of those with an invalidation under way.
        requester: Requester,
    },
    /// The unit's queue was full of other callers' commands at every attempt. Nothing was requested.
    NoRoom {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// The unit failed before and is left blocking.
    Failed {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// No frame for the unit's own tables, or none that it can address.
    NoFrame {
        /// The unit's registers.
        unit: RegisterWindow,
        /// Why.
        reason: NoFrame,
    },
}

impl UnitError {
    /// The frame that `unit` needed was not to be had.
    pub(crate) fn no_frame(unit: RegisterWindow) -> impl FnOnce(NoFrame) -> Self {
        move |reason| Self::NoFrame { unit, reason }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Timeout { unit, register, bit, waited_ns } => {
                write!(f, "unit {unit}: {register}.{bit} did not change within {} ms", waited_ns / 1_000_000)
            }
            Self::Dead { unit, register, value } => {
                write!(f, "unit {unit}: {register} reads {value:#x}, so no unit answers there")
            }
            Self::Reset { unit, register, bit } => {
                write!(
                    f,
                    "unit {unit}: {register}.{bit} is not as it was set, so the unit was reset or programmed by others"
                )
            }
            Self::NotMapped { unit } => {
                write!(f, "unit {unit}: the platform maps its registers nowhere (Hal::map_registers)")
            }
            Self::FoundOn { unit, register, bit } => {
                write!(f, "unit {unit}: {register}.{bit} shows that somebody else has it on (Options::take_over)")
            }
            Self::FoundQueue { unit } => {
                write!(
                    f,
                    "unit {unit}: the queue that it was found with is in memory that the platform does not give (Hal::found_memory)"
                )
            }
            Self::Unsupported { unit, register, bit, missing } => {
                write!(f, "unit {unit}: no {missing} ({register}.{bit})")
            }
            Self::Queue { unit, register, bit, slot, cause } => {
                write!(f, "unit {unit}: {register}.{bit} at descriptor {slot}: {cause}")
            }
            Self::Invalidation { unit, register, bit } => {
                write!(f, "unit {unit}: {register}.{bit} says that an invalidation was not done")
            }
            Self::Device { unit, requester } => {
                write!(f, "unit {unit}: {requester} did not answer an invalidation of its device-TLB (FSTS_REG.ITE)")
            }
            Self::NoRoom { unit } => write!(f, "unit {unit}: no room in its queue (IQH_REG.QH)"),
            Self::Failed { unit } => write!(f, "unit {unit}: out of service after an earlier failure"),
            Self::NoFrame { unit, reason } => write!(f, "unit {unit}: {reason}"),
        }
    }
}

impl core::error::Error for UnitError {}
