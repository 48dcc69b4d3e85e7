//! The start of the image, and what the loader tells it.

#[cfg(target_os = "none")]
mod start;
mod start_info;

pub(crate) use start_info::{Boot, MapEntry};
