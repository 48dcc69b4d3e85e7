//! A table of a machine that is known from a configuration.

use cofferdam::firmware::dmar::{self, Flags, WriteError};

use crate::failure::{Wrong, finish};
use crate::flat::{self, Error, Table, read, read_all};
use crate::front::Done;

/// # Safety
///
/// `table` is null or valid for a read, as are the entries that it names, `bytes` null or valid for reads and writes of `size` bytes, `needed` and
/// `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_write_table(
    table: *const Table,
    bytes: *mut u8,
    size: usize,
    needed: *mut usize,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let &Table { entries, count, host_address_width, remaps_interrupts } = unsafe { read(table, "table")? };
        // SAFETY: passed on from the caller.
        let entries = unsafe { read_all(entries, count, "entries")? };
        // SAFETY: passed on from the caller, who lets nobody use the bytes meanwhile.
        let bytes = unsafe { bytes_at(bytes, size)? };
        let flags = if remaps_interrupts == 0 { Flags::empty() } else { Flags::INTR_REMAP };
        // Or the table of those before it would be sound.
        for (entry, index) in entries.iter().zip(0..) {
            entry.read().map_err(|wrong| Wrong { index: Some(index), ..wrong })?;
        }
        let mut index = 0;
        let sound = entries.iter().filter_map(|entry| entry.read().ok()).inspect(|_| index += 1);
        let written = dmar::write(bytes, host_address_width, flags, sound).map(<[u8]>::len);
        let entry = |name| Wrong { name, index: Some(index - 1) };
        let (bytes, result) = match written {
            Ok(bytes) => (bytes, Ok(())),
            Err(WriteError::NoRoom { needed }) => (needed, Err(Wrong::value("size"))),
            Err(WriteError::OtherSegment(_)) => (0, Err(entry("device"))),
            Err(WriteError::NoStructure) => (0, Err(entry("kind"))),
            Err(WriteError::TooMany) => (0, Err(entry("entries"))),
        };
        // SAFETY: passed on from the caller.
        unsafe { flat::write(needed, bytes) };
        Ok(result?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// The pointer is null, or valid for reads and writes of so many bytes, by nobody else.
unsafe fn bytes_at<'a>(bytes: *mut u8, size: usize) -> Result<&'a mut [u8], Wrong> {
    if bytes.is_null() {
        return Err(Wrong::null("bytes"));
    }
    if isize::try_from(size).is_err() {
        return Err(Wrong::value("size"));
    }
    // SAFETY: it is not null, and no more than there can be; the caller says that it may be written.
    unsafe { bytes.write_bytes(0, size) };
    // SAFETY: the same, and nobody else uses it.
    Ok(unsafe { core::slice::from_raw_parts_mut(bytes, size) })
}
