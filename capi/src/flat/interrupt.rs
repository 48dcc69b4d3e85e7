//! Interrupts: what sends one, where it goes, what is programmed for that.

use cofferdam::addr::PhysAddr;
use cofferdam::interrupt::{self, Cpus, Delivery, FoundCourse, Trigger};

use super::{device, number};
use crate::failure::Wrong;

pub const COFFERDAM_SOURCE_MESSAGE: u8 = 1;
pub const COFFERDAM_SOURCE_PIN: u8 = 2;
pub const COFFERDAM_SOURCE_TIMER: u8 = 3;

pub const COFFERDAM_DELIVERY_FIXED: u8 = 0;
pub const COFFERDAM_DELIVERY_LOWEST_PRIORITY: u8 = 1;
pub const COFFERDAM_TRIGGER_EDGE: u8 = 0;
pub const COFFERDAM_TRIGGER_LEVEL: u8 = 1;
pub const COFFERDAM_CPUS_PHYSICAL: u8 = 0;
pub const COFFERDAM_CPUS_LOGICAL: u8 = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub kind: u8,
    pub id: u8,
    pub index: u16,
    pub device: u32,
}

impl Source {
    pub(crate) fn read(&self) -> Result<interrupt::Source, Wrong> {
        let wrong = Wrong::value;
        let small = || u8::try_from(self.index).map_err(|_| wrong("source.index"));
        match self.kind {
            COFFERDAM_SOURCE_MESSAGE => {
                Ok(interrupt::Source::Message { device: device(self.device), index: self.index })
            }
            COFFERDAM_SOURCE_PIN => Ok(interrupt::Source::Pin { io_apic: self.id, pin: small()? }),
            COFFERDAM_SOURCE_TIMER => Ok(interrupt::Source::Timer { hpet: self.id, timer: small()? }),
            _ => Err(wrong("source.kind")),
        }
    }
}

impl From<interrupt::Source> for Source {
    fn from(source: interrupt::Source) -> Self {
        match source {
            interrupt::Source::Message { device, index } => {
                Self { kind: COFFERDAM_SOURCE_MESSAGE, id: 0, index, device: number(device) }
            }
            interrupt::Source::Pin { io_apic, pin } => {
                Self { kind: COFFERDAM_SOURCE_PIN, id: io_apic, index: pin.into(), device: 0 }
            }
            interrupt::Source::Timer { hpet, timer } => {
                Self { kind: COFFERDAM_SOURCE_TIMER, id: hpet, index: timer.into(), device: 0 }
            }
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub vector: u8,
    pub delivery: u8,
    pub trigger: u8,
    pub kind: u8,
    pub cpus: u32,
}

impl Route {
    pub(crate) fn read(&self) -> Result<interrupt::Route, Wrong> {
        let wrong = Wrong::value;
        Ok(interrupt::Route {
            vector: self.vector,
            cpus: match self.kind {
                COFFERDAM_CPUS_PHYSICAL => Cpus::Physical(self.cpus),
                COFFERDAM_CPUS_LOGICAL => Cpus::Logical(self.cpus),
                _ => return Err(wrong("route.kind")),
            },
            delivery: match self.delivery {
                COFFERDAM_DELIVERY_FIXED => Delivery::Fixed,
                COFFERDAM_DELIVERY_LOWEST_PRIORITY => Delivery::LowestPriority,
                _ => return Err(wrong("route.delivery")),
            },
            trigger: match self.trigger {
                COFFERDAM_TRIGGER_EDGE => Trigger::Edge,
                COFFERDAM_TRIGGER_LEVEL => Trigger::Level,
                _ => return Err(wrong("route.trigger")),
            },
        })
    }
}

impl From<interrupt::Route> for Route {
    fn from(route: interrupt::Route) -> Self {
        let (kind, cpus) = match route.cpus {
            Cpus::Physical(id) => (COFFERDAM_CPUS_PHYSICAL, id),
            Cpus::Logical(set) => (COFFERDAM_CPUS_LOGICAL, set),
        };
        Self { vector: route.vector, delivery: route.delivery as u8, trigger: route.trigger as u8, kind, cpus }
    }
}

/// A descriptor in which interrupts are recorded.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Posting {
    pub descriptor: u64,
    pub vector: u8,
    pub urgent: u8,
}

impl Posting {
    /// # Safety
    ///
    /// As for [`interrupt::Posting::new`].
    pub(crate) unsafe fn read(&self) -> Result<interrupt::Posting, Wrong> {
        let wrong = Wrong::value;
        let descriptor = PhysAddr::try_new(self.descriptor).map_err(|_| wrong("posting.descriptor"))?;
        // SAFETY: passed on from the caller.
        let posting = unsafe { interrupt::Posting::new(descriptor, self.vector) };
        match self.urgent {
            0 => Ok(posting),
            1 => Ok(posting.urgent()),
            _ => Err(wrong("posting.urgent")),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FaultEvent {
    pub apic_id: u32,
    /// Of an interrupt, or [`COFFERDAM_NMI`].
    pub vector: u8,
}

/// The vector of an NMI, which is no interrupt's.
pub const COFFERDAM_NMI: u8 = 2;

/// One that is routed: `posted` says which of the two it is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RoutedInterrupt {
    pub cell: u64,
    pub source: Source,
    pub route: Route,
    pub posting: Posting,
    pub posted: u8,
}

impl From<&cofferdam::iommu::RoutedInterrupt> for RoutedInterrupt {
    fn from(routed: &cofferdam::iommu::RoutedInterrupt) -> Self {
        let mut flat = Self {
            cell: routed.cell.to_bits(),
            source: routed.source.into(),
            route: Route { vector: 0, delivery: 0, trigger: 0, kind: 0, cpus: 0 },
            posting: Posting { descriptor: 0, vector: 0, urgent: 0 },
            posted: 0,
        };
        match routed.course {
            FoundCourse::Remapped(route) => flat.route = route.into(),
            FoundCourse::Posted { descriptor, vector, urgent } => {
                flat.posting = Posting { descriptor: descriptor.as_u64(), vector, urgent: urgent.into() };
                flat.posted = 1;
            }
            FoundCourse::Neither => {}
        }
        flat
    }
}
