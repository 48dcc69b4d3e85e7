use core::fmt;
use core::ops::{Add, Sub};

/// Bits that a physical address can have (SDM 3A, section 4.1.4).
const BITS: u32 = 52;

/// A physical address, of 52 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(u64);

/// A number that is no physical address: it has more than 52 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPhysical(pub u64);

impl PhysAddr {
    /// The address with this value. For constants, and for what is known to be one.
    ///
    /// # Panics
    ///
    /// It has more than 52 bits.
    #[inline]
    pub const fn new(value: u64) -> Self {
        assert!(value >> BITS == 0, "a physical address has 52 bits");
        Self(value)
    }

    /// The address with the lower 52 bits of a value.
    #[inline]
    pub const fn new_truncate(value: u64) -> Self {
        Self(value & ((1 << BITS) - 1))
    }

    /// The address with this value.
    ///
    /// # Errors
    ///
    /// It has more than 52 bits.
    #[inline]
    pub const fn try_new(value: u64) -> Result<Self, NotPhysical> {
        if value >> BITS == 0 { Ok(Self(value)) } else { Err(NotPhysical(value)) }
    }

    /// The address 0.
    #[inline]
    pub const fn zero() -> Self {
        Self(0)
    }

    /// Its value.
    #[inline]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// True for the address 0.
    #[inline]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// True if it is a multiple of a power of two.
    #[inline]
    pub const fn is_aligned(self, alignment: u64) -> bool {
        self.0 & alignment.wrapping_sub(1) == 0
    }

    /// The largest multiple of a power of two that is not above it.
    #[inline]
    pub const fn align_down(self, alignment: u64) -> Self {
        Self(self.0 & !alignment.wrapping_sub(1))
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysAddr({:#x})", self.0)
    }
}

impl fmt::LowerHex for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Display for NotPhysical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} is no physical address: it has more than {BITS} bits", self.0)
    }
}

impl core::error::Error for NotPhysical {}

/// # Panics
///
/// The sum has more than 52 bits.
impl Add<u64> for PhysAddr {
    type Output = Self;

    #[inline]
    fn add(self, bytes: u64) -> Self {
        Self::new(self.0.saturating_add(bytes))
    }
}

/// # Panics
///
/// It is less than so many.
impl Sub<u64> for PhysAddr {
    type Output = Self;

    #[inline]
    fn sub(self, bytes: u64) -> Self {
        Self::new(self.0.wrapping_sub(bytes))
    }
}

/// How many bytes lie between two addresses, wrapping around if the second is above the first.
impl Sub for PhysAddr {
    type Output = u64;

    #[inline]
    fn sub(self, other: Self) -> u64 {
        self.0.wrapping_sub(other.0)
    }
}

#[cfg(feature = "x86_64")]
impl From<x86_64::PhysAddr> for PhysAddr {
    fn from(address: x86_64::PhysAddr) -> Self {
        Self(address.as_u64())
    }
}

#[cfg(feature = "x86_64")]
impl From<PhysAddr> for x86_64::PhysAddr {
    fn from(address: PhysAddr) -> Self {
        Self::new_truncate(address.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_52_bits() {
        const LAST: u64 = 0x000f_ffff_ffff_ffff;
        assert_eq!(PhysAddr::try_new(LAST).map(PhysAddr::as_u64), Ok(LAST));
        for value in [LAST + 1, u64::MAX] {
            assert_eq!(PhysAddr::try_new(value), Err(NotPhysical(value)));
            assert_eq!(PhysAddr::new_truncate(value).as_u64(), value & LAST);
        }
        assert!(std::panic::catch_unwind(|| PhysAddr::new(LAST + 1)).is_err());
        assert!(std::panic::catch_unwind(|| PhysAddr::new(LAST) + 1).is_err());
    }

    #[cfg(feature = "x86_64")]
    #[test]
    fn it_is_the_same_in_another_crate() {
        let address = PhysAddr::new(0x000f_ffff_ffff_f123);
        let other = x86_64::PhysAddr::from(address);
        assert_eq!((other.as_u64(), PhysAddr::from(other)), (address.as_u64(), address));
    }

    #[test]
    fn alignment_is_that_of_its_lower_bits() {
        let address = PhysAddr::new(0x1_2340);
        assert!(address.is_aligned(0x40) && !address.is_aligned(0x80) && address.is_aligned(1));
        assert_eq!(address.align_down(0x1000), PhysAddr::new(0x1_2000));
    }
}
