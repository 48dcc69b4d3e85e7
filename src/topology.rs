//! Who serves whom: units, the devices in their scope, reserved memory, and which source-ids a device's requests carry.
//!
//! Neutral of the vendor. Made once from a firmware table; answers about a device read configuration space again each
//! time, so they follow bus numbers and virtual functions as they are then.
#![forbid(unsafe_code)]

mod aliases;
mod builder;
mod from_dmar;
mod from_ivrs;
mod group;
mod interrupts;
mod numbers;
mod requesters;
mod reserved;
mod scope;
mod unit;
mod window;

use core::mem::MaybeUninit;

use crate::addr::{Iova, Region, Requester, SourceId};
use crate::firmware::{Finding, Flaw, TableError, dmar};
use crate::limits::{Carver, Full, Limits, List, words_of};
use crate::pci;
use aliases::Aliases;
use numbers::Numbers;

pub use crate::pci::{ConfigSpace, NoConfigSpace};
pub use group::{Group, Isolation};
pub(crate) use requesters::Renamed;
pub use requesters::{MAX_REQUESTERS, Requesters};
pub use reserved::ReservedMemory;
pub(crate) use reserved::overlapping;
use scope::Device;
pub use scope::{Role, Scope, Target};
pub use unit::{AmdUnit, UnitIndex, UnitInfo, UnitKind};
pub use window::{BridgeWindow, WindowKind};

/// What the firmware's table says about the machine. It lies in memory that its user hands over.
#[derive(Debug)]
pub struct Topology<'s> {
    units: List<'s, UnitInfo>,
    scopes: List<'s, Scope>,
    reserved: List<'s, ReservedMemory>,
    aliases: Aliases<'s>,
    /// A part was lost that may define a unit.
    lost_units: bool,
    /// A part was lost that says what a unit serves.
    lost_scopes: bool,
    /// Where scopes were lost for want of room.
    lost_buses: Numbers,
    host_address_width: u8,
    interrupt_remapping: bool,
    x2apic_opt_out: bool,
    dma_opt_in: bool,
}

/// What findings say is lost.
#[derive(Default)]
struct Lost {
    units: bool,
    scopes: bool,
    /// A unit cannot be used.
    unusable: bool,
}

impl Lost {
    #[inline(never)]
    fn note(&mut self, finding: Finding, report: &mut impl FnMut(Finding)) {
        let flaw = finding.flaw;
        self.scopes |= flaw.hides_scopes();
        self.units |= flaw.hides_units() && !flaw.hides_scopes();
        self.unusable |= flaw.makes_unusable();
        report(finding);
    }
}

/// How many words of 64 bits a topology takes: a part of [`Limits::words`].
pub(crate) const fn topology_words(limits: &Limits) -> usize {
    let Limits { units, scopes, reserved, .. } = *limits;
    let lists = words_of::<UnitInfo>(units).saturating_add(words_of::<Scope>(scopes));
    lists.saturating_add(words_of::<ReservedMemory>(reserved)).saturating_add(Aliases::WORDS)
}

impl<'s> Topology<'s> {
    /// No unit at all.
    pub(crate) const fn empty() -> Self {
        Self {
            units: List::without_room(),
            scopes: List::without_room(),
            reserved: List::without_room(),
            aliases: Aliases::without_room(),
            lost_units: false,
            lost_scopes: false,
            lost_buses: Numbers::NONE,
            host_address_width: 0,
            interrupt_remapping: false,
            x2apic_opt_out: false,
            dma_opt_in: false,
        }
    }

    /// What a firmware's table says, a DMAR or an IVRS by its signature. `memory` takes [`Limits::words`] at most. Findings go
    /// to `report`, a few for each structure at most; each costs what it names and no more. A caller that wants to be stricter
    /// looks at them ([`Strictness`](crate::firmware::Strictness)).
    ///
    /// `config` is read where a path passes bridges.
    ///
    /// # Errors
    ///
    /// The bytes are no such table, describe no unit that can be used, or more units than there is room for; or there is
    /// too little memory. Scopes and reserved memory beyond a capacity are lost alone, by a finding, and their devices with
    /// them: no cell is given one.
    pub fn read(
        memory: &'s mut [MaybeUninit<u64>],
        limits: &Limits,
        table: &[u8],
        config: &impl ConfigSpace,
        report: impl FnMut(Finding),
    ) -> Result<Self, TableError> {
        let mut topology = Self::empty();
        topology.read_in(memory, limits, table, config, report)?;
        Ok(topology)
    }

