use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::topology::{ConfigSpace, NoConfigSpace, Topology};

use crate::{any, any_memory, any_mut, any_number, show};

pub(super) fn calls<H: Hal + 'static>() {
    show(Topology::read(any_memory(), any(), any::<&[u8]>(), any::<H>(), show));
    show(Topology::read(any_memory(), any(), any::<&[u8]>(), &NoConfigSpace, show));
    let topology: &Topology<'static> = any();
    facts(topology);
    of_a_device(topology, any::<H>());
    of_a_device(topology, &NoConfigSpace);
}

fn facts(topology: &'static Topology<'static>) {
    show((topology.units(), topology.is_complete(), topology.scopes(), topology.reserved_memory()));
    show((topology.host_address_width(), topology.interrupt_remapping()));
    show((topology.x2apic_opt_out(), topology.dma_opt_in()));
    show(topology.ioapic(any_number() as u8));
    topology.hpet(any_number() as u8).for_each(show);
    topology.match_ioapics(any::<&[u8]>(), show).for_each(show);
    topology.check_hpet(*any(), show);
    topology.check_memory_map(|region| *any::<bool>() && region.input.is_page_aligned(), show);
}

fn of_a_device(topology: &'static Topology<'static>, config: &impl ConfigSpace) {
    let source = *any::<SourceId>();
    show(config.read(source, any_number() as u16));
    show((topology.unit_of(config, source), topology.is_certain(config, source)));
    show(topology.snoop_forbidden(config, source));
    show((topology.properties(config, source), topology.ats_allowed(config, source)));
    show(topology.device_settings(config, source));
    topology.check_interrupt_buses(config, show);
    topology.reserved(config, source).for_each(show);
    topology.reserved_with(config, source).for_each(show);
    show(topology.loses_reserved(config, source));
    show(topology.reserved_at(config, source, *any()));
    show(any_mut::<Topology<'static>>().add_alias(source, *any()));
    let group = topology.group(config, source);
    show((group.isolation(), group.contains(*any())));
    group.ranges().for_each(show);
    if let Ok(requesters) = topology.requesters(config, source) {
        show((requesters.ids(), requesters.shared_with(*any())));
    }
}
