//! A change takes effect whole, or not at all. This page is all of it, step by step; each step has a file.

mod claim;
mod enlist;
mod flush;
mod grant;
mod outcomes;
mod plan;
mod provide;
mod retire;
mod revoke;
mod roll_back;
mod routes;
mod settle;
mod turn;
mod work;

pub(super) use claim::Transaction;
pub(super) use outcomes::UnitWork;
pub use settle::Committed;
pub(super) use work::Work;

use super::edit::Edit;
use super::error::Error;
use super::front::Iommu;
use super::queries::Remains;
use super::state::Phase;
use crate::hal::Hal;

/// Makes all edits take effect. If that fails, `remains` is called with what is left.
pub(super) fn run<H: Hal>(
    front: &Iommu<'_, H>,
    edits: &[Edit],
    remains: Option<&mut dyn FnMut(Remains)>,
) -> Result<Committed, Error> {
    let mut change = Transaction::claim(front, edits, edits.iter().any(Edit::looks_at_functions))?;
    // A change that is refused gives its cells back before it ends, and others may come to their slots.
    let (cells, first_made) = (change.scope, change.config.cells.made());
    let made = make(&mut change, edits);
    if let (Err(_), Some(remains)) = (&made, remains) {
        change.config.release_withheld(&front.hal, &front.probed().units);
        change.config.report(cells, first_made, remains);
    }
    made
}

fn make<H: Hal>(change: &mut Transaction<'_, '_, H>, edits: &[Edit]) -> Result<Committed, Error> {
    // Nothing that hardware knows of is touched yet: the edits are made in what is staged and held against every rule, and
    // what they need is got. Giving back needs no frame: what the root cell would get by it comes later if there is none.
    let mut root_gets = true;
    while let Err(error) = change.prepare(edits, root_gets) {
        change.unstage();
        if !(root_gets && matches!(error, Error::NoFrame(_)) && change.concerns_root()) {
            change.repeat_failed_flushes_alone();
            return Err(error);
        }
        root_gets = false;
    }
    change.begin();

    // What is revoked comes first, and is flushed before anything is granted. In this order a device leaves its cell:
    change.repeat_failed_flushes(edits);
    change.empty_device_tlbs(); // its ATS is off, and it has no translations of its own any more;
    change.revoke(); // its entry lets nothing through,
    change.flush(); // and its unit has confirmed that nothing gets through;
    change.quiesce(); // it is no bus master, and nothing that it sent is under way;
    change.reset(); // nothing is left in it of what its cell had it do;
    change.retire(); // its entry is erased, and it is free for another cell.
    change.note_unconfirmed(edits); // A unit that is out of service may know other places and rights than these.
    if let Some(error) = change.failure() {
        change.roll_back(Phase::Revoke);
        return Err(error);
    }

    change.grant();
    change.flush();
    if let Some(error) = change.failure() {
        change.take_back();
        change.roll_back(Phase::Grant);
        return Err(error);
    }
    Ok(change.settle())
}
