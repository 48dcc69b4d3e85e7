#![forbid(unsafe_code)]

use core::fmt;

use super::posting::Posting;
use super::route::Route;
use crate::addr::PhysAddr;

/// What becomes of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Course {
    /// It is delivered.
    Remapped(Route),
    /// It is recorded.
    Posted(Posting),
}

impl Course {
    /// Where it is delivered, if it is.
    pub const fn route(self) -> Option<Route> {
        match self {
            Self::Remapped(route) => Some(route),
            Self::Posted(_) => None,
        }
    }

    /// Where it is recorded, if it is.
    pub const fn posting(self) -> Option<Posting> {
        match self {
            Self::Remapped(_) => None,
            Self::Posted(posting) => Some(posting),
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remapped(route) => route.fmt(f),
            Self::Posted(posting) => posting.fmt(f),
        }
    }
}

/// What an entry of a unit's table has for interrupts, as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundCourse {
    /// They are delivered.
    Remapped(Route),
    /// They are recorded.
    Posted {
        /// In the descriptor at this address.
        descriptor: PhysAddr,
        /// As this vector.
        vector: u8,
        /// And notified of at once, also where notices are suppressed.
        urgent: bool,
    },
    /// Hardware refuses the entry, or they are none that a cell may have, as NMI or INIT.
    Neither,
}

impl fmt::Display for FoundCourse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Remapped(route) => write!(f, "goes to {route}"),
            Self::Posted { descriptor, vector, .. } => {
                write!(f, "is posted as vector {vector} of the descriptor at {:#x}", descriptor.as_u64())
            }
            Self::Neither => f.write_str("is none that a cell may have"),
        }
    }
}
