//! The memory map, and what it says of memory that firmware's table reserves.

use cofferdam_pc::{MappedRange, Pc, println};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Front, MapAnswer, Report, Words};

/// Prints the memory map, as the loader gave it.
pub(crate) fn look_at(pc: &Pc, report: &Report) {
    println!("\nMemory map, as the loader gave it:");
    for MappedRange { first, bytes, kind } in pc.memory_map() {
        println!("  {first:#x}..={:#x} {kind}", first.saturating_add(bytes.saturating_sub(1)));
        report.tell(Record::Memory { first, bytes, kind: Words::new(format_args!("{kind}")).as_str() });
    }
}

/// Prints what firmware's table reserves, and whether the memory map agrees.
pub(crate) fn look_at_reserved(pc: &'static Pc, iommu: &Front<&'static Pc>, report: &Report) {
    if iommu.topology().reserved_memory().is_empty() {
        println!("  no memory is reserved for devices");
    }
    for reserved in iommu.topology().reserved_memory() {
        let range = reserved.region.input;
        let map = reserved.region.outputs().map_or(MapAnswer::Unknown, |memory| MapAnswer::of(memory, pc.memory_map()));
        println!("  reserved at offset {:#x}: {range}; the memory map: {map}", reserved.offset);
        report.tell(Record::Reserved {
            first: range.start().as_u64(),
            last: range.last().as_u64(),
            offset: reserved.offset,
            map: Words::new(format_args!("{map}")).as_str(),
            agrees: map.agrees(),
        });
    }
}
