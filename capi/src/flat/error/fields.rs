//! Which numbers of a failure C reads in which field.

use cofferdam::CellId;
use cofferdam::addr::{Iova, PhysAddr, PhysRange, Region, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::{NoFrame, RegisterWindow};
use cofferdam::iommu::{Error as FrontError, Incompatibility, MapError, NotRemapped, Owner, Refusal, Unroutable};

use super::{
    COFFERDAM_HAS_ADDRESS, COFFERDAM_HAS_BYTES, COFFERDAM_HAS_CELL, COFFERDAM_HAS_DEVICE, COFFERDAM_HAS_VALUE, Error,
};
use crate::failure::{Failure, Wrong};
use crate::flat::{Name, number};

impl Error {
    pub(super) fn fill(&mut self, failure: &Failure) {
        match failure {
            Failure::Front(error) => self.front(error),
            Failure::Argument(Wrong { name, index }) => {
                self.name = Name::of(name);
                index.iter().for_each(|index| self.value(u64::from(*index)));
            }
        }
    }

    fn front(&mut self, error: &FrontError) {
        self.detail = error.detail().into();
        match error {
            FrontError::Unit(error) => self.unit(error),
            FrontError::UnknownUnit(unit) | FrontError::InService(unit) | FrontError::Unreadable(unit) => {
                self.window(*unit)
            }
            FrontError::Map(error) => self.map(error),
            FrontError::Full(full) => {
                self.name = Name::of(full.what);
                self.value(full.capacity as u64);
            }
            FrontError::NoFrame(reason) => self.no_frame(reason),
            FrontError::Unblocked(unblocked) => {
                self.value(u64::from(unblocked.functions.count()));
                if let Some(first) = unblocked.functions.first().next() {
                    self.device(first);
                }
            }
            FrontError::NoSuchCell(cell) | FrontError::RootExists(cell) => self.cell(*cell),
            FrontError::NoSuchDevice(device) | FrontError::NotAssigned(device) => self.device(*device),
            FrontError::Busy { device, cell } => {
                self.device(*device);
                self.cell(*cell);
            }
            FrontError::Refused { device, reason } => {
                self.device(*device);
                self.refusal(reason);
            }
            FrontError::NotIdle { device, register, bit, waited_ns } => {
                self.device(*device);
                self.register(register, bit);
                self.value(*waited_ns);
            }
            FrontError::NotReset { device, waited_ns } => {
                self.device(*device);
                self.value(*waited_ns);
            }
            FrontError::InChange { cell } => cell.iter().for_each(|cell| self.cell(*cell)),
            FrontError::Incompatible { device, reason } => {
                self.device(*device);
                if let Incompatibility::Map(error) = reason {
                    self.map(error);
                }
            }
            FrontError::NotOneToOne(region) | FrontError::Overlap(region) | FrontError::Reserved(region) => {
                self.region(region);
            }
            FrontError::Misaligned(range) => self.range(range.start().as_u64(), range.bytes()),
            FrontError::Owned { memory, owner } => self.owned(*memory, owner),
            FrontError::Window(window) => self.range(window.range.start().as_u64(), window.range.bytes()),
            FrontError::NotGranted(at) => self.address(at.as_u64()),
            FrontError::Vector(vector) => self.value(u64::from(*vector)),
            FrontError::Route { source, reason } => {
                if let cofferdam::interrupt::Source::Message { device, .. } = source {
                    self.device(*device);
                }
                self.unroutable(reason);
            }
            FrontError::NotRemapped(NotRemapped::IoApic(id)) => self.value(u64::from(*id)),
            FrontError::NotRemapped(NotRemapped::NotExtended(unit) | NotRemapped::ExtendedOnly(unit)) => {
                self.window(*unit);
            }
            _ => {}
        }
    }

    fn unit(&mut self, error: &UnitError) {
        match error {
            UnitError::Timeout { unit, register, bit, waited_ns } => {
                self.window(*unit);
                self.register(register, bit);
                self.value(*waited_ns);
            }
            UnitError::Dead { unit, register, value } => {
                self.window(*unit);
                self.register(register, "");
                self.value(*value);
            }
            UnitError::Queue { unit, register, bit, slot, .. } => {
                self.window(*unit);
                self.register(register, bit);
                self.value(u64::from(*slot));
            }
            UnitError::Reset { unit, register, bit }
            | UnitError::Unsupported { unit, register, bit, .. }
            | UnitError::FoundOn { unit, register, bit }
            | UnitError::Invalidation { unit, register, bit } => {
                self.window(*unit);
                self.register(register, bit);
            }
            UnitError::Device { unit, requester } => {
                self.window(*unit);
                self.value(u64::from(requester.get()));
            }
            UnitError::NoFrame { unit, reason } => {
                self.window(*unit);
                self.value(u64::from(reason.code()));
            }
            UnitError::NoRoom { unit }
            | UnitError::Failed { unit }
            | UnitError::NotMapped { unit }
            | UnitError::FoundQueue { unit } => self.window(*unit),
            _ => {}
        }
    }

    fn refusal(&mut self, reason: &Refusal) {
        match reason {
            Refusal::ReservedMemory(region) => self.region(region),
            Refusal::Owned { memory, owner } => {
                self.owned(*memory, owner);
                self.value(u64::from(owner.code()));
            }
            Refusal::NoDeviceTlb(reason) => self.value(u64::from(reason.code())),
            Refusal::SharesRequester(other) | Refusal::SeveralUnits(other) => self.value(u64::from(number(*other))),
            Refusal::SharesGroup(others) | Refusal::SharesReserved(others) => {
                others.first().take(1).for_each(|other| self.value(u64::from(number(other))));
            }
            Refusal::SharesInterrupts(Some(other)) => self.value(u64::from(number(*other))),
            Refusal::Window(window) => self.range(window.range.start().as_u64(), window.range.bytes()),
            _ => {}
        }
    }

    fn unroutable(&mut self, reason: &Unroutable) {
        match reason {
            Unroutable::Vector(vector) => self.value(u64::from(*vector)),
            Unroutable::Descriptor(at) => self.address(at.as_u64()),
            Unroutable::DescriptorTaken(cell) | Unroutable::Taken(cell) => self.cell(*cell),
            Unroutable::EntryTaken(entry)
            | Unroutable::HasEntry(entry)
            | Unroutable::NotFound(entry)
            | Unroutable::GoesOn(entry) => self.value(u64::from(*entry)),
            Unroutable::Forged(device) => self.value(u64::from(number(*device))),
            _ => {}
        }
    }

    fn map(&mut self, error: &MapError) {
        match error {
            MapError::Misaligned(region) | MapError::OutputInterrupts(region) => self.region(region),
            MapError::InputHole { region, .. } => self.region(region),
            MapError::NoRights(range) => self.range(range.start().as_u64(), range.bytes()),
            MapError::InputTooHigh { region, input_bits: bits }
            | MapError::OutputTooHigh { region, output_bits: bits } => {
                self.region(region);
                self.value(u64::from(*bits));
            }
            MapError::Occupied(at) => self.input(*at),
            MapError::NoFrame(reason) => self.no_frame(reason),
            _ => {}
        }
    }

    fn no_frame(&mut self, reason: &NoFrame) {
        if let NoFrame::TooHigh { frames, order, .. } | NoFrame::NotOwn { frames, order } = reason {
            self.frames(*frames, *order);
        }
    }

    fn owned(&mut self, memory: PhysRange, owner: &Owner) {
        let (first, last) = (memory.first().as_u64(), memory.last().as_u64());
        self.range(first, last.wrapping_sub(first).wrapping_add(1));
        match owner {
            Owner::Cell(cell) | Owner::Withheld(cell) => self.cell(*cell),
            Owner::Reserved { device, cell } => {
                self.device(*device);
                self.cell(*cell);
            }
            _ => {}
        }
    }

    fn device(&mut self, device: SourceId) {
        self.has |= COFFERDAM_HAS_DEVICE;
        self.device = number(device);
    }

    fn cell(&mut self, cell: CellId) {
        self.has |= COFFERDAM_HAS_CELL;
        self.cell = cell.to_bits();
    }

    fn address(&mut self, address: u64) {
        self.has |= COFFERDAM_HAS_ADDRESS;
        self.address = address;
    }

    fn input(&mut self, at: Iova) {
        self.address(at.as_u64());
    }

    fn range(&mut self, address: u64, bytes: u64) {
        self.address(address);
        self.has |= COFFERDAM_HAS_BYTES;
        self.bytes = bytes;
    }

    fn region(&mut self, region: &Region) {
        self.range(region.input.start().as_u64(), region.input.bytes());
    }

    fn frames(&mut self, frames: PhysAddr, order: u8) {
        self.range(frames.as_u64(), 4096_u64.checked_shl(order.into()).unwrap_or(0));
    }

    fn window(&mut self, unit: RegisterWindow) {
        self.range(unit.base.as_u64(), unit.bytes.into());
    }

    fn register(&mut self, register: &'static str, bit: &'static str) {
        (self.name, self.bit) = (Name::of(register), Name::of(bit));
    }

    fn value(&mut self, value: u64) {
        self.has |= COFFERDAM_HAS_VALUE;
        self.value = value;
    }
}
