use crate::addr::SourceId;
use crate::firmware::ivrs::IvhdKind;
use crate::hal::RegisterWindow;

/// The number of a unit, in the order of the firmware's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitIndex(u16);

impl UnitIndex {
    /// The unit with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// No unit has this number, nor one above it.
    pub(super) const END: u16 = u16::MAX;

    /// All numbers, ascending.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::END).map(Self)
    }
}

/// A remapping unit, as the firmware's table describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitInfo {
    /// Its registers.
    pub window: RegisterWindow,
    /// The PCI segment of its devices.
    pub segment: u16,
    /// It serves what no other unit of its segment does.
    pub include_all: bool,
    /// The node that it belongs to, as the SRAT table numbers them.
    pub proximity: Option<u32>,
    /// Who made it, and what the table says for that kind alone.
    pub kind: UnitKind,
    /// Where in the table it is defined.
    pub offset: u32,
}

/// Who made a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitKind {
    /// Intel VT-d. All else is in its registers.
    VtD,
    /// AMD-Vi.
    AmdVi(AmdUnit),
}

/// What the IVRS table says of an AMD unit; the fields are those of [`Ivhd`](crate::firmware::ivrs::Ivhd).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AmdUnit {
    /// The unit's own PCI function, whose requests nothing translates.
    pub device: SourceId,
    /// Where in its configuration space the unit's capability is.
    pub capability: u16,
    /// Bits for the unit's control register.
    pub flags: u8,
    /// MSI number of the event log, and the unit's id.
    pub info: u16,
    /// Feature reporting or attributes.
    pub attributes: u32,
    /// Image of the Extended Feature Register.
    pub features: Option<u64>,
    /// Image of the Extended Feature 2 Register.
    pub features2: Option<u64>,
    /// The type of block that says it.
    pub described_by: IvhdKind,
}

impl AmdUnit {
    /// IotlbSup, bit 4 of the flags: devices may have translation caches.
    pub fn iotlb_supported(&self) -> bool {
        self.flags & 1 << 4 != 0
    }
}

impl UnitInfo {
    /// True if the registers of the two have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (start, other_start) = (self.window.base.as_u64(), other.window.base.as_u64());
        start < other_start + u64::from(other.window.bytes) && other_start < start + u64::from(self.window.bytes)
    }
}
