//! Tests of this floor that need a unit.

mod fake_unit;
mod queue;
mod schedules;
