use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, Others};
use cofferdam::{CellConfig, CellId, Iommu};

use crate::{any, any_memory, any_number, show};

pub(super) fn calls<H: Hal + Copy + 'static>() {
    show(Options::default());
    show(Iommu::<H>::new(*any(), *any()));
    let iommu: &Iommu<'static, H> = any();
    show(iommu.probe_acpi(any_memory(), any(), any::<&[u8]>(), show));
    show(iommu.remap_interrupts(any::<&[u8]>(), *any()));
    show(iommu.prepare());
    if let Ok(unblocked) = iommu.enable() {
        show(unblocked.is_nothing());
    }
    show(iommu.add_alias(*any(), *any()));
    show(iommu.isolate());
    show(iommu.unblocked(&mut show));
    show(iommu.disable());
    show(iommu.hand_back());
    show((iommu.suspend(), iommu.resume(show)));
    iommu.units().for_each(show);
    cofferdam::vtd::quirks_of_machine(iommu.hal()).for_each(show);
    show((iommu.topology(), iommu.hal()));
    show(iommu.create_cell(*any::<CellConfig>()));
    show(iommu.map(*any(), *any()));
    show(iommu.map_shared(*any(), *any()));
    show((iommu.unmap(*any(), *any()), iommu.unmap_any(*any(), *any())));
    show(iommu.protect(*any(), *any(), *any()));
    show(iommu.assign(*any(), *any()));
    show(iommu.assign_with(*any(), *any(), *any::<DeviceConfig>()));
    show(iommu.coherency(*any()));
    show(iommu.create_root_cell(*any::<CellConfig>()));
    show(iommu.device_info(*any()));
    show(iommu.windows(*any(), &mut show));
    let others: &Others = any();
    others.first().for_each(show);
    show(others.count());
    show(iommu.input_ranges(*any(), show));
    show(iommu.statistics());
    iommu.faults_by_device(|device, faults| show((device, faults)));
    show(iommu.set_fault_event(*any()));
    show(iommu.faults(show));
    show(iommu.audit(show));
    show((iommu.allows_unsafe_interrupts(*any()), iommu.shares(*any())));
    show(iommu.reach(show));
    show(iommu.shared_memory(show));
    show(iommu.regions(*any(), show));
    show(iommu.assigned(show));
    show(iommu.senders(*any(), show));
    show(iommu.withheld(show));
    show(iommu.coherency_changes(|cell, now| show((cell, now))));
    // SAFETY: no program of this package is ever run.
    show(unsafe { iommu.forget_unit(*any()) });
    show(iommu.mute(*any(), *any()));
    show((iommu.route(*any(), *any(), *any()), iommu.unroute(*any(), *any())));
    show(iommu.post(*any(), *any(), *any()));
    show((iommu.message(*any()), iommu.redirection(*any(), *any()), iommu.program_msi(*any())));
    // SAFETY: as above.
    show((iommu.msi_x_table(*any()), unsafe { iommu.program_msi_x(*any(), *any()) }));
    show(iommu.routes(show));
    show(iommu.found_interrupts(show));
    show(iommu.release(*any()));
    show(iommu.destroy_cell(*any()));
    if let Ok(committed) = iommu.commit(any::<&[Edit]>()) {
        show((iommu.coherency_change(&committed, *any()), committed.changes_coherency()));
    }
    show(iommu.commit_reporting(any::<&[Edit]>(), show));
    show((any::<Error>().code(), any::<Error>().detail()));
    show((CellId::from_bits(any_number()), any::<CellId>().to_bits(), any::<CellId>().tag()));
}
