//! A machine at which a test looks before each access of the driver.

use std::borrow::Borrow;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::{Hal, Window};
use cofferdam_model::Machine;

/// The kinds of accesses that tests tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Pause,
    /// Configuration space is read.
    ConfigRead,
    /// This is stored into a structure that hardware reads.
    Store(u64),
    Other,
}

/// The machine, or a reference to it, and who looks.
pub(crate) struct Watched<M, F> {
    pub(crate) machine: M,
    pub(crate) before: F,
}

impl<M: Borrow<Machine>, F: Fn(Call, &Machine)> Watched<M, F> {
    fn look(&self) -> &Machine {
        self.look_at(Call::Other)
    }

    fn look_at(&self, call: Call) -> &Machine {
        (self.before)(call, self.machine.borrow());
        self.machine.borrow()
    }
}

// SAFETY: each method is that of the machine, which keeps the contract.
unsafe impl<M: Borrow<Machine>, F: Fn(Call, &Machine)> Hal for Watched<M, F> {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.look().allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().free(frames, order) }
    }

    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { self.look().virt(frame) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.look_at(Call::Store(value)).store(entry, value) }
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.look().load(entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        self.look().word_at(at)
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().write_back(first, bytes) }
    }

    fn fence(&self) {
        self.look().fence();
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        // SAFETY: passed on from the caller.
        unsafe { self.look().read32(window, offset) }
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().write32(window, offset, value) }
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.look().read64(window, offset) }
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().write64(window, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.look_at(Call::ConfigRead).config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        self.look().now_ns()
    }

    fn pause(&self) {
        self.look_at(Call::Pause).pause();
    }
}

thread_local! {
    /// The call that this thread makes is the one that is to be stopped.
    static STOPS: Cell<bool> = const { Cell::new(false) };
}

/// Stops a call at the moment when it waits for the first time, until something else was done.
pub(crate) struct Stop(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl Stop {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// For who looks before each access. True if the call was stopped here, and goes on now.
    pub(crate) fn look(&self, call: Call) -> bool {
        if call != Call::Pause || !STOPS.get() {
            return false;
        }
        let Some((waits, gone)) = self.0.lock().unwrap().take() else { return false };
        waits.send(()).unwrap();
        assert_eq!(gone.recv_timeout(Duration::from_secs(30)), Ok(()), "what is done meanwhile is held up");
        true
    }

    /// Who looks, if nobody else has to.
    pub(crate) fn looks(&self) -> impl Fn(Call, &Machine) + Sync + '_ {
        |call, _| {
            self.look(call);
        }
    }

    /// Makes `call` on a thread of its own, and `meanwhile` while it waits.
    pub(crate) fn meanwhile<T: Send>(&self, call: impl FnOnce() -> T + Send, meanwhile: impl FnOnce()) -> T {
        thread::scope(|scope| {
            let go_on = self.halt(scope, call);
            meanwhile();
            go_on()
        })
    }

    /// Makes `call` on a thread of its own until it waits; the result lets it go on to its end.
    pub(crate) fn halt<'s, T: Send + 's>(
        &self,
        scope: &'s thread::Scope<'s, '_>,
        call: impl FnOnce() -> T + Send + 's,
    ) -> impl FnOnce() -> T {
        let ((waits, waited), (go, gone)) = (mpsc::channel(), mpsc::channel());
        *self.0.lock().unwrap() = Some((waits, gone));
        let waiting = scope.spawn(|| {
            STOPS.set(true);
            call()
        });
        assert_eq!(waited.recv_timeout(Duration::from_secs(30)), Ok(()), "nothing waits");
        move || {
            go.send(()).unwrap();
            waiting.join().unwrap()
        }
    }
}
