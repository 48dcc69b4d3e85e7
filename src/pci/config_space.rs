#![forbid(unsafe_code)]

use crate::addr::SourceId;
use crate::hal::Hal;

/// Reading the configuration space of PCI functions: all that the topology asks of the machine.
///
/// A platform's [`Hal`] is one. Tests and tools have recorded ones.
pub trait ConfigSpace {
    /// The 32 bits at `offset`, a multiple of 4 below 4096; all ones where no function or no register is.
    fn read(&self, function: SourceId, offset: u16) -> u32;
}

impl<H: Hal> ConfigSpace for H {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        self.config_read(function, offset)
    }
}

/// A configuration space in which nothing is: for a table without its machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConfigSpace;

impl ConfigSpace for NoConfigSpace {
    fn read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }
}

/// A configuration space of a few registers: those of a function that has any read as zero, all else as all ones.
#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Device, offset and value.
    pub(crate) struct FewRegisters<'a>(pub(crate) &'a [(SourceId, u16, u32)]);

    impl ConfigSpace for FewRegisters<'_> {
        fn read(&self, function: SourceId, offset: u16) -> u32 {
            assert!(offset.is_multiple_of(4) && offset < 4096, "{offset:#x}");
            let mut own = self.0.iter().filter(|(source, ..)| *source == function).peekable();
            let nothing = if own.peek().is_some() { 0 } else { u32::MAX };
            own.find(|(_, at, _)| *at == offset).map_or(nothing, |(.., value)| *value)
        }
    }

    /// A function on bus 0 of segment 0.
    pub(crate) fn function(device: u8) -> SourceId {
        SourceId::from_requester(0, u16::from(device) << 3)
    }
}
