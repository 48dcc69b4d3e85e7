//! The one front of an image.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

use cofferdam::Iommu;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Error, Options};

use crate::edits::Room;
use crate::failure::Failure;
use crate::platform::Platform;

/// The driver's front, on the client's platform. Any number of calls share it: who has to wait for whom, it knows itself.
pub(crate) type Front = Iommu<'static, Platform>;

/// What a call of the driver came to.
pub(crate) type Done = Result<(), Failure>;

/// What is made once, with the options that a client hands in.
pub(crate) struct Machine {
    pub(crate) front: Front,
    pub(crate) room: Room,
    pub(crate) timeout_ns: u64,
}

/// Room for it in a static, all zero until it is made.
struct Place {
    state: AtomicU8,
    machine: UnsafeCell<MaybeUninit<Machine>>,
}

const EMPTY: u8 = 0;
/// Somebody makes it.
const TAKEN: u8 = 1;
const MADE: u8 = 2;

// SAFETY: whoever made the place `TAKEN` has it alone until it is something else; once it is `MADE` nobody changes it any more, and
// the machine may be used on any CPU.
unsafe impl Sync for Place {}

static PLACE: Place = Place { state: AtomicU8::new(EMPTY), machine: UnsafeCell::new(MaybeUninit::zeroed()) };

/// A front that knows of no unit yet, where it stays. If it is dropped, the place is empty again.
pub(crate) struct Placed(());

impl Placed {
    /// Puts it there. Apart, so that what it is made from takes no stack while it probes.
    ///
    /// # Errors
    ///
    /// One is there, or is being made.
    #[inline(never)]
    pub(crate) fn new(platform: Platform, options: Options, room: Room) -> Result<Self, Error> {
        match PLACE.state.compare_exchange(EMPTY, TAKEN, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {}
            Err(TAKEN) => return Err(Error::InChange { cell: None }),
            Err(_) => return Err(Error::Probed),
        }
        // SAFETY: who has taken the place has it alone.
        let place = unsafe { &mut *PLACE.machine.get() };
        place.write(Machine { front: Iommu::new(platform, options), room, timeout_ns: options.timeout_ns });
        Ok(Self(()))
    }

    /// Completes it with what `probe` does to it. If that fails, nothing is left.
    pub(crate) fn complete(self, probe: impl FnOnce(&'static Front) -> Result<(), Error>) -> Result<(), Error> {
        // SAFETY: it was put there, and nobody writes there before the place is empty again. A front that knows of no unit refers to
        // none of the memory that it was handed.
        probe(&unsafe { made() }.front)?;
        core::mem::forget(self);
        PLACE.state.store(MADE, Ordering::Release);
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        PLACE.state.store(EMPTY, Ordering::Release);
    }
}

/// # Safety
///
/// A machine is there, and nobody puts another there.
unsafe fn made() -> &'static Machine {
    // SAFETY: nobody writes there, as the caller says.
    let place = unsafe { &*PLACE.machine.get() };
    // SAFETY: one is there, as the caller says.
    unsafe { place.assume_init_ref() }
}

/// No machine is known. Nothing is copied for it, where a failure would be by each call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotProbed;

impl From<NotProbed> for Failure {
    fn from(_: NotProbed) -> Self {
        Self::Front(Error::NotProbed)
    }
}

/// What was made.
#[inline(never)]
pub(crate) fn machine() -> Result<&'static Machine, NotProbed> {
    if PLACE.state.load(Ordering::Acquire) != MADE {
        return Err(NotProbed);
    }
    // SAFETY: it is made, for good.
    Ok(unsafe { made() })
}

pub(crate) fn front() -> Result<&'static Front, NotProbed> {
    Ok(&machine()?.front)
}

/// Looks until something is so, or time is over.
pub(crate) fn wait(hal: &Platform, timeout_ns: u64, mut is_so: impl FnMut() -> bool) {
    if is_so() {
        return;
    }
    let start = hal.now_ns();
    // As the driver has it: a clock that stands still ends a wait as well.
    for _ in 0..1_u32 << 24 {
        hal.pause();
        if is_so() || hal.now_ns().saturating_sub(start) > timeout_ns {
            return;
        }
    }
}
