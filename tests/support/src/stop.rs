//! A call that is stopped while it waits.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use cofferdam_model::Machine;

use crate::watched::Call;

thread_local! {
    /// The call that this thread makes is the one that is to be stopped.
    static STOPS: Cell<bool> = const { Cell::new(false) };
}

/// Stops a call at the moment when it waits for the first time, until something else was done.
#[derive(Debug, Default)]
pub struct Stop(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl Stop {
    /// Stops no call yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// For who looks before each access. True if the call was stopped here, and goes on now.
    pub fn look(&self, call: Call) -> bool {
        if call != Call::Pause || !STOPS.get() {
            return false;
        }
        let Some((waits, gone)) = self.0.lock().unwrap().take() else { return false };
        waits.send(()).unwrap();
        assert_eq!(gone.recv_timeout(Duration::from_secs(30)), Ok(()), "what is done meanwhile is held up");
        true
    }

    /// Who looks, if nobody else has to.
    pub fn looks(&self) -> impl Fn(Call, &Machine) + Sync + '_ {
        |call, _| {
            self.look(call);
        }
    }

    /// Makes `call` on a thread of its own, and `meanwhile` while it waits.
    pub fn meanwhile<T: Send>(&self, call: impl FnOnce() -> T + Send, meanwhile: impl FnOnce()) -> T {
        thread::scope(|scope| {
            let go_on = self.halt(scope, call);
            meanwhile();
            go_on()
        })
    }

    /// Makes `call` on a thread of its own until it waits; the result lets it go on to its end.
    pub fn halt<'s, T: Send + 's>(
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
