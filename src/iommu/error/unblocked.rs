use core::fmt;

use super::Others;

/// What [`enable`](crate::Iommu::enable) could not block: it may reach all memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unblocked {
    /// How many units do not block what they serve: [`units`](crate::Iommu::units) says which, and why.
    pub units: u16,
    /// Functions that configuration space shows, and that no unit serves, or one that does not block.
    pub functions: Others,
    /// The first segment in which no unit takes what the firmware's table does not list: whatever is there and not listed is
    /// blocked by none, whether configuration space shows it or not. That alone is no error where configuration space shows
    /// functions, and units serve all of them: it is what comes later, as by hot-plug, that no unit will block.
    pub open_segment: Option<u16>,
    /// A part of the firmware's table was lost that may have named a unit: what is behind that one is blocked by none
    /// ([`Topology::is_complete`](crate::topology::Topology::is_complete)).
    pub table_incomplete: bool,
}

impl Unblocked {
    /// True if all is blocked.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// True if nothing is known to be free: a segment in which firmware lists each device may be open for those that come later.
    pub(in crate::iommu) fn is_nothing_now(&self) -> bool {
        Self { open_segment: None, ..*self }.is_nothing()
    }
}

impl fmt::Display for Unblocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "not blocked: ";
        let mut part = |f: &mut fmt::Formatter<'_>, words: fmt::Arguments<'_>| {
            let separator = core::mem::replace(&mut separator, "; ");
            write!(f, "{separator}{words}")
        };
        if self.units != 0 {
            part(f, format_args!("what is behind {} of the units", self.units))?;
        }
        if self.functions.count() != 0 {
            part(f, format_args!("{}", self.functions))?;
        }
        if let Some(segment) = self.open_segment {
            part(f, format_args!("what the firmware's table does not list in segment {segment}"))?;
        }
        if self.table_incomplete {
            part(f, format_args!("what is behind units that a lost part of the firmware's table may have named"))?;
        }
        if self.is_nothing() { f.write_str("all is blocked") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::addr::SourceId;

    #[test]
    fn each_part_is_said_in_words() {
        assert_eq!(Unblocked::default().to_string(), "all is blocked");
        let mut functions = Others::default();
        functions.add(SourceId::from_requester(0, 0x10));
        let all = Unblocked { units: 1, functions, open_segment: Some(2), table_incomplete: true };
        assert_eq!(
            all.to_string(),
            "not blocked: what is behind 1 of the units; 0000:00:02.0; what the firmware's table does not list in segment 2; \
             what is behind units that a lost part of the firmware's table may have named"
        );
    }
}
