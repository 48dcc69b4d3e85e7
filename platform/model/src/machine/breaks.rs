//! What goes wrong at the request of a test.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;

use cofferdam::addr::{PhysAddr, SourceId};

use crate::machine::assembly::Machine;
use crate::unit::Defect;

impl Machine {
    /// Lets a unit go wrong, in addition to what is wrong with it already.
    pub fn break_unit(&self, unit: usize, defect: Defect) {
        if let Some(unit) = self.state().units.get_mut(unit) {
            unit.suffer(defect);
        }
    }

    /// Gives no memory of a former owner's from now on.
    pub fn keep_found_memory(&self) {
        self.gives_found_memory.store(false, Ordering::Relaxed);
    }

    /// Maps the registers of a unit nowhere when the driver next asks for them.
    pub fn map_no_registers(&self, unit: usize) {
        self.unmapped.fetch_or(1 << unit, Ordering::Relaxed);
    }

    /// Takes all [`Defect`]s of a unit away.
    pub fn mend_unit(&self, unit: usize) {
        let state = &mut *self.state();
        if let Some(unit) = state.units.get_mut(unit) {
            unit.heal(&mut state.board);
        }
        state.plan();
    }

    /// Lets a unit lose power and get it back, as in a sleep state: its registers are those of one that has come out of reset, its
    /// caches are empty, and nothing is under way. Memory and devices keep what they have, and so do its [`Defect`]s.
    pub fn reset_unit(&self, unit: usize) {
        let state = &mut *self.state();
        if let Some(unit) = state.units.get_mut(unit) {
            unit.reset(&mut state.board);
        }
        state.plan();
    }

    /// Lets a function lose power and get it back: its device-TLB is empty and off, and it is no bus master. What else is in its
    /// configuration space stays.
    pub fn cut_power(&self, function: SourceId) {
        self.state().board.devices.of(function).cut_power();
    }

    /// Lets the next `count` allocations succeed and all later ones fail; `None` lifts the limit.
    pub fn allow_allocations(&self, count: Option<u64>) {
        self.state().board.memory.allocations_left = count;
    }

    /// The CPU has no store of two words from now on.
    pub fn lose_pair_stores(&self) {
        self.pair_stores.store(false, Ordering::Relaxed);
    }

    /// Flips bits of a word of the driver's frames as a defect of the memory would: whoever reads it finds them flipped, and
    /// the model takes no notice. Flip them back before the driver stores to that word again, or the model finds a store
    /// that did not come through the seam.
    pub fn flip(&self, word: PhysAddr, bits: u64) {
        if let Some(index) = self.arena.index(word.as_u64()) {
            self.arena.set(index, self.arena.get(index) ^ bits);
        }
    }
}
