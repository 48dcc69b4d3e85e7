//! The driver on the hardware model: what it does on each kind of unit, and what it leaves when something goes wrong.
//!
//! Each machine is checked for broken rules when it goes out of scope.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod access_control;
mod alone;

mod audit;
mod between;
mod bring_up;
mod capacities;
mod cells;
mod changes;
mod coherency;
mod config_reads;
mod device_tlb;
mod device_tlb_resets;
mod differences;
mod events_in_time;
mod failures;
mod faults;
mod flipped_bits;
mod forgotten;
mod given_back;
mod given_back_again;
mod gone;
mod groups;
mod hand_back;
mod handed_back;
mod handlers;
mod hot_plug;
mod interrupts;
mod interrupts_in_time;
mod interrupts_lost;
mod interrupts_withdrawn;
mod kept_in_trouble;
mod kept_interrupts;
mod left_behind;
mod lies;
mod lost_parts;
mod moves;
mod msi;
mod nmi;
mod one_change;
mod outputs;
mod policies;
mod posted;
mod posted_in_trouble;
mod prepared;
mod properties;
mod quirks;
mod random_changes;
mod random_failures;
mod random_routes;
mod register_based;
mod reserved;
mod reset_turns;
mod resets;
mod resume;
mod room;
mod same_ids;
mod several_differences;
mod shared;
mod shared_ids;
mod sleep;

mod take_over;
mod threads;
mod turns;
mod two_cpus;
mod two_failures;
mod two_units;
mod unblocked;
mod unconfirmed;
mod unlinked;
mod unresponsive_devices;
mod vanished;
mod virtual_functions;
mod waits;
mod what_is_left;
mod whole_lists;
mod windows;
mod withheld;
