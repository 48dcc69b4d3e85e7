//! A configuration of cells, as docs/check.md describes it.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result};
use cofferdam::{addr::SourceId, limits::Limits};
use serde::{Deserialize, Deserializer, de::Error};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Bits of an address that the board's units translate, the least of all.
    pub(super) input_bits: Option<u8>,
    #[serde(default)]
    pub(super) limits: Capacities,
    #[serde(rename = "cell", default)]
    pub(super) cells: Vec<Cell>,
}

/// What the driver has room for, as its [`Limits`] name it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capacities {
    pub(super) units: usize,
    pub(super) scopes: usize,
    pub(super) reserved: usize,
    pub(super) cells: usize,
    pub(super) regions: usize,
    pub(super) root_regions: usize,
    pub(super) devices: usize,
    pub(super) interrupts: usize,
}

impl Default for Capacities {
    fn default() -> Self {
        let Limits { units, scopes, reserved, cells, regions, root_regions, devices, interrupts, .. } = Limits::DEFAULT;
        Self { units, scopes, reserved, cells, regions, root_regions, devices, interrupts }
    }
}

impl Capacities {
    /// The same as the driver takes it.
    pub(super) fn limits(self) -> Limits {
        let Self { units, scopes, reserved, cells, regions, root_regions, devices, interrupts } = self;
        Limits { units, scopes, reserved, cells, regions, root_regions, devices, interrupts, ..Limits::DEFAULT }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cell {
    pub(super) name: String,
    /// It has what no other cell has.
    #[serde(default)]
    pub(super) root: bool,
    #[serde(default)]
    pub(super) memory: Vec<Memory>,
    #[serde(default)]
    pub(super) devices: Vec<Id>,
    /// Its memory that firmware reserves for devices may be that of others which say so, too.
    #[serde(default)]
    pub(super) allow_shared_reserved: bool,
    /// It may have memory of its own, one to one, where firmware reserves some for one of its devices.
    #[serde(default)]
    pub(super) allow_identical_reserved: bool,
    /// Its devices may be in one group with those of others which say so, too.
    #[serde(default)]
    pub(super) allow_shared_group: bool,
    /// It may have devices whose interrupts are not remapped.
    #[serde(default)]
    pub(super) allow_unsafe_interrupts: bool,
    /// APIC ids of the CPUs that its interrupts may go to.
    #[serde(default)]
    pub(super) cpus: Vec<u32>,
    /// First and last of each range of its vectors; all that there are if left out.
    pub(super) vectors: Option<Vec<(u8, u8)>>,
    #[serde(default)]
    pub(super) interrupts: Vec<Interrupt>,
}

/// Where a message of a device goes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interrupt {
    pub(super) device: Id,
    #[serde(default)]
    pub(super) message: u16,
    pub(super) vector: u8,
    pub(super) cpu: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    pub(super) output: u64,
    /// Where the cell's devices see it; where it is if left out.
    pub(super) input: Option<u64>,
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) shared: bool,
}

/// A device, as `0000:00:03.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) SourceId);

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = crate::inspect::parse(text).filter(|id| id.to_string() == text.to_ascii_lowercase());
        parsed
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no device; one is segment:bus:device.function, as 0000:00:1f.3"))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Config {
    /// # Errors
    ///
    /// It is no TOML, has something that is not known, or lacks something.
    pub(super) fn read(text: &str) -> Result<Self> {
        toml::from_str(text).context("it cannot be read")
    }
}

impl Cell {
    /// True if one of its vectors is in a range.
    pub(super) fn has_vector_in(&self, (first, last): (u8, u8)) -> bool {
        self.vector_ranges().iter().any(|range| range.0 <= last && first <= range.1)
    }

    /// First and last of each range of its vectors.
    pub(super) fn vector_ranges(&self) -> &[(u8, u8)] {
        self.vectors.as_deref().unwrap_or(&[(0, u8::MAX)])
    }
}

impl Memory {
    pub(super) fn input(&self) -> u64 {
        self.input.unwrap_or(self.output)
    }
}
