#![forbid(unsafe_code)]

use core::fmt;

/// Which CPUs an interrupt goes to, in the form that their local APICs are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cpus {
    /// The one with this APIC id. Above 254 only in x2APIC mode.
    Physical(u32),
    /// Those that this set names. In x2APIC mode, a cluster of 16 in bits 31:16, and a bit for each of its CPUs in bits 15:0; otherwise
    /// a bit for each of the eight logical ids of the flat model (SDM 3A, section 11.6.2).
    Logical(u32),
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Physical(id) => write!(f, "CPU {id}"),
            Self::Logical(set) => write!(f, "the CPUs of the logical set {set:#x}"),
        }
    }
}

/// How an interrupt is delivered. No other way is offered: a device that could send NMI, SMI, INIT or ExtINT would reach what
/// no cell has for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// To all CPUs that are named.
    #[default]
    Fixed,
    /// To the one of them that is the least busy.
    LowestPriority,
}

/// What an interrupt's signal means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Something has happened. Each message is one.
    #[default]
    Edge,
    /// Something is so, until the CPU has said that it dealt with it (EOI). For pins of an IOAPIC alone.
    Level,
}

/// Where an interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The vector, 16 to 255.
    pub vector: u8,
    /// The CPUs.
    pub cpus: Cpus,
    /// How it is delivered to them.
    pub delivery: Delivery,
    /// What its signal means.
    pub trigger: Trigger,
}

impl Route {
    /// To the CPU with this APIC id alone, edge triggered.
    pub const fn to(apic_id: u32, vector: u8) -> Self {
        Self { vector, cpus: Cpus::Physical(apic_id), delivery: Delivery::Fixed, trigger: Trigger::Edge }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vector, cpus, delivery, trigger } = self;
        write!(f, "vector {vector} of {cpus}")?;
        if *delivery == Delivery::LowestPriority {
            f.write_str(", whichever has the lowest priority")?;
        }
        if *trigger == Trigger::Level { f.write_str(", level triggered") } else { Ok(()) }
    }
}
