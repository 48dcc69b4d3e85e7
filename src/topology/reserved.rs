use crate::addr::Region;

/// Memory that firmware or hardware set up for a device before the driver came, and that the device goes on using:
/// mapped one to one as long as the device is active, in whichever cell it is.
// R66
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReservedMemory {
    /// The range, of whole pages, with input and output the same, and what the device may do there.
    pub region: Region,
    /// Where in the table it is defined.
    pub offset: u32,
}
