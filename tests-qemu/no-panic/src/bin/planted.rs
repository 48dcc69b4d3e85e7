//! One panic path, to see that one is found: `cargo xtask panics` expects the line of the index, and no other.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::indexing_slicing, reason = "what it is for")]

use cofferdam_no_panic::{any, any_number, program, show};

fn run() {
    let numbers: &[u64; 7] = any();
    show(numbers[any_number() as usize]);
}

program!(run);
