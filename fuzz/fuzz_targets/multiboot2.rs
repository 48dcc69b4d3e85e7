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
    if let Some((kind, content)) = memory.split_first() {
        cofferdam_pc::fuzz::multiboot2(&among_others(kind % 24, content));
    }
});

/// A list that has a tag of this type and content between a memory map and the end.
fn among_others(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut list = vec![0; 8];
    // 2 GiB of memory, in a map of one entry.
    let map = [24, 0, 1 << 31, 1].map(u64::to_le_bytes).concat();
    for (kind, content) in [(6, &map[..]), (kind.into(), content), (0, &[])] {
        list.extend([kind, content.len() as u32 + 8].map(u32::to_le_bytes).concat());
        list.extend(content);
        list.resize(list.len().next_multiple_of(8), 0);
    }
    let size = (list.len() as u32).to_le_bytes();
    list[..4].copy_from_slice(&size);
    list
}
