//! The one front of an image, and who may use it when.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use cofferdam::Iommu;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Error, Options};
use cofferdam::limits::{Full, Limits};

use crate::edits::Room;
use crate::failure::Failure;
use crate::flat::COFFERDAM_UNITS;
use crate::gate::{Gate, Inside};
use crate::platform::Platform;

/// The driver's front, on the client's platform.
pub(crate) type Front = Iommu<'static, Platform>;

/// What a call of the driver came to.
pub(crate) type Done = Result<(), Failure>;

/// What is made once.
pub(crate) struct Machine {
    front: UnsafeCell<Front>,
    pub(crate) room: Room,
    pub(crate) timeout_ns: u64,
}

/// Room for it in a static, all zero until it is made.
struct Place {
    /// Most calls share the front. Those that the driver takes for itself alone have it so; so has the one that makes it.
    gate: Gate,
    is_made: AtomicBool,
    machine: UnsafeCell<MaybeUninit<Machine>>,
}

// SAFETY: nobody looks at the machine before `is_made` is true; who makes it is alone behind the gate until then, and
// afterwards the gate says whether the front is borrowed by many or by one. It may be used on any CPU.
unsafe impl Sync for Place {}

static PLACE: Place =
    Place { gate: Gate::new(), is_made: AtomicBool::new(false), machine: UnsafeCell::new(MaybeUninit::zeroed()) };

/// Makes the front where it stays, with what `probe` does to it. One that fails leaves nothing, and may be repeated.
#[inline(never)]
pub(crate) fn make(
    options: Options,
    limits: &Limits,
    room: Room,
    probe: impl FnOnce(&mut Front) -> Result<(), Error>,
) -> Done {
    let _alone = PLACE.gate.alone().ok_or(Failure::InCall)?;
    if PLACE.is_made.load(Ordering::Acquire) {
        return Err(Error::Probed.into());
    }
    if limits.units > COFFERDAM_UNITS {
        return Err(Error::Full(Full { what: "remapping units", capacity: COFFERDAM_UNITS }).into());
    }
    // SAFETY: nobody looks there before `is_made` is true, and nobody else is behind the gate.
    let place = unsafe { &mut *PLACE.machine.get() };
    probe(put(place, options, room))?;
    PLACE.is_made.store(true, Ordering::Release);
    Ok(())
}

/// Puts a front there that knows of no unit yet. Apart, so that what it is made from takes no stack while it probes.
#[inline(never)]
fn put(place: &mut MaybeUninit<Machine>, options: Options, room: Room) -> &mut Front {
    let front = UnsafeCell::new(Iommu::new(Platform, options));
    place.write(Machine { front, room, timeout_ns: options.timeout_ns }).front.get_mut()
}

/// Why nobody gets the front: a byte, where a failure is copied by each call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    NotProbed,
    InCall,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotProbed => Self::Front(Error::NotProbed),
            Refused::InCall => Self::InCall,
        }
    }
}

/// What was made.
pub(crate) fn machine() -> Result<&'static Machine, Refused> {
    if !PLACE.is_made.load(Ordering::Acquire) {
        return Err(Refused::NotProbed);
    }
    // SAFETY: it is made, and nobody borrows it mutably any more.
    let place = unsafe { &*PLACE.machine.get() };
    // SAFETY: as above.
    Ok(unsafe { place.assume_init_ref() })
}

/// The front, borrowed beside others.
pub(crate) struct Shared {
    front: &'static Front,
    _inside: Inside<'static>,
}

/// The front, borrowed alone.
pub(crate) struct Alone {
    front: &'static mut Front,
    _inside: Inside<'static>,
}

/// The front, as others may call it at the same time.
#[inline(never)]
pub(crate) fn shared() -> Result<Shared, Refused> {
    let machine = machine()?;
    let _inside = PLACE.gate.shared().ok_or(Refused::InCall)?;
    // SAFETY: nobody borrows it mutably while one is behind the gate who is not alone.
    let front = unsafe { &*machine.front.get() };
    Ok(Shared { front, _inside })
}

/// The front, while nobody else calls it.
#[inline(never)]
pub(crate) fn alone() -> Result<Alone, Refused> {
    let machine = machine()?;
    let _inside = PLACE.gate.alone().ok_or(Refused::InCall)?;
    // SAFETY: nobody borrows it while one is alone behind the gate.
    let front = unsafe { &mut *machine.front.get() };
    Ok(Alone { front, _inside })
}

impl Deref for Shared {
    type Target = Front;

    fn deref(&self) -> &Front {
        self.front
    }
}

impl Deref for Alone {
    type Target = Front;

    fn deref(&self) -> &Front {
        self.front
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Front {
        self.front
    }
}

/// Looks until something is so, or time is over.
pub(crate) fn wait(timeout_ns: u64, mut is_so: impl FnMut() -> bool) {
    if is_so() {
        return;
    }
    let start = Platform.now_ns();
    // As the driver has it: a clock that stands still ends a wait as well.
    for _ in 0..1_u32 << 24 {
        Platform.pause();
        if is_so() || Platform.now_ns().saturating_sub(start) > timeout_ns {
            return;
        }
    }
}
