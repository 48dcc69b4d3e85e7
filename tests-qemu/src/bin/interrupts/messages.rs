//! Messages of devices.

use cofferdam::interrupt::{Message, Route, Source};
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam_tests_qemu::{Edu, Words};

use crate::job::Job;

/// Vectors of the two cells.
const FIRST: (u8, u8) = (0x40, 0x7f);
const SECOND: (u8, u8) = (0x80, 0x8f);

/// Reasons of faults (VT-d 5.10, table 7-1): the index is beyond the table; the entry is not present; it is another's.
const BEYOND: u16 = 0x21;
const ABSENT: u16 = 0x22;
const FORGED: u16 = 0x26;

impl Job<'_> {
    pub(crate) fn messages(&self, one: &Edu, other: &Edu) -> Result<(), Words> {
        let (at_first, at_last) = (|vector| Route::to(self.first, vector), |vector| Route::to(self.last, vector));
        let (first, second) = (self.cell((self.first, self.first), FIRST)?, self.cell((self.last, self.last), SECOND)?);
        let two = DeviceConfig { messages: 2, ..DeviceConfig::default() };
        let [a0, a1] = [0, 1].map(|index| Source::Message { device: one.source(), index });
        let b0 = Source::Message { device: other.source(), index: 0 };
        self.iommu.commit(&[
            Edit::Assign(one.source(), first, two),
            Edit::Assign(other.source(), second, two),
            Edit::Route(first, a0, at_first(0x41)),
            Edit::Route(second, b0, at_last(0x81)),
        ])?;
        let [own, absent, theirs] = [a0, a1, b0].map(|source| self.iommu.message(source));
        let (own, absent, theirs) = (own?, absent?, theirs?);
        self.arrives(one, own, (self.first, 0x41), "a device's interrupt arrives at the CPU of its cell");
        self.arrives(other, theirs, (self.last, 0x81), "so does the other's, at the other CPU");
        self.iommu.route(first, a0, at_first(0x70))?;
        self.iommu.program_msi(one.source())?;
        self.interrupt(one, Some((self.first, 0x70)), "and so it does if the driver has programmed it");
        let what = "none arrives that it sends in the other's name";
        self.is_blocked(one, theirs, (FORGED, index(theirs)), what);
        self.is_blocked(one, absent, (ABSENT, index(absent)), "none without a route");
        let beyond = Message { address: 0xfeef_fffc, data: 0 };
        self.is_blocked(one, beyond, (BEYOND, index(beyond)), "none by an index beyond the table");
        // In compatibility format, QEMU lets all through, whatever GSTS_REG.CFIS shows.
        for vector in 0x42..0x50 {
            self.iommu.route(first, a0, at_first(vector))?;
            let what = "a route that moves is followed, and the device is not programmed again";
            self.arrives(one, own, (self.first, vector), what);
        }
        for elsewhere in [at_first(0x81), at_last(0x41), Route::to(self.boot, 0x41)] {
            let refused = self.iommu.route(first, a0, elsewhere);
            let what = "no route leads to a vector or a CPU that its cell does not have";
            self.report.expect(refused.is_err(), what, format_args!("{refused:?}"));
        }
        self.iommu.unroute(first, a0)?;
        self.is_blocked(one, own, (ABSENT, index(own)), "none arrives that is routed no more");
        self.audit(1)?;
        self.iommu.release(other.source())?;
        other.resume();
        self.is_blocked(other, theirs, (ABSENT, index(theirs)), "none of a device that has left its cell");
        self.audit(0)?;
        self.iommu.destroy_cell(first)?;
        self.iommu.destroy_cell(second)?;
        Ok(())
    }
}

/// Which entry a message names (VT-d 5.10, section 5.1.5.2): bits 14:0 and 15 of the index in bits 19:5 and 2 of the address.
fn index(message: Message) -> u16 {
    (message.address >> 5 & 0x7fff | (message.address >> 2 & 1) << 15) as u16
}
