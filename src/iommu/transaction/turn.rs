//! The order in which calls come that wait for cells: whoever has waited longest goes first.
#![forbid(unsafe_code)]

use crate::cell::{Cell, CellId};
use crate::iommu::error::Error;
use crate::iommu::state::Config;

/// So often a call lets another go first that has waited longer, although nothing else is in its own way. One that looks again
/// at all does so by then; one whose CPU is away, or that waits for a further cell, holds nobody up.
const COURTESY: u32 = 256;

/// The place of a call among those that wait for cells.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Lower than that of every call that began to wait later; 0 before this one waits.
    number: u64,
    /// How often it let another go first.
    let_go_first: u32,
}

impl Turn {
    pub(super) fn is_waiting(&self) -> bool {
        self.number != 0
    }

    /// Lets no other go first any more: the call fails for changes alone, and not for a turn.
    pub(super) fn let_nobody_first(&mut self) {
        self.let_go_first = COURTESY;
    }

    /// True if a cell is first for a call that has waited longer.
    fn is_behind(&self, awaited_by: u64) -> bool {
        awaited_by != 0 && (self.number == 0 || awaited_by < self.number)
    }
}

/// What keeps a call from some cells.
enum Obstacle {
    /// This one is in a change.
    Change(CellId),
    /// It is another's turn to have this one.
    Turn(CellId),
}

impl Config<'_> {
    /// Fails if one of some cells is in a change, or if it is another's turn to have it. Each of them is this call's next then,
    /// unless another has waited longer for it.
    pub(super) fn check_at_rest(
        &mut self,
        turn: &mut Turn,
        is_concerned: impl Fn(CellId) -> bool,
    ) -> Result<(), Error> {
        let obstacle = self.obstacle(turn, &is_concerned);
        if obstacle.is_some() && turn.number == 0 {
            self.turns = self.turns.wrapping_add(1).max(1);
            turn.number = self.turns;
        }
        for (_, cell) in self.cells.iter_mut().filter(|(id, _)| is_concerned(*id)) {
            if obstacle.is_none() {
                cell.awaited_by = 0;
            } else if cell.awaited_by == 0 || turn.number < cell.awaited_by {
                cell.awaited_by = turn.number;
            }
        }
        match obstacle {
            None => Ok(()),
            Some(Obstacle::Change(cell)) => Err(Error::InChange { cell: Some(cell) }),
            Some(Obstacle::Turn(cell)) => {
                turn.let_go_first += 1;
                Err(Error::InChange { cell: Some(cell) })
            }
        }
    }

    fn obstacle(&self, turn: &Turn, is_concerned: impl Fn(CellId) -> bool) -> Option<Obstacle> {
        let is_others = |cell: &Cell<'_>| turn.let_go_first < COURTESY && turn.is_behind(cell.awaited_by);
        let mut others = None;
        for (id, cell) in self.cells.iter().filter(|(id, _)| is_concerned(*id)) {
            if cell.busy {
                return Some(Obstacle::Change(id));
            }
            if others.is_none() && is_others(cell) {
                others = Some(Obstacle::Turn(id));
            }
        }
        others
    }

    /// Ends a wait without what was waited for.
    pub(super) fn leave(&mut self, turn: &Turn) {
        let awaited = self.cells.iter_mut().filter(|(_, cell)| cell.awaited_by == turn.number);
        awaited.for_each(|(_, cell)| cell.awaited_by = 0);
    }
}
