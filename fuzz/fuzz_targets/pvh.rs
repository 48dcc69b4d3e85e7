//! What a PVH loader tells, as the platform under the scenarios reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|memory: &[u8]| cofferdam_pc::fuzz::pvh(memory));
