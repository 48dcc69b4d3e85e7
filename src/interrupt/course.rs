#![forbid(unsafe_code)]

use core::fmt;

use super::posting::Posting;
use super::route::Route;
use crate::addr::PhysAddr;

/// What is to become of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Course {
    /// It is delivered.
    Remapped(Route),
    /// It is recorded.
    Posted(Posting),
}

impl Course {
    /// Where it is delivered, if it is.
    pub(crate) fn route(self) -> Option<Route> {
        match self {
            Self::Remapped(route) => Some(route),
            Self::Posted(_) => None,
        }
    }

    /// Where it is recorded, if it is.
    pub(crate) fn posting(self) -> Option<Posting> {
        match self {
            Self::Remapped(_) => None,
            Self::Posted(posting) => Some(posting),
        }
    }
}

impl From<Course> for FoundCourse {
    fn from(course: Course) -> Self {
        match course {
            Course::Remapped(route) => Self::Remapped(route),
            Course::Posted(posting) => {
                Self::Posted { descriptor: posting.descriptor(), vector: posting.vector(), urgent: posting.is_urgent() }
            }
        }
    }
}

/// What becomes of interrupts, by what is routed or by an entry of a unit's table as it is found.
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

impl FoundCourse {
    /// Where they are delivered, if they are.
    pub const fn route(self) -> Option<Route> {
        match self {
            Self::Remapped(route) => Some(route),
            Self::Posted { .. } | Self::Neither => None,
        }
    }
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
