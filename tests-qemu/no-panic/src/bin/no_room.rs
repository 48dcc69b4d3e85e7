//! Every call of the driver, without room for anything, on a platform by reference.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use cofferdam_no_panic::{Platform, calls, program};

fn run() {
    calls::all::<&'static Platform, 0, 0, 0, 0, 0>();
}

program!(run);
