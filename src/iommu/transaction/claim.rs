//! What a change has while it runs: a slot to work in, the lock on the configuration, which it gives up while it waits, and the
//! cells that it is about.
#![forbid(unsafe_code)]

use lock_api::MutexGuard;

use super::outcomes::Outcomes;
use super::turn::{Functions, RESETS_END_NS, Turn};
use super::work::Work;
use crate::cell::{CellConfig, CellId, Reserved};
use crate::hal::{Deadline, Hal};
use crate::iommu::edit::Edit;
use crate::iommu::error::{Asleep, Error, NoSuchCell, StaysLocked};
use crate::iommu::front::Iommu;
use crate::iommu::lock::{Guard, RawMutex};
use crate::iommu::state::{CellSet, Config};

/// A change that runs.
///
/// It has its slot before it has the lock on the configuration, and that before any lock of a unit. In another order, the
/// changes that have all slots would wait for the lock of one that waits for a slot.
pub(in crate::iommu) struct Transaction<'t, 's, H> {
    pub(in crate::iommu) front: &'t Iommu<'s, H>,
    pub(super) work: MutexGuard<'t, RawMutex, Work<'s>>,
    pub(in crate::iommu) config: Guard<'t, 's>,
    /// The cells that it is about.
    pub(super) scope: CellSet,
}

impl<'t, 's, H: Hal> Transaction<'t, 's, H> {
    /// Waits until there is a slot, none of the edits' cells is in another change or another's turn, no device is being reset if
    /// the change `looks` at the functions of the machine, and, if it may reset one, nobody waits who is to look at them first.
    #[inline(never)]
    pub(in crate::iommu) fn claim(front: &'t Iommu<'s, H>, edits: &[Edit], looks: bool) -> Result<Self, Error> {
        // Changes of different cells do not look at each other's slots first.
        let first = edits.first().and_then(Edit::cell).map_or(0, |cell| usize::from(cell.index));
        let (below, from) = front.probed().changes.split_at_checked(first).unwrap_or((&front.probed().changes, &[]));
        front.wait_for(|turn| {
            let slot = from.iter().chain(below).find_map(|slot| slot.try_lock());
            let work = slot.ok_or(Error::InChange { cell: None })?;
            let mut config = front.locked()?;
            config.check_awake()?;
            if looks {
                config.check_at_rest(turn, CellSet::NONE, Functions::LOOKED_AT)?;
            }
            let mut scope = CellSet::NONE;
            for edit in edits {
                // It is added once: whether it has part may take a look at configuration space.
                let root = config.root.cell().filter(|root| !scope.has(*root));
                let root = root.filter(|_| config.root_behind(edit).is_some() || front.is_let_to_reserved(edit));
                config.add_scope_of(edit, root, &mut scope)?;
            }
            let resets = edits.iter().any(|edit| config.may_reset(edit));
            config.check_at_rest(turn, scope, Functions { looks, resets })?;
            let mut change = Self { front, work, config, scope };
            change.work.outcomes.clear();
            Ok(change)
        })
    }

    /// Releases the lock for the time of a wait. The only place where a change does so: its cells are busy meanwhile, so no
    /// other change touches them.
    pub(super) fn unlocked<R>(&mut self, wait: impl FnOnce(&Iommu<'s, H>, &mut Outcomes<'s>) -> R) -> R {
        let (front, outcomes) = (self.front, &mut self.work.outcomes);
        self.config.waiting += 1;
        let done = MutexGuard::unlocked(&mut self.config, || wait(front, outcomes));
        self.config.waiting -= 1;
        done
    }

    /// From here on the cells of the change are in it, whoever has the lock.
    pub(super) fn begin(&mut self) {
        let scope = self.scope;
        self.config.cells.of(scope).for_each(|cell| cell.busy = true);
    }

    /// What failed so far.
    pub(in crate::iommu) fn failure(&self) -> Option<Error> {
        self.work.outcomes.failure()
    }
}

impl<'s, H: Hal> Iommu<'s, H> {
    /// Locks the configuration.
    ///
    /// Whoever has the lock gives it back after a bounded piece of work, so the deadline is for a caller that has it itself: a
    /// closure that runs under it and calls the front.
    #[inline(never)]
    pub(in crate::iommu) fn locked(&self) -> Result<Guard<'_, 's>, StaysLocked> {
        self.config.try_lock().map_or_else(|| self.locked_in_time(), Ok)
    }

