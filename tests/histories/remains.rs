//! What a change says that it has left when it failed, next to what can be asked for.

use cofferdam::CellId;
use cofferdam::iommu::{Committed, Error, Remains};
use cofferdam_support::front::Changes as _;

use crate::history::History;
use crate::oracle::{Edit, Oracle};
use crate::stage::After;

impl History<'_> {
    /// Asks the driver for the edits, which lead to `after`, while interrupts arrive: for one by its own call, for several by one
    /// that reports what is left.
    pub(crate) fn request(&mut self, edits: &[Edit], after: Option<&After>) -> Result<Committed, Error> {
        self.while_sending(after, |history| history.request_of(edits))
    }

    fn request_of(&mut self, edits: &[Edit]) -> Result<Committed, Error> {
        if let &[edit] = edits {
            return self.oracle.request_alone(&self.iommu, edit);
        }
        let mut change = self.iommu.change();
        edits.iter().for_each(|edit| self.oracle.add(&mut change, *edit));
        let concerned: Vec<CellId> = edits.iter().filter_map(|edit| self.oracle.named_by(edit)).collect();
        let mut all = Vec::new();
        let result = self.iommu.commit_reporting(&change.edits, |remains| all.push(remains));
        match result {
            Ok(_) => assert!(all.is_empty(), "{all:?}"),
            // Before anything else is looked at.
            Err(Error::NoSuchCell(cell)) if self.oracle.gone.contains(&cell) => assert!(all.is_empty(), "{all:?}"),
            Err(_) => self.look_at_remains(&all, &concerned),
        }
        result
    }

    fn look_at_remains(&mut self, all: &[Remains], concerned: &[CellId]) {
        let mut expected = Vec::new();
        self.iommu.withheld(|it| expected.push((it.cell, Remains::Withheld(it)))).unwrap();
        let quarantined = |it: cofferdam::iommu::AssignedDevice| {
            if it.quarantined {
                expected.push((it.cell, Remains::Quarantined(it)));
            }
        };
        self.iommu.assigned(quarantined).unwrap();
        for cell in self.oracle.cells.iter_mut().flatten() {
            let now = self.iommu.coherency(cell.id).unwrap();
            let remains = Remains::Coherency(cell.id, now);
            if all.contains(&remains) || concerned.contains(&cell.id) && cell.learned != now {
                assert_ne!(
                    std::mem::replace(&mut cell.learned, now),
                    now,
                    "coherency of {} is reported again",
                    cell.id
                );
                expected.push((cell.id, remains));
            }
        }
        // The root cell is concerned by what other cells get, and one more by what a device leaves.
        expected.retain(|(cell, remains)| concerned.contains(cell) || all.contains(remains));
        assert_eq!(expected.len(), all.len(), "expected {expected:?}, and not {all:?}");
        assert!(expected.iter().all(|(_, remains)| all.contains(remains)), "expected {expected:?}, and not {all:?}");
    }
}

impl Oracle {
    /// The cell that an edit names, or that has the device which it names.
    fn named_by(&self, edit: &Edit) -> Option<CellId> {
        let slot = match *edit {
            Edit::Map(cell, ..) | Edit::Unmap(cell, ..) | Edit::Protect(cell, ..) => cell,
            Edit::Assign(_, cell, ..) | Edit::Destroy(cell) | Edit::Wrong(cell, _) => cell,
            Edit::Route(cell, ..) | Edit::Unroute(cell, _) => cell,
            Edit::Release(device) => self.devices[device].cell?,
        };
        Some(self.cell(slot).id)
    }
}
