//! Numbers of errors, for logs and other languages. A number keeps its meaning; a kind that goes leaves its own unused.
#![forbid(unsafe_code)]

use super::{Error, Incompatibility, NoDeviceTlb, NotRemapped, Owner, Refusal, Unroutable};
use crate::error::UnitError;
use crate::firmware::TableError;
use crate::hal::NoFrame;
use crate::paging::MapError;

impl Error {
    /// The number of its kind: from 1 on, below 256.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Firmware(_) => 1,
            Self::Unit(_) => 2,
            Self::UnknownUnit(_) => 3,
            Self::Map(_) => 4,
            Self::Full(_) => 5,
            Self::NoFrame(_) => 6,
            Self::Probed => 7,
            Self::NotProbed => 8,
            Self::Unblocked(_) => 9,
            Self::NotEnabled => 10,
            Self::InService(_) => 11,
            Self::Unreadable(_) => 12,
            Self::NoSuchCell(_) => 13,
            Self::NoSuchDevice(_) => 14,
            Self::NotAssigned(_) => 15,
            Self::Busy { .. } => 16,
            Self::Refused { .. } => 17,
            Self::NotIdle { .. } => 18,
            Self::NotReset { .. } => 19,
            Self::InChange { .. } => 20,
            Self::Incompatible { .. } => 21,
            Self::NotOneToOne(_) => 22,
            Self::RootExists(_) => 23,
            Self::Misaligned(_) => 24,
            Self::Overlap(_) => 25,
            Self::Owned { .. } => 26,
            Self::Reserved(_) => 27,
            Self::Window(_) => 28,
            Self::NotGranted(_) => 29,
            Self::Vector(_) => 30,
            Self::Route { .. } => 31,
            Self::NotRemapped(_) => 32,
            Self::Asleep => 33,
        }
    }

    /// The number of what it holds as the reason, in the numbers of that reason's type; 0 if it holds none.
    pub const fn detail(&self) -> u8 {
        match self {
            Self::Firmware(error) => error.code(),
            Self::Unit(error) => error.code(),
            Self::Map(error) => error.code(),
            Self::NoFrame(reason) => reason.code(),
            Self::Refused { reason, .. } => reason.code(),
            Self::Incompatible { reason, .. } => reason.code(),
            Self::Owned { owner, .. } => owner.code(),
            Self::Route { reason, .. } => reason.code(),
            Self::NotRemapped(reason) => reason.code(),
            _ => 0,
        }
    }
}

impl UnitError {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Timeout { .. } => 1,
            Self::Dead { .. } => 2,
            Self::Reset { .. } => 3,
            Self::Unsupported { .. } => 4,
            Self::Queue { .. } => 5,
            Self::Invalidation { .. } => 6,
            Self::Device { .. } => 7,
            Self::NoRoom { .. } => 8,
            Self::Failed { .. } => 9,
            Self::NoFrame { .. } => 10,
            Self::NotMapped { .. } => 11,
            Self::FoundOn { .. } => 12,
            Self::FoundQueue { .. } => 13,
        }
    }
}

impl TableError {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::TooShort { .. } => 1,
            Self::WrongSignature { .. } => 2,
            Self::BadLength { .. } => 3,
            Self::NoUnit { .. } => 4,
            Self::Full { .. } => 5,
        }
    }
}

impl MapError {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Misaligned(_) => 1,
            Self::NoRights(_) => 2,
            Self::InputTooHigh { .. } => 3,
            Self::OutputTooHigh { .. } => 4,
            Self::InputHole { .. } => 5,
            Self::OutputInterrupts(_) => 6,
            Self::Occupied(_) => 7,
            Self::NoFrame(_) => 8,
        }
    }
}

impl NoFrame {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::NoneLeft => 1,
            Self::TooHigh { .. } => 2,
            Self::NotOwn { .. } => 3,
        }
    }
}

impl Refusal {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::UnsafeInterrupts => 1,
            Self::ReservedMemory(_) => 2,
            Self::Owned { .. } => 3,
            Self::LostReserved => 4,
            Self::UncertainUnit => 5,
            Self::NeedsDeviceTlb => 6,
            Self::NoDeviceTlb(_) => 7,
            Self::SharesRequester(_) => 8,
            Self::SharesGroup(_) => 9,
            Self::SharesReserved(_) => 10,
            Self::NoReset => 11,
            Self::UnknownIsolation => 12,
            Self::Window(_) => 13,
            Self::SeveralUnits(_) => 14,
            Self::SharesInterrupts(_) => 15,
            Self::NoMessages => 16,
        }
    }
}

impl NoDeviceTlb {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Unit => 1,
            Self::Firmware => 2,
            Self::Capability => 3,
            Self::PageSize => 4,
            Self::SourceId => 5,
        }
    }
}

impl Incompatibility {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Snoop => 1,
            Self::Map(_) => 2,
        }
    }
}

impl Owner {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Cell(_) => 1,
            Self::Reserved { .. } => 2,
            Self::Withheld(_) => 3,
            Self::Registers(_) => 4,
            Self::Platform => 5,
        }
    }
}

impl Unroutable {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Vector(_) => 1,
            Self::Cpus(_) => 2,
            Self::Level => 3,
            Self::NotPosted => 4,
            Self::PostedPin => 5,
            Self::Descriptor(_) => 6,
            Self::DescriptorTaken(_) => 7,
            Self::NotHeld => 8,
            Self::NotRouted => 9,
            Self::Taken(_) => 10,
            Self::EntryTaken(_) => 11,
            Self::HasEntry(_) => 12,
            Self::NotFound(_) => 13,
            Self::GoesOn(_) => 14,
            Self::NoMsi => 15,
            Self::NoMsiX => 16,
            Self::NoUnit => 17,
            Self::NotRemapped => 18,
            Self::Forged(_) => 19,
        }
    }
}

impl NotRemapped {
    /// The number of its kind, from 1 on.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Late => 1,
            Self::NoRoom => 2,
            Self::Firmware => 3,
            Self::IoApic(_) => 4,
            Self::NoPairStore => 5,
            Self::NoUnit => 6,
            Self::OptOut => 7,
            Self::NotExtended(_) => 8,
            Self::ExtendedOnly(_) => 9,
        }
    }
}
