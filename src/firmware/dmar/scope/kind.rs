use core::fmt;

/// What kind of device a scope names (section 8.3.1, field Type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeKind {
    /// 1: one PCI function.
    Endpoint,
    /// 2: a PCI bridge and all that is behind it.
    Subtree,
    /// 3: an IOAPIC of the MADT.
    IoApic,
    /// 4: an HPET that can send MSIs.
    Hpet,
    /// 5: a device of the ACPI name space, declared by an ANDD.
    Acpi,
    /// Another value, which no specification of this driver's time defines.
    Unknown(u8),
}

impl ScopeKind {
    pub(super) fn new(value: u8) -> Self {
        match value {
            1 => Self::Endpoint,
            2 => Self::Subtree,
            3 => Self::IoApic,
            4 => Self::Hpet,
            5 => Self::Acpi,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint => f.write_str("endpoint"),
            Self::Subtree => f.write_str("bridge"),
            Self::IoApic => f.write_str("IOAPIC"),
            Self::Hpet => f.write_str("HPET"),
            Self::Acpi => f.write_str("ACPI device"),
            Self::Unknown(kind) => write!(f, "unknown kind {kind}"),
        }
    }
}
