//! What is asked and said of a device.

use crate::failure::finish;
use crate::flat::{self, DeviceInfo, Error};
use crate::front::{Done, front};

/// # Safety
///
/// `info` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_device_info(device: u32, info: *mut DeviceInfo, error: *mut Error) -> i32 {
    let done = || -> Done {
        let found = front()?.device_info(flat::device(device))?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(info, (&found).into()) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_mute(device: u32, muted: i32, error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.mute(flat::device(device), muted != 0)?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