    /// The same in place, and what of the memory is left. On failure nothing is known.
    #[inline(never)]
    pub(crate) fn read_in(
        &mut self,
        memory: &'s mut [MaybeUninit<u64>],
        limits: &Limits,
        table: &[u8],
        config: &impl ConfigSpace,
        mut report: impl FnMut(Finding),
    ) -> Result<&'s mut [MaybeUninit<u64>], TableError> {
        let no_room = |full| TableError::Full { offset: 0, full };
        if let Some(flaw) = limits.flaw() {
            return Err(no_room(flaw));
        }
        let mut carver = Carver::new(memory);
        self.cut(&mut carver, limits).map_err(no_room)?;
        self.clear();
        let mut lost = Lost::default();
        let mut watched = |finding: Finding| lost.note(finding, &mut report);
        let result = if table.starts_with(b"IVRS") {
            self.read_ivrs(table, config, &mut watched)
        } else {
            self.read_dmar(table, config, &mut watched)
        };
        // What an unusable unit serves may be among the lost scopes, too, and no list has that unit.
        (self.lost_units, self.lost_scopes) = (lost.units || lost.scopes && lost.unusable, lost.scopes);
        match result {
            Ok(()) => Ok(carver.into_rest()),
            Err(error) => {
                self.clear();
                Err(error)
            }
        }
    }

    /// Its lists. Apart, so that they take no stack while a table is read.
    #[inline(never)]
    fn cut(&mut self, carver: &mut Carver<'s>, limits: &Limits) -> Result<(), Full> {
        self.units = carver.list(limits.units)?;
        self.scopes = carver.list(limits.scopes)?;
        self.reserved = carver.list(limits.reserved)?;
        self.aliases = Aliases::cut(carver)?;
        Ok(())
    }

    /// The units that can be used, in the order of the table; those of an IVRS by the type of their block first.
    pub fn units(&self) -> &[UnitInfo] {
        &self.units
    }

    /// False if a part of the table could not be read that may define a unit or say what one serves.
    ///
    /// A device may then be behind a unit that is not among [`units`](Self::units), and its DMA unchecked, although
    /// [`unit_of`](Self::unit_of) has an answer: that of the unit that takes all the rest.
    pub fn is_complete(&self) -> bool {
        !self.lost_units && !self.lost_scopes && self.lost_buses == Numbers::NONE
    }

    /// All scopes: which device has which role, in the order of the table.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// All reserved memory, in the order of the table.
    pub fn reserved_memory(&self) -> &[ReservedMemory] {
        &self.reserved
    }

    /// Index in [`units`](Self::units) of the one that serves a PCI function or an ACPI device.
    ///
    /// A scope that names the device, or the function whose virtual function it is, comes before one of a bridge above,
    /// the nearest first, and that before a unit that takes all of the segment. `None` if no unit serves it, or one
    /// that cannot be used: such a device must not be assigned.
    #[inline(never)]
    pub fn unit_of(&self, config: &impl ConfigSpace, source: SourceId) -> Option<UnitIndex> {
        match self.server(config, source)?.role {
            Role::Unit(index) => Some(index),
            _ => None,
        }
    }

    /// False if another unit than [`unit_of`](Self::unit_of) says may serve a device, or if there was no room for all that is
    /// said of it: part of the table was lost ([`is_complete`](Self::is_complete)). Such a device must not be assigned.
    ///
    /// A device that a scope names alone or with all behind a bridge is certain, and so are all of a segment with one unit
    /// where only a scope was lost.
    pub fn is_certain(&self, config: &impl ConfigSpace, source: SourceId) -> bool {
        let physical = || pci::physical_function(config, source).unwrap_or(source);
        if self.lost_buses != Numbers::NONE
            && (self.lost_buses.contains(source.bus()) || self.lost_buses.contains(physical().bus()))
        {
            return false;
        }
        let Some(server) = self.server(config, source) else { return self.is_complete() };
        let is_only = || self.units.iter().filter(|unit| unit.segment == source.segment()).count() == 1;
        server.is_exact() || !self.lost_units && (!self.lost_scopes || is_only())
    }

    /// True if firmware reserves memory for a device that cannot be mapped for it ([R66](crate::guide::rules#r66)), or that
    /// there was no room for. Such a device must not be assigned, unless its cell leaves that memory out.
    #[inline(never)]
    pub fn loses_reserved(&self, config: &impl ConfigSpace, source: SourceId) -> bool {
        let device = Device::of(config, source);
        let mut scopes = self.scopes.iter().filter(|scope| scope.role == Role::LostReserved);
        scopes.any(|scope| scope.covers(config, device).is_some())
    }

    /// What says best who serves a device; the first of several.
    fn server(&self, config: &impl ConfigSpace, source: SourceId) -> Option<&Scope> {
        let (mut best, device) = (None, Device::of(config, source));
        for scope in self.scopes.iter().filter(|scope| scope.role.is_server()) {
            let Some(rank) = scope.covers(config, device) else { continue };
            if best.is_none_or(|(highest, _)| rank > highest) {
                best = Some((rank, scope));
            }
        }
        best.map(|(_, scope)| scope)
    }

    /// The source-ids that a function's requests may carry, and the functions that share them.
    ///
    /// # Errors
    ///
    /// The function has more of them than [`MAX_REQUESTERS`]: it cannot be assigned.
    pub fn requesters(&self, config: &impl ConfigSpace, source: SourceId) -> Result<Requesters, Full> {
        let mut all = Requesters::NONE;
        self.add_requesters(config, source, &mut all)?;
        Ok(all)
    }

    /// The same, added to none.
    #[inline(never)]
    pub(crate) fn add_requesters(
        &self,
        config: &impl ConfigSpace,
        source: SourceId,
        all: &mut Requesters,
    ) -> Result<(), Full> {
        all.add_all(config, source)?;
        self.add_aliases(config, source, all)
    }

    /// Adds the ids that the table, or a caller, says the function has beside its own, and who shares an id.
    #[inline(never)]
    fn add_aliases(&self, config: &impl ConfigSpace, source: SourceId, all: &mut Requesters) -> Result<(), Full> {
        let device = Device::of(config, source);
        self.each_alias(|scope, alias| if scope.covers(config, device).is_some() { all.add(alias) } else { Ok(()) })?;
        self.each_alias(|scope, alias| if all.ids().contains(&alias) { all.add_shared(scope.named()) } else { Ok(()) })
    }

    /// Each alias with its scope: those of the table, then those that a caller added.
    fn each_alias(&self, mut each: impl FnMut(&Scope, SourceId) -> Result<(), Full>) -> Result<(), Full> {
        for scope in &self.scopes {
            if let Role::Alias(alias) = scope.role {
                each(scope, alias)?;
            }
        }
        for (scope, alias) in self.aliases.scopes() {
            each(&scope, alias)?;
        }
        Ok(())
    }

    /// Takes in that the requests of a function may carry this id, too, as a caller knows who knows the device: it is one of
    /// [`requesters`](Self::requesters) from then on, and whoever shares it belongs to the same cell. What is known of a device by
    /// its vendor and device id needs no call. An alias that is known already is left alone.
    ///
    /// # Errors
    ///
    /// There are 16 of them already.
    pub fn add_alias(&self, function: SourceId, alias: Requester) -> Result<(), Full> {
        let role = Role::Alias(alias.in_segment(function.segment()));
        if self.scopes.iter().any(|scope| scope.source == function && scope.role == role) {
            return Ok(());
        }
        self.aliases.add(function, alias)
    }

    /// The functions that a function's requests may reach without passing a remapping unit: no two cells may have one
    /// each, unless both [allow that](crate::CellConfig::allow_shared_group).
    pub fn group(&self, config: &impl ConfigSpace, source: SourceId) -> Group {
        Group::of(config, source)
    }

    /// The reserved memory that a device uses.
    pub fn reserved(&self, config: &impl ConfigSpace, source: SourceId) -> impl Iterator<Item = ReservedMemory> {
        self.reserved_of(config, source).map(|(_, memory)| memory)
    }

    /// The reserved memory with this address of whoever sent a request with this source-id: of the function that has it, or of one
    /// whose requests may carry it. Where a unit blocked a request ([`Fault`](crate::fault::Fault)), this says that the device goes
    /// on using what firmware set up, and needs a cell for that (VT-d 5.10, section 3.16).
    #[inline(never)]
    pub fn reserved_at(&self, config: &impl ConfigSpace, source: SourceId, at: Iova) -> Option<ReservedMemory> {
        let holds = |memory: &ReservedMemory| memory.region.input.start() <= at && at <= memory.region.input.last();
        let own = self.reserved(config, source).find(holds);
        own.or_else(|| {
            let there = |index: u16| self.reserved.get(usize::from(index)).copied().filter(holds);
            let carries = |user| self.requesters(config, user).is_ok_and(|all| all.ids().contains(&source));
            let mut users = self.reserved_users();
            users.find_map(|(index, user)| there(index).filter(|_| carries(user)))
        })
    }

    /// The same as [`reserved`](Self::reserved), each with its index in [`reserved_memory`](Self::reserved_memory).
    pub(crate) fn reserved_of(
        &self,
        config: &impl ConfigSpace,
        source: SourceId,
    ) -> impl Iterator<Item = (u16, ReservedMemory)> {
        let device = Device::of(config, source);
        self.reserved.iter().zip(0_u16..).filter_map(move |(memory, index)| {
            let mut scopes = self.scopes.iter().filter(|scope| scope.role == Role::Reserved(index));
            scopes.any(|scope| scope.covers(config, device).is_some()).then_some((index, *memory))
        })
    }

    /// Who else firmware reserves memory for that a device uses, or memory that overlaps it: the scopes that say so, of which
    /// one of a bridge stands for all behind it. Whatever such a device writes there, this one can read: they are not isolated
    /// from each other.
    pub fn reserved_with(&self, config: &impl ConfigSpace, source: SourceId) -> impl Iterator<Item = Scope> {
        let own = self.reserved_of(config, source).fold(0, |mask, (index, _)| mask | 1 << index);
        let shared = overlapping(&self.reserved, own);
        self.scopes.iter().copied().filter(move |scope| {
            let is_own = scope.source == source && matches!(scope.target, Target::Function | Target::Acpi(_));
            !is_own && matches!(scope.role, Role::Reserved(index) if shared >> index & 1 == 1)
        })
    }

    /// The functions that the table names as users of reserved memory, each with the index of that.
    pub(crate) fn reserved_users(&self) -> impl Iterator<Item = (u16, SourceId)> {
        self.scopes.iter().filter_map(|scope| match scope.role {
            Role::Reserved(index) => Some((index, scope.source)),
            _ => None,
        })
    }

    /// True if neither SNP nor PGSNP may be set for a device (SIDP, [C2](crate::guide::rules#c2)).
    pub fn snoop_forbidden(&self, config: &impl ConfigSpace, source: SourceId) -> bool {
        self.properties(config, source).contains(dmar::Properties::NO_PAGE_SNOOP)
    }

    /// Restrictions on a device, from SIDP, or from SATC where there is no SIDP (VT-d 5.10, section 8.9).
    pub fn properties(&self, config: &impl ConfigSpace, source: SourceId) -> dmar::Properties {
        let (mut all, device) = (dmar::Properties::empty(), Device::of(config, source));
        for scope in &self.scopes {
            if let Role::Properties(properties) = scope.role
                && scope.covers(config, device).is_some()
            {
                all |= properties;
            }
        }
        all
    }

    /// True if firmware lets a device use ATS ([R48](crate::guide::rules#r48)): for VT-d, its root port is listed or it is
    /// a device of the SoC with a validated cache; for AMD-Vi, its unit supports it and its entry does not forbid it.
    /// Whether the device and, for VT-d, the unit can is not looked at.
    pub fn ats_allowed(&self, config: &impl ConfigSpace, source: SourceId) -> bool {
        let device = Device::of(config, source);
        let has = |role| self.scopes.iter().any(|scope| scope.role == role && scope.covers(config, device).is_some());
        match self.unit_of(config, source).and_then(|index| self.units.get(index.get())).map(|unit| unit.kind) {
            Some(UnitKind::VtD) => {
                has(Role::AtsPort) || self.properties(config, source).contains(dmar::Properties::ATC_HARDENED)
            }
            Some(UnitKind::AmdVi(unit)) => unit.iotlb_supported() && !has(Role::NoAts),
            None => false,
        }
    }

    /// AMD: bits that firmware wants set in a device's entry of the device table (field DTE Setting).
    pub fn device_settings(&self, config: &impl ConfigSpace, source: SourceId) -> u8 {
        let (mut all, device) = (0, Device::of(config, source));
        for scope in &self.scopes {
            if let Role::Settings(settings) = scope.role
                && scope.covers(config, device).is_some()
            {
                all |= settings;
            }
        }
        all
    }

    /// Reports reserved memory that the machine's memory map does not have as reserved: `is_reserved` tells if all of a
    /// region is.
    pub fn check_memory_map(&self, is_reserved: impl Fn(Region) -> bool, mut report: impl FnMut(Finding)) {
        for memory in self.reserved.iter().filter(|memory| !is_reserved(memory.region)) {
            let (base, limit) = (memory.region.input.start().as_u64(), memory.region.input.last().as_u64());
            report(Finding::new(memory.offset, Flaw::NotReserved { base, limit }));
        }
    }

    /// Bits of a physical address that DMA can use: 32 to 52. That is the whole machine's: no unit reports a width of its
    /// own (VT-d 5.10, section 8.1).
    pub fn host_address_width(&self) -> u8 {
        self.host_address_width
    }

    /// True if the platform supports interrupt remapping. The units have to as well.
    pub fn interrupt_remapping(&self) -> bool {
        self.interrupt_remapping
    }

    /// True if firmware asks to leave x2APIC mode alone; of no meaning without interrupt remapping
    /// ([R68](crate::guide::rules#r68)).
    pub fn x2apic_opt_out(&self) -> bool {
        self.x2apic_opt_out
    }

    /// True if DMA that firmware left running stays within the reserved memory, so that all other may be blocked at once.
    pub fn dma_opt_in(&self) -> bool {
        self.dma_opt_in
    }
}