    #[cold]
    #[inline(never)]
    fn locked_in_time(&self) -> Result<Guard<'_, 's>, StaysLocked> {
        let mut deadline = Deadline::new(self.hal.now_ns(), self.options.timeout_ns);
        loop {
            let late = deadline.passed(self.hal.now_ns()).is_some();
            match self.config.try_lock() {
                Some(config) => return Ok(config),
                None if late => return Err(StaysLocked),
                None => core::hint::spin_loop(),
            }
        }
    }

    /// Locks the configuration at a moment when no cell is in a change.
    pub(in crate::iommu) fn between_changes(&self) -> Result<Guard<'_, 's>, Error> {
        self.locked_at_rest(CellSet::ALL, Functions::UNTOUCHED, false)
    }

    /// Locks the configuration at a moment when no cell is in a change, and nothing that was begun waits for a unit: units may be
    /// switched on or off.
    pub(in crate::iommu) fn alone(&self) -> Result<Guard<'_, 's>, Error> {
        let config = self.alone_or_asleep()?;
        config.check_awake()?;
        Ok(config)
    }

    /// The same, also while the machine is to sleep.
    pub(in crate::iommu) fn alone_or_asleep(&self) -> Result<Guard<'_, 's>, Error> {
        self.locked_at_rest(CellSet::ALL, Functions::LOOKED_AT, true)
    }

    /// Locks the configuration at a moment when no device is being reset, so that any function may be looked at (R49).
    pub(in crate::iommu) fn between_resets(&self) -> Result<Guard<'_, 's>, Error> {
        self.locked_at_rest(CellSet::NONE, Functions::LOOKED_AT, false)
    }

    /// Locks the configuration at a moment when none of some cells is in a change, and, if the call is to be `alone`, nothing that was
    /// begun waits for a unit.
    #[inline(never)]
    fn locked_at_rest(&self, cells: CellSet, functions: Functions, alone: bool) -> Result<Guard<'_, 's>, Error> {
        self.wait_for(|turn| {
            let mut config = self.locked()?;
            config.check_at_rest(turn, cells, functions)?;
            if alone && config.waiting != 0 { Err(Error::InChange { cell: None }) } else { Ok(config) }
        })
    }

    /// True if an edit lets a device to memory that firmware reserves for it, or for one that shares a source-id with it.
    fn is_let_to_reserved(&self, edit: &Edit) -> bool {
        let Edit::Assign(device, ..) = *edit else { return false };
        Reserved::mask_of(self.topology(), &self.hal, device, &CellConfig::DEFAULT) != 0
    }

    /// What `ready` has once the other changes have ended that it names.
    #[inline(always)]
    fn wait_for<R>(&self, mut ready: impl FnMut(&mut Turn) -> Result<R, Error>) -> Result<R, Error> {
        let mut turn = Turn::default();
        // The time is read by those alone that wait.
        let mut deadlines: Option<[Deadline; 2]> = None;
        loop {
            let now_ns = deadlines.map_or(0, |_| self.hal.now_ns());
            let passed = deadlines.as_mut().map(|all| all.each_mut().map(|deadline| deadline.passed(now_ns).is_some()));
            let [late, resets_had_time] = passed.unwrap_or_default();
            if late {
                turn.let_nobody_first();
            }
            if resets_had_time {
                turn.note_time_for_resets();
            }
            let result = ready(&mut turn);
            if late || !matches!(result, Err(Error::InChange { .. })) {
                if result.is_err() && turn.is_waiting() {
                    self.locked()?.leave(&turn);
                }
                return result;
            }
            deadlines.get_or_insert_with(|| {
                let now_ns = self.hal.now_ns();
                [self.options.timeout_ns, RESETS_END_NS].map(|timeout_ns| Deadline::new(now_ns, timeout_ns))
            });
            self.hal.pause();
        }
    }
}

impl Config<'_> {
    pub(in crate::iommu) fn check_awake(&self) -> Result<(), Asleep> {
        if self.asleep { Err(Asleep) } else { Ok(()) }
    }

    /// Adds the cells that an edit is about: the one that it names, that of a device to be released, and the `root` cell if that
    /// may lose something or get it back.
    fn add_scope_of(&self, edit: &Edit, root: Option<CellId>, scope: &mut CellSet) -> Result<(), NoSuchCell> {
        let cell = match *edit {
            Edit::Release(device) => self.devices.iter().find(|it| it.device == device).map(|it| it.cell),
            _ => edit.cell(),
        };
        for id in cell.into_iter().chain(root) {
            self.cell(id)?;
            scope.add(id);
        }
        Ok(())
    }
}
