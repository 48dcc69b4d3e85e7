//! Where an interrupt may go, in plain words: how the driver is asked for it, and how it arrives.

use cofferdam::interrupt::{CpuSet, Cpus, Delivery, InterruptTargets, Route, Trigger, VectorSet};
use cofferdam_model::Targets;
use cofferdam_support::random::Random;

use crate::oracle::Slot;

/// What sends an interrupt, by its place among the machine's devices or lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    /// A message of a device.
    Message(usize, u16),
    /// A pin or a timer.
    Line(usize),
}

/// Where an interrupt is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) vector: u8,
    pub(crate) id: u32,
    pub(crate) logical: bool,
    pub(crate) lowest: bool,
    pub(crate) level: bool,
}

/// The address and the data of a message as the interrupt controllers get it.
pub(crate) type Arrival = (u64, u32);

impl Place {
    pub(crate) fn route(self) -> Route {
        Route {
            vector: self.vector,
            cpus: if self.logical { Cpus::Logical(self.id) } else { Cpus::Physical(self.id) },
            delivery: if self.lowest { Delivery::LowestPriority } else { Delivery::Fixed },
            trigger: if self.level { Trigger::Level } else { Trigger::Edge },
        }
    }

    /// What arrives (VT-d 5.10, section 5.1.6): one of lowest priority is for one of the CPUs.
    pub(crate) fn arrival(self) -> Arrival {
        let id = u64::from(self.id);
        let to_one = u64::from(self.lowest) << 3;
        let address = 0xfee0_0000 | (id & 0xff) << 12 | to_one | u64::from(self.logical) << 2 | id >> 8 << 40;
        let data = u32::from(self.vector) | u32::from(self.lowest) << 8 | 1 << 14 | u32::from(self.level) << 15;
        (address, data)
    }
}

/// CPUs and vectors of the cell with this number: CPUs for itself, with any vectors, or some vectors on CPUs that others have, too.
pub(crate) fn targets(number: u32, slot: Slot, x2apic: bool, random: &mut Random) -> Targets {
    let (first, shared) = if x2apic { (0x1_0000 + number * 16, 0x20) } else { (1 + number % 50 * 4, 0xf0) };
    let flat_ids = (!x2apic).then_some(1 << slot);
    if random.one_in(3) {
        let vectors = 16 + 28 * slot as u8;
        return Targets { cpus: vec![first..=first, shared..=shared + 1], flat_ids, vectors: vectors..=vectors + 27 };
    }
    let vectors = random.of(&[(0, 255), (16, 255), (0x40, 0x7f)]);
    Targets { cpus: vec![first..=first, first + 2..=first + 3], flat_ids, vectors: vectors.0..=vectors.1 }
}

/// The same for the driver.
pub(crate) fn for_driver(targets: &Targets) -> InterruptTargets {
    InterruptTargets {
        cpus: targets.cpus.iter().fold(CpuSet::NONE, |set, cpus| set.with(*cpus.start(), *cpus.end())),
        vectors: VectorSet::NONE.with(*targets.vectors.start(), *targets.vectors.end()),
        flat_ids: targets.flat_ids.unwrap_or(0xff),
    }
}
