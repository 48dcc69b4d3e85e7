//! The start of the image, and what the loader tells it.

#[cfg(target_os = "none")]
mod start;
mod start_info;

#[cfg(target_os = "none")]
pub(crate) use start::stack_bottom_address;
pub(crate) use start_info::{Boot, MapEntry};
