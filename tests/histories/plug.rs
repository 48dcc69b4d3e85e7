//! Hot-plug: devices come back or others in their places, a bridge comes with a device, and ports are reset.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal as _;
use cofferdam::iommu::{Difference, Error};
use cofferdam_model::{Answer, BridgeKind, Machine};

use crate::express;
use crate::history::History;
use crate::request::is_quarantined;
use crate::visible::{BUS_MASTER, COMMAND};

/// What comes with a bridge of its own, which is not there at first.
pub(crate) const LATE: SourceId = SourceId::from_requester(0, 0x50 << 8);
const PORT: SourceId = SourceId::from_requester(0, 0x1d << 3);
/// Where bridges have their bus numbers, and ports and functions Access Control Services.
const BUSES: u16 = 0x18;
const ACCESS_CONTROL: u16 = 0x184;
/// What a reset loses of SR-IOV: VF Enable, and NumVFs.
const VIRTUAL_ONES: [u16; 2] = [0x248, 0x250];
/// Kinds of devices.
const KINDS: u64 = 4;
/// Where the model has the ATS registers, and Enable there.
const ATS: u16 = 0x144;
const ATS_ENABLE: u32 = 1 << 31;

/// Says what kind of device is there, which is a bus master by its own firmware.
pub(crate) fn set_up(machine: &Machine, id: SourceId, kind: u32) {
    machine.set_config(id, 0, 0x0001_8086 | kind << 20);
    machine.set_config(id, COMMAND, BUS_MASTER);
}

/// True of what an audit tells of devices in the place of others.
pub(crate) fn is_about_another(difference: &Difference) -> bool {
    matches!(difference, Difference::OtherDevice { .. })
}

