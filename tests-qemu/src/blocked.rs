//! A request that has to be blocked, and the one fault that it leaves.
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};
use cofferdam::fault::{Access, Cause, Fault};
use cofferdam::hal::Hal;
use heapless::Vec;

use crate::{Front, Report, Words};

/// Forgets the faults so far.
pub fn forget_faults<H: Hal>(iommu: &Front<H>) {
    iommu.faults(|_| ());
}

/// What a fault has to say of a request.
#[derive(Clone, Copy, Debug)]
pub struct Blocked {
    /// Who sent it.
    pub source: SourceId,
    /// What it wanted.
    pub access: Access,
    /// Where: a page.
    pub at: Iova,
    /// Why it is blocked.
    pub cause: Cause,
}

impl Blocked {
    /// There has been one fault since the last look, and it says this.
    pub fn expect<H: Hal>(self, report: &Report, iommu: &Front<H>, what: &str) {
        let (mut faults, mut count) = (Vec::<Fault, 1>::new(), 0);
        iommu.faults(|fault| {
            let _ = faults.push(fault);
            count += 1;
        });
        let Self { source, access, at, cause } = self;
        let is_this = |fault: &Fault| {
            (fault.source, fault.access, fault.address, fault.cause) == (source, access, Some(at), cause)
        };
        let ok = count == 1 && faults.iter().all(is_this);
        let first = faults.first().map(|fault| Words::new(format_args!(", the first: {fault}"))).unwrap_or_default();
        report.expect(ok, what, format_args!("{count} faults{}", first.as_str()));
    }
}
