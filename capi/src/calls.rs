//! Every call, a file a subject. The header documents them.
//!
//! Each has C's arguments, and one story: what they point to is read, the driver is called, what came of it is written. A call
//! that can fail gives its code, and fills a struct if it was handed one.

mod audit;
pub(crate) mod cells;
pub(crate) mod commit;
mod devices;
pub(crate) mod faults;
mod interrupts;
pub(crate) mod life;
pub(crate) mod lists;
pub(crate) mod table;
pub(crate) mod words;

use core::ffi::c_void;

use crate::failure::Wrong;
use crate::flat;

/// A function of the client that is called with one thing after the other, and what it is to be handed along.
pub(crate) struct Each<T> {
    function: unsafe extern "C" fn(*mut c_void, *const T),
    context: *mut c_void,
}

impl<T> Each<T> {
    /// # Safety
    ///
    /// The function may be called with the context, until the call ends that was handed both.
    unsafe fn new(
        function: Option<unsafe extern "C" fn(*mut c_void, *const T)>,
        context: *mut c_void,
    ) -> Result<Self, Wrong> {
        Ok(Self { function: flat::function(function, "each")?, context })
    }

    fn call(&self, it: &T) {
        // SAFETY: who made this answers for the function and its context.
        unsafe { (self.function)(self.context, it) }
    }
}
