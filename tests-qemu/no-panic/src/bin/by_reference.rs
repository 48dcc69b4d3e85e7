//! Every call of the driver, on a platform by reference.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use cofferdam_no_panic::{Platform, calls, program};

fn run() {
    calls::all::<&'static Platform>();
}

program!(run);
