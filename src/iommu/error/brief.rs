//! Errors that become an [`Error`] where a call ends. That is large, and each function on the way would copy it.
#![forbid(unsafe_code)]

use super::Error;
use crate::cell::CellId;

/// The configuration stays locked.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) struct StaysLocked;

/// There is no such cell.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) struct NoSuchCell(pub(in crate::iommu) CellId);

/// The machine is to sleep, or does.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) struct Asleep;

impl From<StaysLocked> for Error {
    fn from(_: StaysLocked) -> Self {
        Self::InChange { cell: None }
    }
}

impl From<NoSuchCell> for Error {
    fn from(NoSuchCell(cell): NoSuchCell) -> Self {
        Self::NoSuchCell(cell)
    }
}

impl From<Asleep> for Error {
    fn from(_: Asleep) -> Self {
        Self::Asleep
    }
}
