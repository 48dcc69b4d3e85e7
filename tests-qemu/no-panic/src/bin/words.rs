//! Whatever the driver says in words: each `Display`, and each `Debug` that is not derived, with anything in it.
//!
//! A derived `Debug` is not here, nor that of `Iommu`, which shows derived ones: the `Debug` of a text, and a derived one of
//! more than five fields, can panic as far as the compiler sees, in the standard library and not in the driver.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use core::fmt::{self, Debug, Display, Write};

use cofferdam::addr::{Iova, IovaRange, NotPhysical, PhysAddr, PhysRange, Region, Requester, Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::fault::{Access, Fault};
use cofferdam::firmware::{self, Finding, Flaw, Severity, dmar, ivrs};
use cofferdam::hal::{NoFrame, RegisterWindow};
use cofferdam::interrupt::{CpuSet, Cpus, FoundCourse, Posting, Route, Source, VectorSet};
use cofferdam::iommu::{
    self, Difference, DomainId, Hole, Incompatibility, MapError, NoDeviceTlb, NotRemapped, Others, Owner, Reach,
    Refusal, SharedMemory, Unblocked, UnitDetails, Unroutable,
};
use cofferdam::limits::{Full, Memory};
use cofferdam::topology::{BridgeWindow, ReservedMemory};
use cofferdam::vtd::{Capabilities, FaultReason};
use cofferdam::{CellId, Coherency};
use cofferdam_no_panic::{any, program, show};

struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        show(text);
        if *any() { Ok(()) } else { Err(fmt::Error) }
    }
}

fn say<T: Display + 'static>() {
    show(write!(Out, "{}", any::<T>()));
}

fn debug<T: Debug + 'static>() {
    show(write!(Out, "{:?}", any::<T>()));
}

fn run() {
    say::<Iova>();
    say::<IovaRange>();
    say::<Region>();
    say::<Rights>();
    say::<SourceId>();
    say::<Requester>();
    say::<RegisterWindow>();
    say::<NoFrame>();
    say::<ReservedMemory>();
    say::<Full>();
    say::<UnitError>();
    say::<firmware::TableError>();
    say::<firmware::dmar::WriteError>();
    say::<NotPhysical>();
    show(write!(Out, "{:?} {:#x}", any::<PhysAddr>(), any::<PhysAddr>()));
    say::<Severity>();
    say::<Flaw>();
    say::<Finding>();
    say::<dmar::ScopeKind>();
    say::<Access>();
    say::<Fault>();
    say::<FaultReason>();
    say::<Capabilities>();
    say::<UnitDetails>();
    say::<DomainId>();
    say::<Hole>();
    say::<CellId>();
    say::<Coherency>();
    say::<MapError>();
    say::<Refusal>();
    say::<NoDeviceTlb>();
    say::<BridgeWindow>();
    say::<Others>();
    say::<Owner>();
    say::<PhysRange>();
    say::<SharedMemory>();
    say::<Unblocked>();
    say::<Incompatibility>();
    say::<Unroutable>();
    say::<NotRemapped>();
    say::<Cpus>();
    say::<Route>();
    say::<Posting>();
    say::<FoundCourse>();
    say::<Source>();
    debug::<CpuSet>();
    debug::<VectorSet>();
    say::<Difference>();
    say::<Reach>();
    say::<iommu::Error>();
    debug::<Iova>();
    debug::<IovaRange>();
    debug::<SourceId>();
    debug::<Requester>();
    debug::<RegisterWindow>();
    debug::<Memory<8>>();
    debug::<FaultReason>();
    debug::<ivrs::IvInfo>();
}

program!(run);
