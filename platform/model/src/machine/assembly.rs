//! What the machine is made of, and how it comes out of reset.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam::hal::RegisterWindow;

use crate::board::Board;
use crate::devices::all::Devices;
use crate::devices::buses::Buses;
use crate::devices::scope::{Named, Scope};
use crate::judge::journal::Journal;
use crate::judge::ownership::Ownership;
use crate::machine::config::Config;
use crate::machine::dmar;
use crate::machine::state::State;
use crate::memory::arena::Arena;
use crate::memory::frames::Memory;
use crate::memory::ram::Ram;
use crate::random::Random;
use crate::unit::{Unit, UnitConfig};

/// Where the registers of the first unit are, and how far apart the units' registers are.
const REGISTERS_BASE: u64 = 0xfed9_0000;
const REGISTERS_STEP: u64 = 0x1_0000;

/// A machine with remapping units, for a driver to run on.
///
/// It is a [`Hal`](cofferdam::hal::Hal); share it by reference or in an [`Arc`]. When it is dropped, it fails the test
/// (it panics) if the driver broke a rule and nobody took the [`violations`](Self::take_violations), or if the driver
/// left something undone that [`settle`](Self::settle) finds.
pub struct Machine {
    pub(super) arena: Arc<Arena>,
    windows: Vec<RegisterWindow>,
    host_address_width: u8,
    /// Loads since time last moved on for them.
    pub(super) loads: AtomicU64,
    /// The CPU has stores of two words.
    pub(super) pair_stores: AtomicBool,
    /// Memory that units are found to use may be written.
    pub(super) gives_found_memory: AtomicBool,
    /// A bit for each unit whose registers are mapped nowhere.
    pub(super) unmapped: AtomicU64,
    pub(super) buses: Arc<Buses>,
    state: Mutex<State>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("windows", &self.windows).finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that has just come out of reset.
    pub fn new(config: Config) -> Self {
        let arena = Arc::new(Arena::new(config.frames_base, config.frames));
        let mut configs = config.units;
        for (number, unit) in (0..).zip(&mut configs) {
            if unit.base == 0 {
                unit.base = REGISTERS_BASE + number * REGISTERS_STEP;
            }
        }
        let scopes: Vec<Named<'_>> =
            configs.iter().map(|unit| (unit.segment, unit.buses.as_slice(), unit.functions.as_slice())).collect();
        let scopes = Scope::all(&scopes);
        let units = (0..).zip(configs).zip(scopes);
        let units: Vec<Unit> = units
            .map(|((number, unit), scope)| Unit::new(number, unit, scope, config.host_address_width, config.frames))
            .collect();
        let windows = units.iter().map(|unit| unit.window()).collect();
        let all_snoop = units.iter().all(Unit::snoops);
        let random = config.seed.map(Random::new);
        let memory = Memory::new(Arc::clone(&arena), config.frames, all_snoop, random.is_some());
        let forgiven = units.iter().flat_map(|unit| unit.config().forgives.iter().copied()).collect();
        let journal = Journal::new(forgiven);
        let board = Board {
            arena: Arc::clone(&arena),
            memory,
            ram: Ram::default(),
            journal,
            ownership: Ownership::default(),
            random,
            devices: Devices::default(),
        };
        let buses = board.devices.buses();
        let state = State { units, board, next_event: u64::MAX, abandoned: false };
        let host_address_width = config.host_address_width;
        let (loads, pair_stores) = (AtomicU64::new(0), AtomicBool::new(true));
        let (unmapped, gives_found_memory) = (AtomicU64::new(0), AtomicBool::new(true));
        Self {
            gives_found_memory,
            arena,
            windows,
            host_address_width,
            loads,
            pair_stores,
            unmapped,
            buses,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the registers of the units are, in the order of the configuration.
    pub fn windows(&self) -> &[RegisterWindow] {
        &self.windows
    }

    /// What a unit is, with its place.
    pub fn unit_config(&self, unit: usize) -> Option<UnitConfig> {
        self.state().units.get(unit).map(|unit| unit.config().clone())
    }

    /// The DMAR table that firmware would give: the units with what they serve, and an IOAPIC with id 0 as ff:00.0 where
    /// interrupts can be remapped. No reserved memory.
    pub fn dmar(&self) -> Vec<u8> {
        let state = self.state();
        let units: Vec<&UnitConfig> = state.units.iter().map(Unit::config).collect();
        let interrupts = state.units.iter().any(Unit::can_remap_interrupts);
        dmar::table(&units, self.host_address_width, interrupts)
    }
}
