//! Which CPUs there are (ACPI 6.5, section 5.2.12).
#![forbid(unsafe_code)]

use super::little_endian;

/// Where the list begins. Each entry has its type and its length in its first two bytes.
const LIST: usize = 44;

/// So many ids come out at most, which is more than machines have.
const MOST: usize = 1024;

/// The APIC ids of CPUs that are enabled (bit 0 of their flags), by entries for a local APIC (type 0) and for a local x2APIC (type 9). Some
/// firmware lists a CPU by both, or twice; no id comes out twice.
pub(crate) fn cpu_ids(madt: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let mut rest = madt.get(LIST..).unwrap_or_default();
    let entries = core::iter::from_fn(move || {
        let length = usize::from(*rest.get(1)?).max(2);
        let (entry, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(entry)
    });
    let mut seen = heapless::Vec::<u32, MOST>::new();
    entries.filter_map(move |entry| {
        let (id, flags) = match entry.first()? {
            0 => (entry.get(3..4)?, entry.get(4)?),
            9 => (entry.get(4..8)?, entry.get(8)?),
            _ => return None,
        };
        let id = little_endian(id) as u32;
        let is_new = flags & 1 == 1 && !seen.contains(&id) && seen.push(id).is_ok();
        is_new.then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_are_enabled_come_out() {
        let mut madt = vec![0; LIST];
        madt.extend([0, 8, 7, 2, 1, 0, 0, 0]); // local APIC 2
        madt.extend([0, 8, 8, 3, 2, 0, 0, 0]); // not enabled
        madt.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]); // an IOAPIC
        madt.extend([9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0]); // local x2APIC 0x12c
        madt.extend([0, 8, 9]); // cut
        assert_eq!(cpu_ids(&madt).collect::<Vec<_>>(), [2, 0x12c]);
        for end in 0..madt.len() {
            assert!(cpu_ids(&madt[..end]).count() <= 2);
        }
    }

    #[test]
    fn a_cpu_that_is_listed_twice_comes_out_once() {
        let mut madt = vec![0; LIST];
        madt.extend([0, 8, 0, 3, 0, 0, 0, 0]); // not enabled here
        for _ in 0..2 {
            madt.extend([0, 8, 0, 2, 1, 0, 0, 0]);
            madt.extend([9, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
            madt.extend([9, 16, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(cpu_ids(&madt).collect::<Vec<_>>(), [2, 3]);
        let mut long = vec![0; LIST];
        for id in 0..2000_u16 {
            let [low, high] = id.to_le_bytes();
            long.extend([9, 16, 0, 0, low, high, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(cpu_ids(&long).count(), MOST);
    }

    #[test]
    fn an_entry_without_a_length_ends_some_time() {
        let mut madt = vec![0; LIST + 9];
        madt[LIST] = 0;
        assert_eq!(cpu_ids(&madt).count(), 0);
    }
}
