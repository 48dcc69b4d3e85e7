//! What each format keeps.

use super::*;

each_format! {
    an_entry_holds_what_was_put_in_and_no_ignored_bits,
    a_word_without_its_low_bits_is_absent,
    what_hardware_reads_is_not_ignored,
}

/// Levels at which there are pages, each with an output of that size, the highest of the format's addresses among them.
const PAGES: [(u8, u64); 5] = [(1, KIB4), (1, (1 << 52) - KIB4), (2, MIB2), (3, GIB), (3, (1 << 52) - GIB)];

fn an_entry_holds_what_was_put_in_and_no_ignored_bits<F: Sample>() {
    let format = F::FORMAT;
    let check = |word: u64, level, entry| {
        assert_eq!(word & F::IGNORED, 0, "{word:#x}");
        assert_eq!(format.decode(word, level), entry, "{word:#x}");
        assert_eq!(format.decode(word | F::IGNORED, level), entry, "{word:#x}");
    };
    for rights in [Rights::READ, Rights::WRITE, RW] {
        for (level, output) in PAGES {
            check(format.page(output, rights, level), level, Entry::Page { output, rights });
        }
    }
    for level in 2..=F::GEOMETRY.levels {
        let next = PhysAddr::new(u64::from(level) << 40 | 0x5000);
        check(format.table(next, level - 1), level, Entry::Table(next));
    }
}

fn a_word_without_its_low_bits_is_absent<F: Sample>() {
    for level in 1..=F::GEOMETRY.levels {
        for word in [0, KIB4, 0x000f_ffff_ffff_f000, 0x0123_4567_89ab_c000, !(KIB4 - 1)] {
            assert_eq!(F::FORMAT.decode(word, level), Entry::Absent, "{word:#x}");
        }
    }
}

fn what_hardware_reads_is_not_ignored<F: Sample>() {
    assert_eq!(F::IGNORED & F::READ_BY_HARDWARE, 0);
    assert!(F::IGNORED != 0);
}
