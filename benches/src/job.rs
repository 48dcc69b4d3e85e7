//! One piece of work by one contender.

use cofferdam::internals::{SecondStage, V1};

use crate::ours::{Cofferdam, Stores};
use crate::peers::{Aarch64Paging, PageTableGeneric, PageTableMultiarch, X86_64};
use crate::tables::Tables;

/// Work that is ready to be done: once, under the clock or the counter. What it takes to make it ready and to clear away
/// after it counts for nothing.
pub trait Job {
    /// Does it.
    fn run(&mut self);
}

/// A table and what is done to it.
struct Edit<T> {
    tables: T,
    work: fn(&mut T, u64),
    bytes: u64,
}

impl<T: Tables> Job for Edit<T> {
    fn run(&mut self) {
        (self.work)(&mut self.tables, self.bytes);
    }
}

/// Where devices see what is mapped: the start of what an entry of the top table covers.
const INPUT: u64 = 1 << 39;
/// So far off an alignment to 2 MiB that only pages of 4 KiB fit, or off one to 1 GiB that only those of 2 MiB do.
const SMALL: u64 = (1 << 40) + (4 << 10);
const MIDDLE: u64 = (1 << 40) + (2 << 20);
/// Aligned as the input is, so that pages side by side may become larger ones.
const LARGE: u64 = 1 << 40;
/// What a table of pages of 2 MiB covers.
const GIB: u64 = 1 << 30;

/// Makes a contender ready for a piece of work; `None` if there is no such work or contender. `bytes` is how much memory
/// is mapped or unmapped.
pub fn job(work: &str, contender: &str, bytes: u64) -> Option<Box<dyn Job>> {
    match contender {
        "cofferdam" => edit::<Cofferdam<SecondStage, true>>(work, bytes).or_else(|| crate::driver::job(work)),
        "cofferdam_v1" => edit::<Cofferdam<V1, true>>(work, bytes),
        "cofferdam_unsnooped" => edit::<Cofferdam<SecondStage, false>>(work, bytes),
        "stores" => edit::<Stores<true>>(work, bytes),
        "stores_unsnooped" => edit::<Stores<false>>(work, bytes),
        "x86_64" => edit::<X86_64>(work, bytes),
        "page_table_multiarch" => edit::<PageTableMultiarch>(work, bytes),
        "page_table_generic" => edit::<PageTableGeneric>(work, bytes),
        "aarch64_paging" => edit::<Aarch64Paging>(work, bytes),
        _ => None,
    }
}

/// Edits of one page table.
fn edit<T: Tables + 'static>(work: &str, bytes: u64) -> Option<Box<dyn Job>> {
    let mut tables = T::new();
    let work: fn(&mut T, u64) = match work {
        "map_page" => map_pages,
        "map_page_alike" => {
            |tables, bytes| pages(bytes).for_each(|offset| tables.map_page(INPUT + offset, LARGE + offset))
        }
        "unmap_page" => {
            map_pages(&mut tables, bytes);
            |tables, bytes| pages(bytes).for_each(|offset| tables.unmap_page(INPUT + offset))
        }
        "map_4k" => |tables, bytes| tables.map(INPUT, SMALL, bytes),
        "unmap_4k" => {
            tables.map(INPUT, SMALL, bytes);
            |tables, bytes| tables.unmap(INPUT, SMALL, bytes)
        }
        "map_2m" => |tables, bytes| tables.map(INPUT, MIDDLE, bytes),
        "unmap_2m" => {
            tables.map(INPUT, MIDDLE, bytes);
            |tables, bytes| tables.unmap(INPUT, MIDDLE, bytes)
        }
        "unmap_sparse" => {
            // As many tables, with one page in each.
            for start in (0..bytes).step_by(GIB as usize) {
                tables.map(INPUT + start, MIDDLE + start, 2 << 20);
            }
            |tables, bytes| tables.unmap(INPUT, MIDDLE, bytes)
        }
        _ => return None,
    };
    Some(Box::new(Edit { tables, work, bytes }))
}

fn map_pages<T: Tables>(tables: &mut T, bytes: u64) {
    pages(bytes).for_each(|offset| tables.map_page(INPUT + offset, SMALL + offset));
}

fn pages(bytes: u64) -> impl Iterator<Item = u64> {
    (0..bytes / 4096).map(|page| page * 4096)
}
