//! Each test runs with each format.

/// Makes tests of functions that take a format.
macro_rules! each_format {
    ($($test:ident),* $(,)?) => {
        each_format!(toy, crate::paging::tests::toy::Toy, $($test),*);
        each_format!(second_stage, crate::internals::SecondStage, $($test),*);
        each_format!(v1, crate::internals::V1, $($test),*);
    };
    ($name:ident, $format:ty, $($test:ident),*) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    super::$test::<$format>();
                }
            )*
        }
    };
}

mod cost;
mod formats;
mod history;
mod joining;
mod journal;
mod mapping;
mod needs;
mod reading;
mod refusing;
mod toy;
mod unlinked;
mod unmapping;

use std::vec::Vec;

use super::*;
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::hal::fake::{Deed, Fake};
use crate::hal::{Hal, NoFrame};
use crate::internals::{SecondStage, V1};

const KIB4: u64 = 0x1000;
const MIB2: u64 = 0x20_0000;
const GIB: u64 = 0x4000_0000;
const RW: Rights = Rights::all();

/// A format, and what its tables are like.
trait Sample: Format + std::fmt::Debug {
    const FORMAT: Self;
    const GEOMETRY: Geometry;
    /// The bits of a present entry that hardware reads, or wants to be zero: from its specification, not from the driver.
    const READ_BY_HARDWARE: u64;
    const LEVELS: usize = Self::GEOMETRY.levels as usize;
    /// Behind the last input address.
    const TOP: u64 = 1 << Self::GEOMETRY.input_bits;
}

impl Sample for SecondStage {
    const FORMAT: Self = Self { snoop: true };
    const GEOMETRY: Geometry = Geometry::new(4, 3, 48, 46, &[Hole::INTERRUPTS]).unwrap();
    const READ_BY_HARDWARE: u64 = 0x400f_ffff_ffff_ffff;
}

impl Sample for V1 {
    const FORMAT: Self = Self { force_coherent: true };
    const GEOMETRY: Geometry = Geometry::new(5, 3, 57, 46, V1::holes(false)).unwrap();
    const READ_BY_HARDWARE: u64 = 0x7fff_ffff_ffff_fe61;
}

struct Bench<F> {
    hal: Fake,
    table: PageTable<F>,
}

fn bench<F: Sample>(geometry: Geometry, coherent: bool) -> Bench<F> {
    let hal = Fake::new(80);
    let table = PageTable::new(&hal, F::FORMAT, geometry, coherent).unwrap();
    hal.journal();
    Bench { hal, table }
}

fn region(input: u64, output: u64, bytes: u64, rights: Rights) -> Region {
    Region::new(Iova::new(input), PhysAddr::new(output), bytes, rights).unwrap()
}

fn range(input: u64, bytes: u64) -> IovaRange {
    IovaRange::new(Iova::new(input), bytes).unwrap()
}

impl<F: Format> Bench<F> {
    fn map(&mut self, input: u64, output: u64, bytes: u64) -> Change {
        self.map_with(input, output, bytes, RW)
    }

    fn map_with(&mut self, input: u64, output: u64, bytes: u64, rights: Rights) -> Change {
        let region = region(input, output, bytes, rights);
        let prealloc = self.table.prepare_map(&self.hal, region).unwrap();
        self.table.map(&self.hal, region, prealloc)
    }

    fn unmap(&mut self, input: u64, bytes: u64) -> Change {
        let range = range(input, bytes);
        let prealloc = self.table.prepare_edit(&self.hal, range).unwrap();
        self.table.unmap(&self.hal, range, prealloc)
    }

    fn protect(&mut self, input: u64, bytes: u64, rights: Rights) -> Change {
        let range = range(input, bytes);
        let prealloc = self.table.prepare_edit(&self.hal, range).unwrap();
        self.table.protect(&self.hal, range, rights, prealloc)
    }

    fn free_unlinked(&mut self) {
        // SAFETY: no hardware walks this table.
        unsafe { self.table.free_unlinked(&self.hal) };
    }

    /// Level of the page at `input`, and where `input` leads.
    fn walk(&self, input: u64) -> Option<(u8, u64)> {
        let (level, output, _) = self.table.walk(&self.hal, input)?;
        Some((level, output + input % page_bytes(level)))
    }
}
