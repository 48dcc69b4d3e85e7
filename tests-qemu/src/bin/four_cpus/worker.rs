//! One CPU with its cell: it moves the page by which a card of the cell works, over and over, and has the card and another device write.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cofferdam::CellId;
use cofferdam::addr::Iova;
use cofferdam::iommu::Edit;
use cofferdam_pc::Pc;
use cofferdam_tests_qemu::{Edu, Front, Nic, Words};
use spin::Once;

use crate::{INPUT, PAGE, assign, region};

pub(crate) const CELLS: usize = 4;

/// Pages of a cell, as its devices see them: two of the card, of which the first moves between two places; one that the other device
/// writes to; and behind that one for each cell, of which a cell has its own alone.
const CARD: u64 = 0;
const PLACES: [u64; 2] = [0, 0x80];
const PACKET: u64 = 1;
const WRITTEN: u64 = 2;
const OWN: u64 = 8;

/// When all of them work.
pub(crate) static START: Signal = Signal { begun: AtomicBool::new(false), ended: AtomicBool::new(false) };

pub(crate) struct Signal {
    begun: AtomicBool,
    ended: AtomicBool,
}

impl Signal {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn wait(&self) {
        while !self.begun.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }

    fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// What each CPU does.
pub(crate) const WORK: [fn(); CELLS] = [work::<0>, work::<1>, work::<2>, work::<3>];
static WORKERS: [Once<Worker>; CELLS] = [const { Once::new() }; CELLS];

fn work<const N: usize>() {
    if let Some(worker) = WORKERS.get(N).and_then(Once::get) {
        worker.work();
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Changes that were made, and those that failed.
    pub(crate) commits: u32,
    pub(crate) refused: u32,
    /// What the card wrote, what of that arrived where its page was, and where it was not.
    pub(crate) sent: u32,
    pub(crate) here: u32,
    pub(crate) elsewhere: u32,
    /// What the other device wrote to its own memory, and what of that did not arrive.
    pub(crate) written: u32,
    pub(crate) lost: u32,
}

pub(crate) struct Worker {
    number: usize,
    iommu: &'static Front<&'static Pc>,
    pub(crate) cell: CellId,
    nic: Nic,
    pub(crate) device: Edu,
    counts: [AtomicU32; 7],
    is_ready: AtomicBool,
    is_done: AtomicBool,
}

/// What the memory of a cell holds.
fn own_word(number: usize) -> u64 {
    0xce11_0000_0000_0000 | number as u64
}

impl Worker {
    /// A cell with its memory and both devices.
    pub(crate) fn new(
        number: usize,
        iommu: &'static Front<&'static Pc>,
        pc: &'static Pc,
        cell: CellId,
        nic: Nic,
        device: Edu,
    ) -> Result<&'static Self, Words> {
        let memory = nic.memory();
        (0..memory.bytes()).step_by(8).for_each(|word| memory.write(word, own_word(number)));
        let own = OWN + number as u64;
        let pages = [(CARD, PLACES[0]), (PACKET, PACKET), (WRITTEN, WRITTEN), (own, own)];
        let mut regions = heapless::Vec::<_, 4>::new();
        for (page, place) in pages {
            regions.push(region(memory, page, place)?).map_err(|_| Words::new(format_args!("too many pages")))?;
        }
        assign(iommu, pc, cell, [nic.source(), device.source()], &regions)?;
        // The device has the cell's word in its buffer from then on.
        device.read(Iova::new(INPUT + WRITTEN * PAGE), 8);
        let worker = WORKERS.get(number).ok_or_else(|| Words::new(format_args!("too many cells")))?;
        let (is_ready, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
        let counts = [const { AtomicU32::new(0) }; 7];
        Ok(worker.call_once(|| Self { number, iommu, cell, nic, device, counts, is_ready, is_done }))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    pub(crate) fn counts(&self) -> Counts {
        let [commits, refused, sent, here, elsewhere, written, lost] =
            self.counts.each_ref().map(|count| count.load(Ordering::Acquire));
        Counts { commits, refused, sent, here, elsewhere, written, lost }
    }

    /// Where its other device tries to write, as the next cell's may.
    pub(crate) fn tried(&self) -> Iova {
        Iova::new(INPUT + (OWN + (self.number as u64 + 1) % CELLS as u64) * PAGE)
    }

    /// Words of the cell's memory that do not hold what they are to hold: all but those that its card uses.
    pub(crate) fn strange_words(&self) -> u64 {
        let (memory, own) = (self.nic.memory(), own_word(self.number));
        let is_card = |word: u64| PLACES.contains(&(word / PAGE)) || word / PAGE == PACKET;
        let words = (0..memory.bytes()).step_by(8).filter(|word| !is_card(*word));
        words.filter(|word| memory.read(*word) != own).count() as u64
    }

    fn work(&self) {
        self.is_ready.store(true, Ordering::Release);
        START.wait();
        let mut counts = Counts::default();
        let mut under_way = None;
        while !START.is_over() {
            self.step(&mut counts);
            under_way = self.write(under_way, &mut counts);
        }
        self.device.is_done();
        self.count(under_way, &mut counts);
        let Counts { commits, refused, sent, here, elsewhere, written, lost } = counts;
        let all = [commits, refused, sent, here, elsewhere, written, lost];
        self.counts.iter().zip(all).for_each(|(count, now)| count.store(now, Ordering::Release));
        self.is_done.store(true, Ordering::Release);
    }

    /// The card's page goes to its other place, and the card writes.
    fn step(&self, counts: &mut Counts) {
        let here = (counts.commits as usize + 1) % 2;
        let Some(page) = PLACES.get(here).and_then(|place| region(self.nic.memory(), CARD, *place).ok()) else {
            return;
        };
        let changed = self.iommu.commit(&[Edit::Unmap(self.cell, page.input), Edit::Map(self.cell, page)]);
        if changed.is_err() {
            counts.refused += 1;
            return;
        }
        counts.commits += 1;
        let arrived = self.nic.send_by(PLACES.map(|place| place * PAGE));
        counts.sent += 1;
        counts.here += u32::from(arrived.get(here) == Some(&true));
        counts.elsewhere += u32::from(arrived.get(1 - here) == Some(&true));
    }

    /// The other device writes, which takes it 100 ms, to its own page and to where it has none by turns. True for its own if one is
    /// under way.
    fn write(&self, under_way: Option<bool>, counts: &mut Counts) -> Option<bool> {
        if self.device.is_busy() {
            return under_way;
        }
        self.count(under_way, counts);
        let to_own = under_way != Some(true);
        if to_own {
            self.nic.memory().write(WRITTEN * PAGE, 0);
        }
        self.device.begin_write(if to_own { Iova::new(INPUT + WRITTEN * PAGE) } else { self.tried() }, 8);
        Some(to_own)
    }

    /// Counts what the other device wrote to its own page.
    fn count(&self, under_way: Option<bool>, counts: &mut Counts) {
        if under_way == Some(true) {
            counts.written += 1;
            counts.lost += u32::from(self.nic.memory().read(WRITTEN * PAGE) != own_word(self.number));
        }
    }
}
