//! What the machine holds against the driver.
#![forbid(unsafe_code)]

use std::ops::Range;

use cofferdam::addr::SourceId;

use crate::judge::ownership::{Owner, Targets};
use crate::judge::violation::Violation;
use crate::machine::assembly::Machine;

impl Machine {
    /// Says who owns which physical memory and which devices from now on. A device that reaches memory of others is a
    /// violation, `OWN`, however it came there; memory that nobody owns is not looked at.
    pub fn set_owners(&self, memory: Vec<(Range<u64>, Owner)>, devices: impl IntoIterator<Item = (SourceId, Owner)>) {
        let ownership = &mut self.state().board.ownership;
        (ownership.memory, ownership.devices) = (memory, devices.into_iter().collect());
    }

    /// Says which CPUs and vectors each owner has, and who owns which sender of interrupts, from now on: devices, IOAPICs and HPETs,
    /// some of which may have several owners for a while. An interrupt that goes anywhere else is a violation, `OWN`, however
    /// it came through, and so is each of a sender without an owner.
    pub fn set_targets(
        &self,
        targets: impl IntoIterator<Item = (Owner, Targets)>,
        senders: impl IntoIterator<Item = (SourceId, Owner)>,
    ) {
        let ownership = &mut self.state().board.ownership;
        ownership.targets = Some(targets.into_iter().collect());
        ownership.senders = senders.into_iter().collect();
    }

    /// Says for whom interrupts are posted to which descriptor from now on. Once there are [targets](Self::set_targets), one that is
    /// posted for another owner than its sender's is a violation, `OWN`. Whom the descriptor has notified is not looked at.
    pub fn set_descriptors(&self, descriptors: impl IntoIterator<Item = (u64, Owner)>) {
        self.state().board.ownership.descriptors = descriptors.into_iter().collect();
    }

    /// The rules that the driver has broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.state().board.journal.violations.clone()
    }

    /// The same, and forgets them, so that the machine may be dropped.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.state().board.journal.violations)
    }

    /// Drops the machine without a check, and returns the rules that were broken up to now.
    pub fn abandon(self) -> Vec<Violation> {
        self.state().abandoned = true;
        self.take_violations()
    }

    /// The last `lines` things that happened, one a line.
    pub fn journal(&self, lines: usize) -> String {
        self.state().board.journal.text(lines)
    }

    /// Looks for what a driver has left undone that says it is done: caches that still hold what memory does not say
    /// any more, tables that are not written back. Each becomes a violation. Call it after an operation of the driver
    /// has returned; units that had a [`Defect`](crate::Defect) are left out.
    pub fn settle(&self) {
        let state = &mut *self.state();
        let board = &mut state.board;
        state.units.iter_mut().for_each(|unit| unit.settle(board));
    }

    /// [`settle`](Self::settle)s, and fails the test if the driver broke a rule.
    ///
    /// # Panics
    ///
    /// With the violations and the journal before each.
    pub fn check(&self) {
        self.settle();
        let violations = self.take_violations();
        let report: String = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "the driver broke rules of the hardware:\n{report}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test fails already; this may be why.
            self.settle();
            self.violations().iter().for_each(|violation| eprintln!("{violation}"));
        } else if !self.state().abandoned {
            self.check();
        }
    }
}
