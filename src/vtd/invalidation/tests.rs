//! Tests of invalidation that need a unit.

mod bench;
mod fake_unit;
mod on_model;
mod queue;
mod recovery;
mod schedules;
mod two_cpus;
