//! A random machine: which units it has, what they can do, and where its devices are.

use cofferdam::addr::SourceId;
use cofferdam_model::UnitConfig;

use crate::machine::{behind_write_buffers, function, presets};
use crate::random::Random;

pub(crate) const DEVICES: usize = 16;
/// Frames of the driver: enough for all that a history can map.
pub(crate) const FRAMES: usize = 2048;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) units: Vec<UnitConfig>,
    /// The buses of each unit; the last has all the rest.
    pub(crate) buses: Vec<Vec<u8>>,
    /// Each device, and the index of its unit.
    pub(crate) devices: Vec<(SourceId, usize)>,
    /// Memory that firmware reserves for a device: its first and last page, and the device, which is on bus 0.
    pub(crate) reserved: Vec<(u64, u64, SourceId)>,
    /// Of the model's caches.
    pub(crate) seed: Option<u64>,
}

impl Plan {
    /// Every preset has its turn as a machine's first unit; every second machine has none but random units.
    pub(crate) fn new(number: u64, random: &mut Random) -> Self {
        let presets = presets();
        let count = if random.one_in(2) { 1 } else { random.from(2, 4) as usize };
        let mut names = Vec::new();
        let mut units = Vec::new();
        for index in 0..count {
            let wanted = number / 2 % presets.len() as u64;
            let choice = if index == 0 { wanted } else { random.below(presets.len() as u64) };
            let (name, unit) = presets[choice as usize].clone();
            if number % 2 == 1 || index > 0 && random.one_in(2) {
                let unit = any_unit(unit, random);
                names.push(format!("version {:x}, CAP {:#x}, ECAP {:#x}", unit.version, unit.cap, unit.ecap));
                units.push(unit);
            } else {
                names.push(name.to_owned());
                units.push(unit);
            }
        }
        let mut buses = vec![Vec::new(); count];
        let mut devices = Vec::new();
        for bus in 0..6 {
            // Bus 0 is the last unit's, which reserved memory is for.
            let unit = if bus == 0 { count - 1 } else { random.below(count as u64) as usize };
            if unit + 1 < count {
                buses[unit].push(bus);
            }
            devices.extend((0..32).map(|device| (function(bus, device), unit)));
        }
        // A unit without a bus would be one that takes all the rest.
        for index in 0..count.saturating_sub(1) {
            if buses[index].is_empty() {
                let bus = 6 + index as u8;
                buses[index].push(bus);
                devices.extend((0..32).map(|device| (function(bus, device), index)));
            }
            units[index] = units[index].clone().serving(&buses[index]);
        }
        // Some are neighbours.
        let mut chosen: Vec<(SourceId, usize)> = vec![devices[3], devices[4]];
        while chosen.len() < DEVICES {
            let device = random.of(&devices);
            if !chosen.contains(&device) {
                chosen.push(device);
            }
        }
        let reserved =
            if random.one_in(3) { vec![(0x3_0000, 0x3_0000 + random.below(700), chosen[1].0)] } else { vec![] };
        let seed = (!random.one_in(2)).then(|| random.next());
        Self { name: names.join(" + "), units, buses, devices: chosen, reserved, seed }
    }
}

/// A unit with any capabilities that the specification allows and the driver can use.
fn any_unit(unit: UnitConfig, random: &mut Random) -> UnitConfig {
    let (mut cap, mut ecap) = (unit.cap, unit.ecap);
    let mut field = |shift: u32, width: u32, value: u64| {
        cap = cap & !(((1 << width) - 1) << shift) | value << shift;
    };
    // ND; RWBF, CM; SAGAW: at least one of 3, 4 and 5 levels; MGAW.
    field(0, 3, random.below(7));
    field(4, 1, random.below(2));
    field(7, 1, random.below(2));
    let levels = random.from(1, 7);
    field(8, 5, levels << 1);
    let most = [38, 38, 47, 47, 56, 56, 56, 56][levels as usize];
    let fewest = if random.one_in(2) { most } else { random.from(31, most) };
    field(16, 6, fewest);
    // SSLPS; PSI and MAMV; DWD and DRD; ESRTPS.
    field(34, 4, random.of(&[0b00, 0b01, 0b11]));
    field(39, 1, random.below(2));
    field(48, 6, random.of(&[0, 1, 5, 9, 10, 18, 27, 36, 52]));
    field(54, 2, random.below(4));
    field(63, 1, random.below(2));
    // C, SC.
    ecap = ecap & !(1 | 1 << 7) | random.below(2) | random.below(2) << 7;
    let queue = !random.one_in(5);
    let version = if queue { random.of(&[0x10, 0x20, 0x40, 0x50, 0x60]) } else { random.of(&[0x10, 0x30, 0x50]) };
    // Interrupt remapping and device-TLBs need the queue.
    ecap = if queue { ecap | 1 << 1 } else { ecap & !0b1_1110 };
    let records = random.of(&[1, 1, 2, 8, 256]);
    let unit = UnitConfig { version, cap, ecap, ..unit };
    let unit = if random.one_in(8) { behind_write_buffers(unit) } else { unit };
    // The register sets of other places would lie in the way of more records.
    UnitConfig { ecap: unit.ecap & !(0x3ff << 8) | 0x50 << 8, ..unit }.fault_records(records)
}
