//! Every call of the driver, with any capacities: what a hypervisor links, except for the words.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use cofferdam_no_panic::{Platform, calls, program};

fn run() {
    calls::all::<Platform>();
}

program!(run);
