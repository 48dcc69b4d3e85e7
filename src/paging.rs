//! Page tables: one walker for many entry formats.
//!
//! A table belongs to no unit: an edit returns what it changed as a `Change`, and its user invalidates that. What an edit takes
//! out of the table stays with it until its user says that no hardware has it cached.
//!
//! A table is always as small as it can be: what one page can map is one page, as far as its geometry allows, and no table but
//! the top one is empty.

mod change;
mod check;
mod edit;
mod format;
mod geometry;
mod join;
mod map;
#[cfg(any(test, feature = "internals"))]
mod mappings;
mod needs;
mod protect;
mod split;
mod table;
#[cfg(test)]
mod tests;
mod unlink;
mod unlinked;
mod unmap;
mod walk;
mod write;

pub use change::Change;
pub use check::MapError;
pub(crate) use check::check;
pub use edit::Prealloc;
pub(crate) use format::page_bytes;
pub use format::{Entry, Format};
pub use geometry::{Geometry, Hole};
#[cfg(any(test, feature = "internals"))]
pub use mappings::Mappings;
pub use table::PageTable;
