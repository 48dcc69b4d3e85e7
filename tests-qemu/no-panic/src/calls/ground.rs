use cofferdam::addr::{Iova, IovaRange, PhysAddr, PhysRange, Region, Requester, Rights, SourceId};
use cofferdam::firmware::dmar::Properties;
use cofferdam::firmware::{Finding, Strictness};
use cofferdam::hal::MappedRegisters;
use cofferdam::interrupt::{CpuSet, Destination, FoundCourse, Posting, Route, VectorSet};
use cofferdam::iommu::DomainId;
use cofferdam::topology::{AmdUnit, UnitIndex};
use cofferdam::vtd::{FaultReason, PostedDescriptor};

use crate::{any, any_number, show};

pub(super) fn calls() {
    iova();
    ranges();
    registers();
    sources();
    let (finding, reason, strictness): (&Finding, &FaultReason, &Strictness) = (any(), any(), any());
    show((finding.severity(), finding.flaw.action(), finding.flaw.name(), finding.flaw.hides_units()));
    show((strictness.refuses(finding), Strictness::default()));
    show((reason.code(), reason.is_interrupt(), reason.words(), reason.cause(), FaultReason::new(any_number() as u8)));
    show((any::<AmdUnit>().iotlb_supported(), Properties::all_named()));
    show((any::<Destination>().message(), any::<DomainId>().get(), DomainId::new(any_number() as u16)));
    show((any::<UnitIndex>().get(), UnitIndex::new(any_number() as u16)));
    interrupts();
}

fn interrupts() {
    let (apic_id, vector) = (any_number() as u32, any_number() as u8);
    show(Route::to(apic_id, vector));
    let (cpus, vectors): (&CpuSet, &VectorSet) = (any(), any());
    show((cpus.with(apic_id, any_number() as u32), cpus.has(apic_id)));
    show((vectors.with(vector, any_number() as u8), vectors.has(vector)));
    // SAFETY: no program of this package is ever run.
    let posting = unsafe { Posting::new(*any(), vector) };
    show((posting.urgent(), posting.descriptor(), posting.vector(), posting.is_urgent()));
    show(any::<FoundCourse>().route());
    show(PostedDescriptor::new(*any(), *any()));
    let descriptor: &PostedDescriptor = any();
    descriptor.notify(*any(), *any());
    descriptor.suppress();
    show((descriptor.resume(), descriptor.is_pending()));
    show((descriptor.post(vector, *any()), descriptor.take(), descriptor.notice(*any())));
}

fn iova() {
    let iova = Iova::new(any_number());
    show((iova.as_u64(), iova.checked_add(any_number()), iova.is_page_aligned()));
}

fn ranges() {
    show(IovaRange::new(Iova::new(any_number()), any_number()));
    let (range, other): (&IovaRange, &IovaRange) = (any(), any());
    show((range.start(), range.last(), range.bytes(), range.is_page_aligned()));
    show((range.contains(*other), range.overlaps(*other), range.hull(*other)));
    let output = PhysAddr::new_truncate(any_number());
    show((PhysAddr::try_new(any_number()), PhysAddr::zero(), output.is_null()));
    show((output.is_aligned(any_number()), output.align_down(any_number())));
    show(PhysRange::new(output, any_number()));
    let (memory, theirs): (&PhysRange, &PhysRange) = (any(), any());
    show((memory.first(), memory.last(), memory.intersection(*theirs), memory.overlaps(*theirs)));
    show(any::<Region>().outputs());
    show(Region::new(range.start(), output, any_number(), Rights::from_bits_retain(any_number() as u8)));
}

fn registers() {
    let registers: &MappedRegisters = any();
    let at: *mut u32 = registers.at(any_number() as u32);
    show(at);
}

fn sources() {
    let (segment, requester) = (any_number() as u16, any_number() as u16);
    show(SourceId::new(segment, any_number() as u8, any_number() as u8, any_number() as u8));
    let source = SourceId::from_requester(segment, requester);
    show((source.segment(), source.requester(), source.bus(), source.device(), source.function(), source.devfn()));
    show((Requester::new(requester), Requester::from(source)));
    let requester: &Requester = any();
    show((requester.get(), requester.bus(), requester.devfn(), requester.in_segment(segment)));
}