impl History<'_> {
    /// A device is plugged in: where none is any more, where another is, or with a bridge.
    pub(crate) fn plug(&mut self) {
        self.done.steps += 1;
        let index = self.random.index(self.oracle.devices.len());
        let device = &self.oracle.devices[index];
        if device.id == LATE {
            self.bring_bridge(index);
        } else if device.function.plugged {
            let kind = if self.random.one_in(2) { 0 } else { self.random.below(KINDS) as u32 };
            self.put_in(index, kind);
        } else {
            return;
        }
        self.check_exposed();
        self.look();
    }

    fn bring_bridge(&mut self, index: usize) {
        let device = &mut self.oracle.devices[index];
        if !std::mem::take(&mut device.pulled_out) {
            return;
        }
        (device.kind, device.master) = (Some(0), Some(true));
        // The bridge stays when its device is pulled out.
        if !self.machine.bridges().contains(&PORT) {
            self.machine.add_bridge(PORT, BridgeKind::RootPort, LATE.bus()..=LATE.bus());
            self.machine.add_acs(PORT, 0x1d);
        }
        self.machine.plug_in(LATE);
        set_up(self.machine, LATE, 0);
        self.live.borrow_mut().origins[index].is_there = true;
        self.done.bridges += 1;
        self.tell(format_args!("{PORT} comes with {LATE}"));
    }

    /// One of this kind takes the place: every second kind cannot have a device-TLB.
    fn put_in(&mut self, index: usize, kind: u32) {
        let device = &self.oracle.devices[index];
        let ats = device.function.born_with_ats.filter(|_| kind.is_multiple_of(2));
        let is_silent = device.tlb && ats.is_none();
        if let Some(broken) = &mut self.broken
            && is_silent
        {
            if broken.are_many_unresponsive() && !broken.unresponsive[index] {
                return;
            }
            broken.ever[device.unit] = true;
        }
        let was_there = !device.pulled_out;
        self.machine.plug_in(device.id);
        ats.into_iter().for_each(|depth| express::add_ats(self.machine, device.id, depth));
        set_up(self.machine, device.id, kind);
        if ats.is_none() {
            self.machine.set_device_tlb(device.id, Answer::Never, 32);
        }
        self.broken.iter_mut().for_each(|broken| broken.unresponsive[index] = is_silent);
        let is_other = device.kind != Some(kind);
        let device = &mut self.oracle.devices[index];
        (device.kind, device.pulled_out, device.master, device.function.ats) = (Some(kind), false, Some(true), ats);
        device.lost_ats = device.tlb;
        self.live.borrow_mut().origins[index].is_there = true;
        self.done.plugged_in += 1;
        self.done.replaced += u64::from(is_other);
        let id = self.oracle.devices[index].id;
        self.tell(format_args!("{id} is plugged in, of kind {kind}; one was there: {was_there}"));
        // Where nothing goes wrong, nobody is asked who does not answer.
        if is_silent && self.broken.is_none() {
            self.isolate();
        }
    }

    /// What is behind a port is reset with its bus; software gives bridges their bus numbers again, and no more.
    pub(crate) fn reset_port(&mut self) {
        self.done.steps += 1;
        let port = self.random.of(&express::PORTS);
        let behind = express::behind(port);
        // What belongs to one device of several functions is as it was at once.
        let restored: Vec<_> = behind
            .iter()
            .flat_map(|&function| {
                let is_physical = function == express::PHYSICAL;
                let own = VIRTUAL_ONES.into_iter().chain([ACCESS_CONTROL]).filter(move |_| is_physical);
                [BUSES]
                    .into_iter()
                    .filter(move |_| !express::is_express(function))
                    .chain(own)
                    .map(move |at| (function, at))
            })
            .map(|(function, at)| (function, at, self.machine.config_read(function, at)))
            .collect();
        self.machine.reset_bus(port);
        // NumVFs can be set while VF Enable is not.
        restored.into_iter().rev().for_each(|(function, at, value)| self.machine.set_config(function, at, value));
        for device in self.oracle.devices.iter_mut().filter(|device| behind.contains(&device.id)) {
            device.master = device.master.map(|_| false);
            device.lost_ats = device.tlb;
        }
        self.done.ports_reset += 1;
        self.look_at_peers();
        self.done.exposed += u64::from(self.is_exposed());
        self.tell(format_args!("{port} resets its bus"));
        self.check_exposed();
        self.look();
    }

    /// After the driver looked for devices that are others now, or that are `gone` as well: those are blocked behind units that
    /// work, and all others with a device-TLB use it.
    pub(crate) fn others_are_blocked(&mut self, result: Result<(), Error>, gone: bool) {
        let failed = self.has_failed();
        let suspects = self.broken.as_ref().map_or_else(|| vec![false; failed.len()], |broken| broken.suspects.clone());
        match result {
            Ok(()) => {}
            Err(Error::Unit(error)) if self.broken.is_some() && self.names_suspect(error) => {}
            Err(Error::Unit(_)) if failed.contains(&true) => {}
            Err(error) => panic!("{error}"),
        }
        for index in 0..self.oracle.devices.len() {
            let device = &self.oracle.devices[index];
            let (id, unit) = (device.id, device.unit);
            // A unit may fail only after its devices were looked at.
            let is_looked_at = !self.oracle.units[unit].open || is_quarantined(&self.iommu, id);
            if device.cell.is_none() || device.stuck || !is_looked_at {
                continue;
            }
            let is_gone = gone && device.pulled_out && device.came_as.is_some();
            if self.oracle.is_another(index) || is_gone {
                let is_blocked = is_quarantined(&self.iommu, id);
                assert!(is_blocked || failed[unit], "{id} is another, or gone, and is not blocked");
                if is_blocked {
                    let master = device.master;
                    self.oracle.quarantine(index, suspects[unit]);
                    self.oracle.cut_routes(index, suspects[unit]);
                    if let Some(broken) = self.broken.as_mut().filter(|_| suspects[unit]) {
                        broken.residues[unit] = true;
                    }
                    self.oracle.devices[index].master = master.map(|_| false);
                    self.done.others_blocked += 1;
                }
            } else if device.tlb && device.function.ats.is_some() && !failed[unit] && !device.pulled_out {
                let is_on = self.machine.config_read(id, ATS) & ATS_ENABLE != 0;
                assert!(is_on, "{id} does not use its device-TLB");
                self.oracle.devices[index].lost_ats = false;
            }
        }
        self.know_routes(None);
    }

    /// Fails unless the audit names those in whose place others answer, and no others.
    pub(crate) fn compare_others(&self, told: &[Difference]) {
        let another = (0..self.oracle.devices.len()).filter(|index| self.oracle.is_another(*index));
        let expected: Vec<_> = another
            .map(|index| {
                let device = &self.oracle.devices[index];
                let cell = self.oracle.cell(device.cell.expect("it has one")).id;
                Difference::OtherDevice { source: device.id, cell }
            })
            .collect();
        let fits = told.len() == expected.len() && expected.iter().all(|one| told.contains(one));
        assert!(fits, "the audit tells that {told:?}, and these are others: {expected:?}");
    }
}
