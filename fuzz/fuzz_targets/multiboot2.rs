//! What a multiboot2 loader tells, as the platform under the scenarios reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|memory: &[u8]| {
    cofferdam_pc::fuzz::multiboot2(memory);
    // And as long as it says, so that the tags are what is wrong.
    let mut sized = memory.to_vec();
    let size = sized.len() as u32;
    if let Some(first) = sized.first_chunk_mut() {
        *first = size.to_le_bytes();
        cofferdam_pc::fuzz::multiboot2(&sized);
    }
});
