use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Options, Others};
use cofferdam::topology::Topology;
use cofferdam::{CellConfig, Iommu};

use crate::{any, any_mut, show};

pub(super) fn calls<H: Hal + Copy + 'static, const UNITS: usize, const CELLS: usize, const DEVICES: usize>() {
    show(Options::default());
    show(Iommu::<H, UNITS, CELLS, DEVICES>::discover(*any(), any::<Topology>().clone(), *any()));
    show(Iommu::<H, UNITS, CELLS, DEVICES>::new(*any(), *any()));
    let iommu: &mut Iommu<H, UNITS, CELLS, DEVICES> = any_mut();
    show(iommu.probe(any::<Topology>().clone()));
    show(iommu.probe_dmar(any::<&[u8]>(), show));
    show(iommu.enable());
    show(iommu.disable());
    iommu.units().for_each(show);
    cofferdam::vtd::quirks_of_machine(iommu.hal()).for_each(show);
    show((iommu.topology(), iommu.hal()));
    show(iommu.create_cell(*any::<CellConfig>()));
    show(iommu.map(*any(), *any()));
    show(iommu.map_shared(*any(), *any()));
    show(iommu.unmap(*any(), *any()));
    show(iommu.protect(*any(), *any(), *any()));
    show(iommu.assign(*any(), *any()));
    show(iommu.assign_with(*any(), *any(), *any::<DeviceConfig>()));
    show(iommu.coherency(*any()));
    show(iommu.create_root_cell(*any::<CellConfig>()));
    show(iommu.device_info(*any()));
    let others: &Others = any();
    others.first().for_each(show);
    show(others.count());
    show(iommu.input_ranges(*any()));
    show(iommu.statistics());
    iommu.faults_by_device().for_each(show);
    show(iommu.set_fault_event(*any()));
    show(iommu.faults(show));
    if let Ok(audit) = iommu.audit(show) {
        show((audit.unsafe_interrupts(), audit.sharing()));
    }
    show(iommu.reach(show));
    show(iommu.mute(*any(), *any()));
    show(iommu.release(*any()));
    show(iommu.destroy_cell(*any()));
    let mut change = iommu.change();
    show(change.map(*any(), *any()));
    show(change.map_shared(*any(), *any()));
    show(change.unmap(*any(), *any()));
    show(change.protect(*any(), *any(), *any()));
    show(change.assign(*any(), *any()));
    show(change.release(*any()));
    show(change.destroy(*any()));
    if let Ok(committed) = change.commit() {
        show(committed.coherency_changes());
    }
}
