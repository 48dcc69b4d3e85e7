//! Tests of invalidation that need a unit.

mod bench;
mod fake_unit;
mod on_model;
mod queue;
mod recovery;
mod registers_unit;
mod schedules;
mod two_cpus;
mod whole_unit;
