//! Tests of invalidation that need a unit.

mod fake_unit;
mod on_model;
mod queue;
mod schedules;
