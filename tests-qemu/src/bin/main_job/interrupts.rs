//! Which CPUs a device's interrupts reach, found by trying.
#![forbid(unsafe_code)]

use cofferdam::interrupt::{Message, Route, Source};
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam_tests_qemu::{Edu, Words};

use crate::stage::{Player, Stage};

const VECTOR: u8 = 0x40;

fn message(device: &Edu) -> Source {
    Source::Message { device: device.source(), index: 0 }
}

impl Stage<'_> {
    /// The device comes to the player's cell, whose CPU gets its interrupts.
    pub(crate) fn assign(&self, device: &Edu, to: &Player) -> Result<(), Words> {
        let config = DeviceConfig { messages: u16::from(self.remaps), ..DeviceConfig::default() };
        self.iommu.commit(&[Edit::Assign(device.source(), to.cell, config)])?;
        if self.remaps {
            self.iommu.route(to.cell, message(device), Route::to(to.cpu, VECTOR))?;
        }
        Ok(())
    }

    /// Each device's interrupt arrives at its cell's CPU, and none that it sends in the other's name.
    pub(crate) fn interrupts_stay_within_the_cell(&self) -> Result<(), Words> {
        for (own, other) in [(&self.a, &self.b), (&self.b, &self.a)].into_iter().filter(|_| self.remaps) {
            self.try_interrupts(&own.device, own, other, self.iommu.message(message(&other.device))?)?;
        }
        Ok(())
    }

    /// A device that has come to another cell has its interrupts there, and none in the cell that it has left.
    pub(crate) fn interrupts_move(&self, device: &Edu, to: &Player, from: &Player) -> Result<(), Words> {
        if self.remaps {
            device.resume();
            self.try_interrupts(device, to, from, self.iommu.message(message(&to.device))?)?;
        }
        Ok(())
    }

    /// Has a device of `own` send its own interrupt, and `forged`, which is not its own.
    fn try_interrupts(&self, device: &Edu, own: &Player, other: &Player, forged: Message) -> Result<(), Words> {
        let sent = self.arrivals(device, self.iommu.message(message(device))?, own, other);
        let what = Words::new(format_args!(
            "{} in {}: its interrupt arrives at the CPU of {}",
            device.source(),
            own.name,
            own.name
        ));
        self.report.expect(sent == (1, 0, 1), what.as_str(), format_args!("at the cells' CPUs and at all: {sent:?}"));
        let lost = self.arrivals(device, forged, own, other);
        let what = Words::new(format_args!(
            "{} in {}: none arrives that it sends in another device's name",
            device.source(),
            own.name
        ));
        self.report.expect(lost == (0, 0, 0), what.as_str(), format_args!("at the cells' CPUs and at all: {lost:?}"));
        for (player, arrived) in [(own, sent.0 + lost.0), (other, sent.1 + lost.1)] {
            let cpu = Words::new(format_args!("CPU of {}", player.name));
            let access = if arrived > 0 { "interrupts" } else { "blocked" };
            self.tell_access(format_args!("{} in {}", device.source(), own.name), cpu.as_str(), access);
        }
        device.stop_messages();
        Ok(())
    }

    /// What arrives at both CPUs, and at any, if the device sends this message.
    fn arrivals(&self, device: &Edu, message: Message, own: &Player, other: &Player) -> (u32, u32, u32) {
        let taken = || [own, other].map(|player| self.cpus.taken(player.cpu, VECTOR));
        let (before, all_before) = (taken(), self.cpus.taken_by_all());
        device.program(message);
        device.interrupt();
        let is_settled = self.cpus.settle();
        device.acknowledge();
        let ([own, other], all) = (taken(), self.cpus.taken_by_all() - all_before);
        let [own_before, other_before] = before;
        (own - own_before, other - other_before, if is_settled { all } else { u32::MAX })
    }
}
