//! Device scopes: which device a structure speaks of (VT-d 5.10, section 8.3.1).

mod hop;
mod kind;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::firmware::{Finding, Flaw, table};

pub use hop::Hop;
pub use kind::ScopeKind;

bitflags::bitflags! {
    /// Properties of a device, in the scopes of a SIDP (section 8.3.1, field Flags).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Properties: u8 {
        /// REQ_WO_PASID_NESTED_NOTALLOWED: no nested translation for requests without PASID.
        const NO_NESTED = 1 << 0;
        /// REQ_WO_PASID_PWSNP_NOTALLOWED: PWSNP may not be set for them.
        const NO_PAGE_WALK_SNOOP = 1 << 1;
        /// REQ_WO_PASID_PGSNP_NOTALLOWED: neither PGSNP nor SNP may be set for them.
        const NO_PAGE_SNOOP = 1 << 2;
        /// ATC_HARDENED: its address translation cache is validated.
        const ATC_HARDENED = 1 << 3;
        /// ATC_REQUIRED: it does not work without its address translation cache.
        const ATC_REQUIRED = 1 << 4;
        /// Bits that are reserved today.
        const _ = !0;
    }
}

impl Properties {
    /// Those that have a name.
    pub const fn all_named() -> Self {
        Self::from_bits_retain(0x1f)
    }
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ScopeFields {
    kind: u8,
    length: u8,
    flags: u8,
    reserved: u8,
    enumeration_id: u8,
    start_bus: u8,
}

const _: () = assert!(size_of::<ScopeFields>() == 6);

/// One device scope, with a path of at least one hop.
#[derive(Clone, Copy, Debug)]
pub struct DeviceScope<'a> {
    offset: u32,
    fields: &'a ScopeFields,
    path: &'a [Hop],
}

impl<'a> DeviceScope<'a> {
    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// What kind of device it names.
    pub fn kind(&self) -> ScopeKind {
        ScopeKind::new(self.fields.kind)
    }

    /// The field Flags, which has a meaning in a SIDP only.
    pub fn properties(&self) -> Properties {
        Properties::from_bits_retain(self.fields.flags)
    }

    /// The id of the IOAPIC, the number of the HPET, or the ACPI device number; reserved for other kinds.
    pub fn enumeration_id(&self) -> u8 {
        self.fields.enumeration_id
    }

    /// The bus on which the path starts.
    pub fn start_bus(&self) -> u8 {
        self.fields.start_bus
    }

    /// The way from that bus to the device: never empty.
    pub fn path(&self) -> &'a [Hop] {
        self.path
    }

    fn lint(&self, structure: &'static str, report: &mut dyn FnMut(Finding)) {
        // The flags are properties in a SIDP, and reserved elsewhere.
        let allowed = if structure == "SIDP" { Properties::all_named().bits() } else { 0 };
        if self.fields.flags & !allowed != 0 {
            report(Finding::reserved(self.offset + 2, structure, u64::from(self.fields.flags & !allowed)));
        }
        if self.fields.reserved != 0 {
            report(Finding::reserved(self.offset + 3, structure, u64::from(self.fields.reserved)));
        }
    }
}

/// The device scopes of one structure. An item is a scope, or what is wrong with the bytes in its place.
///
/// Ends at a scope whose length leads nowhere; a scope with half a hop, or with none, costs itself alone.
#[derive(Clone, Debug)]
pub struct Scopes<'a> {
    rest: &'a [u8],
    offset: u32,
}

impl<'a> Scopes<'a> {
    /// Scopes in `bytes`, which start at `offset` of the table.
    pub(super) fn new(bytes: &'a [u8], offset: u32) -> Self {
        Self { rest: bytes, offset }
    }

    /// The scopes that can be used.
    pub fn sound(self) -> impl Iterator<Item = DeviceScope<'a>> {
        self.filter_map(Result::ok)
    }

    /// Reports what is wrong with each, and those of a kind that `structure` may not have.
    pub(super) fn lint(self, structure: &'static str, fits: fn(ScopeKind) -> bool, report: &mut dyn FnMut(Finding)) {
        for scope in self {
            match scope {
                Ok(scope) => {
                    scope.lint(structure, report);
                    if !fits(scope.kind()) {
                        report(Finding::new(scope.offset, Flaw::WrongScope { structure, kind: scope.kind() }));
                    }
                }
                Err(finding) => report(finding),
            }
        }
    }

    /// Reports those with a path over a bridge, in a structure for devices of the SoC (sections 8.8 and 8.9).
    pub(super) fn lint_integrated(self, structure: &'static str, report: &mut dyn FnMut(Finding)) {
        for scope in self.sound().filter(|scope| scope.path().len() > 1) {
            report(Finding::new(scope.offset(), Flaw::IntegratedBehindBridge { structure }));
        }
    }

    fn end_with(&mut self, flaw: Flaw) -> Option<<Self as Iterator>::Item> {
        self.rest = &[];
        Some(Err(Finding::new(self.offset, flaw)))
    }
}

impl<'a> Iterator for Scopes<'a> {
    type Item = Result<DeviceScope<'a>, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.rest.len();
        let &[_, length, ..] = self.rest else {
            return if left == 0 { None } else { self.end_with(Flaw::LeftOver { bytes: left }) };
        };
        if usize::from(length) < size_of::<ScopeFields>() {
            return self.end_with(table::no_progress(self.rest, u16::from(length)));
        }
        let Some((bytes, rest)) = self.rest.split_at_checked(usize::from(length)) else {
            return self.end_with(Flaw::Overrun { length: u16::from(length), left });
        };
        let offset = self.offset;
        self.rest = rest;
        self.offset = offset.saturating_add(u32::from(length));
        let (fields, path) = ScopeFields::ref_from_prefix(bytes).ok()?;
        let path = <[Hop]>::ref_from_bytes(path).unwrap_or_default();
        if path.is_empty() {
            return Some(Err(Finding::new(offset, Flaw::BadPath { length })));
        }
        Some(Ok(DeviceScope { offset, fields, path }))
    }
}
