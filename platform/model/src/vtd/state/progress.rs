//! How far a driver is on its way from a new table to remapping (sections 6.5.2, 6.6 and 6.7).
#![forbid(unsafe_code)]

/// Rules 7 and 8: the steps from a new root table to translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RootState {
    /// No SRTP since reset, or since translation was last switched off.
    #[default]
    NotSet,
    /// SRTP done; caches may hold what the last table said.
    Set,
    /// Context-cache invalidated after that.
    ContextFlushed,
    /// And the IOTLB.
    Ready,
}

/// Rule 52: the same for interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum InterruptState {
    #[default]
    NotSet,
    /// SIRTP done; the interrupt-entry-cache may hold what the last table said.
    Set,
    Ready,
}
