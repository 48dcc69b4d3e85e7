//! The order in which calls come that wait for cells, or for the end of resets: whoever has waited longest goes first.
#![forbid(unsafe_code)]

use crate::cell::{Cell, CellId, ResetPolicy};
use crate::iommu::edit::Edit;
use crate::iommu::error::Error;
use crate::iommu::state::{Assignment, CellSet, Config};
use crate::pci::RESET_NS;

/// So often a call lets another go first that has waited longer, although nothing else is in its own way. One that looks again
/// at all does so by then; one whose CPU is away, or that waits for a further cell, holds nobody up.
const COURTESY: u32 = 256;

/// So long a call that may reset a device lets one go first that waits for the end of resets. Those that are under way end by
/// then; one that takes longer holds up only whoever waits for it.
pub(super) const RESETS_END_NS: u64 = 2 * RESET_NS;

/// The place of a call among those that wait.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Lower than that of every call that began to wait later; 0 before this one waits.
    number: u64,
    /// How often it let another go first.
    let_go_first: u32,
    /// Resets have had the time to end.
    resets_had_time: bool,
}

/// What a call does with functions of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    /// It looks at them, so none is in a reset meanwhile (R49).
    pub(super) looks: bool,
    /// It may reset some.
    pub(super) resets: bool,
}

impl Functions {
    pub(super) const UNTOUCHED: Self = Self { looks: false, resets: false };
    pub(super) const LOOKED_AT: Self = Self { looks: true, resets: false };
}

impl Turn {
    pub(super) fn is_waiting(&self) -> bool {
        self.number != 0
    }

    /// Lets no other go first any more: the call fails for changes alone, and not for a turn.
    pub(super) fn let_nobody_first(&mut self) {
        self.let_go_first = COURTESY;
    }

    /// Waits for no reset any more only since another waits for it: [`RESETS_END_NS`] have passed.
    pub(super) fn note_time_for_resets(&mut self) {
        self.resets_had_time = true;
    }

    /// True if what is awaited is first for a call that has waited longer.
    fn is_behind(&self, awaited_by: u64) -> bool {
        awaited_by != 0 && (self.number == 0 || awaited_by < self.number)
    }

    fn lets_go_first(&self, awaited_by: u64) -> bool {
        self.let_go_first < COURTESY && self.is_behind(awaited_by)
    }
}

/// What keeps a call from some cells, or from functions of the machine.
enum Obstacle {
    /// This cell is in a change, or a device of it is being reset.
    Change(CellId),
    /// It is another's turn to have this cell, or to look at functions.
    Turn(Option<CellId>),
}

impl Config<'_> {
    /// Fails if one of some cells is in a change, if the call looks at functions and one is being reset, or if it is another's
    /// turn. It is this call's next then, unless another has waited longer for the same.
    #[inline(never)]
    pub(super) fn check_at_rest(&mut self, turn: &mut Turn, cells: CellSet, functions: Functions) -> Result<(), Error> {
        let obstacle = self.obstacle(turn, cells, functions);
        if obstacle.is_some() && turn.number == 0 {
            self.turns = self.turns.wrapping_add(1).max(1);
            turn.number = self.turns;
        }
        let waits = |awaited_by: &mut u64| {
            if *awaited_by == 0 || turn.number < *awaited_by {
                *awaited_by = turn.number;
            }
        };
        for cell in self.cells.of(cells) {
            if obstacle.is_none() {
                cell.awaited_by = 0;
            } else {
                waits(&mut cell.awaited_by);
            }
        }
        if obstacle.is_none() {
            // Whoever else only looks can do so at the same time, and keeps its turn until it does.
            if functions.resets || self.look_awaited_by == turn.number {
                self.look_awaited_by = 0;
            }
        } else if functions.looks {
            waits(&mut self.look_awaited_by);
        }
        match obstacle {
            None => Ok(()),
            Some(Obstacle::Change(cell)) => Err(Error::InChange { cell: Some(cell) }),
            Some(Obstacle::Turn(cell)) => {
                turn.let_go_first += 1;
                Err(Error::InChange { cell })
            }
        }
    }

    fn obstacle(&self, turn: &Turn, cells: CellSet, functions: Functions) -> Option<Obstacle> {
        let mut others = None;
        for (id, cell) in self.cells.iter().filter(|(id, _)| cells.has(*id)) {
            if cell.busy {
                return Some(Obstacle::Change(id));
            }
            if others.is_none() && turn.lets_go_first(cell.awaited_by) {
                others = Some(Obstacle::Turn(Some(id)));
            }
        }
        let lets_look = functions.resets && turn.lets_go_first(self.look_awaited_by);
        if !functions.looks && !lets_look {
            return others;
        }
        match self.devices.iter().find(|device| device.reset.is_some() && !device.quarantined) {
            Some(device) if functions.looks || !turn.resets_had_time => Some(Obstacle::Change(device.cell)),
            None if lets_look => Some(Obstacle::Turn(None)),
            _ => others,
        }
    }

    /// True if an edit may have a device reset: one that leaves its cell, or one that arrives in a change that fails.
    pub(super) fn may_reset(&self, edit: &Edit) -> bool {
        let leaves = |device: &Assignment| match *edit {
            Edit::Release(released) => device.device == released,
            Edit::Destroy(cell) => device.cell == cell,
            _ => false,
        };
        let is_reset = |cell: &Cell<'_>| cell.config.reset != ResetPolicy::Never;
        let mut leaving = self.devices.iter().filter(|device| leaves(device));
        matches!(edit, Edit::Assign(..)) || leaving.any(|device| self.cell(device.cell).is_ok_and(is_reset))
    }

    /// Ends a wait without what was waited for.
    pub(super) fn leave(&mut self, turn: &Turn) {
        let awaited = self.cells.iter_mut().map(|(_, cell)| &mut cell.awaited_by).chain([&mut self.look_awaited_by]);
        awaited.filter(|awaited_by| **awaited_by == turn.number).for_each(|awaited_by| *awaited_by = 0);
    }
}
