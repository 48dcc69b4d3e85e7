//! Every call of the front, each as a C function `call_` and its name. What a call returns is written where the caller says.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use cofferdam::addr::{Iova, IovaRange, Region, Requester, Rights, SourceId};
use cofferdam::fault::{Fault, FaultLog};
use cofferdam::firmware::Finding;
use cofferdam::hal::RegisterWindow;
use cofferdam::interrupt::{FaultEvent, Message, Posting, Route, Source};
use cofferdam::iommu::{
    AssignedDevice, Audit, Committed, DeviceConfig, DeviceInfo, Difference, Edit, Error, FoundInterrupt, MsiXTable,
    Options, Others, Reach, Remains, RemappingUnit, RoutedInterrupt, SharedMemory, Statistics, Unblocked,
    WithheldMemory,
};
use cofferdam::limits::Limits;
use cofferdam::topology::{BridgeWindow, ReservedMemory, Topology};
use cofferdam::{CellConfig, CellId, Coherency, Iommu};

use crate::platform::{Platform, platform};

pub(crate) type Front = Iommu<'static, Platform>;
pub(crate) type Done = Result<Committed, Error>;
pub(crate) type Each<T> = extern "C" fn(&T);
/// Memory for a front: where it is, and how many words.
pub(crate) type Memory = (*mut MaybeUninit<u64>, usize);

/// What a C client hands over.
fn handed_over(memory: &Memory) -> &'static mut [MaybeUninit<u64>] {
    // SAFETY: whoever hands it over has nothing else there, and never uses it again.
    unsafe { core::slice::from_raw_parts_mut(memory.0, memory.1) }
}

macro_rules! calls {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $result:ty { $($body:tt)* })*) => {
        $(#[unsafe(export_name = concat!("call_", stringify!($name)))]
        #[inline(never)]
        pub(crate) extern "C" fn $name($($arg: $type,)* result: &mut MaybeUninit<$result>) {
            result.write({ $($body)* });
        })*

        /// Has each of them be in the program.
        pub(crate) fn keep() {
            black_box([$($name as *const ()),*]);
        }
    };
}

calls! {
    fn new(options: &Options) -> Front { Iommu::new(platform(), *options) }
    fn probe_acpi(
        iommu: &Front, memory: &Memory, limits: &Limits, table: &&[u8], each: Each<Finding>,
    ) -> Result<(), Error> {
        iommu.probe_acpi(handed_over(memory), limits, table, |finding| each(&finding))
    }
    fn words(limits: &Limits) -> usize { limits.words() }
    fn prepare(iommu: &Front) -> Result<(), Error> { iommu.prepare() }
    fn enable(iommu: &Front) -> Result<Unblocked, Error> { iommu.enable() }
    fn unblocked(iommu: &Front, each: Each<SourceId>) -> Result<Unblocked, Error> {
        iommu.unblocked(&mut |function| each(&function))
    }
    fn disable(iommu: &Front) -> Result<(), Error> { iommu.disable() }
    fn suspend(iommu: &Front) -> Result<(), Error> { iommu.suspend() }
    fn resume(iommu: &Front, each: Each<SourceId>) -> Result<(), Error> { iommu.resume(|device| each(&device)) }
    fn hand_back(iommu: &Front) -> Result<(), Error> { iommu.hand_back() }
    fn forget_unit(iommu: &Front, window: &RegisterWindow) -> Result<(), Error> {
        // SAFETY: the caller has cut its devices off.
        unsafe { iommu.forget_unit(*window) }
    }
    fn isolate(iommu: &Front) -> Result<(), Error> { iommu.isolate() }
    fn add_alias(iommu: &Front, device: &SourceId, alias: &Requester) -> Result<(), Error> {
        iommu.add_alias(*device, *alias)
    }
    fn units(iommu: &Front, each: Each<RemappingUnit>) -> () { iommu.units().for_each(|unit| each(&unit)) }
    fn reserved_at(iommu: &Front, source: &SourceId, at: &Iova) -> Option<ReservedMemory> {
        iommu.topology().reserved_at(iommu.hal(), *source, *at)
    }
    fn topology(iommu: &'static Front) -> &'static Topology<'static> { iommu.topology() }
    fn hal(iommu: &'static Front) -> &'static Platform { iommu.hal() }
    fn statistics(iommu: &Front) -> Statistics { iommu.statistics() }

    fn create_cell(iommu: &Front, cell: &CellConfig) -> Result<CellId, Error> { iommu.create_cell(*cell) }
    fn create_root_cell(iommu: &Front, cell: &CellConfig) -> Result<CellId, Error> { iommu.create_root_cell(*cell) }
    fn destroy_cell(iommu: &Front, cell: &CellId) -> Done { iommu.destroy_cell(*cell) }
    fn coherency(iommu: &Front, cell: &CellId) -> Result<Coherency, Error> { iommu.coherency(*cell) }
    fn input_ranges(iommu: &Front, cell: &CellId, each: Each<IovaRange>) -> Result<(), Error> {
        iommu.input_ranges(*cell, |range| each(&range))
    }
    fn windows(iommu: &Front, device: &SourceId, each: Each<BridgeWindow>) -> Result<(), Error> {
        iommu.windows(*device, &mut |window| each(&window))
    }
    fn device_info(iommu: &Front, device: &SourceId) -> Result<DeviceInfo, Error> { iommu.device_info(*device) }
    fn others(others: &Others, each: Each<SourceId>) -> u16 {
        others.first().for_each(|other| each(&other));
        others.count()
    }

    fn map(iommu: &Front, cell: &CellId, region: &Region) -> Done { iommu.map(*cell, *region) }
    fn map_shared(iommu: &Front, cell: &CellId, region: &Region) -> Done { iommu.map_shared(*cell, *region) }
    fn unmap(iommu: &Front, cell: &CellId, range: &IovaRange) -> Done { iommu.unmap(*cell, *range) }
    fn unmap_any(iommu: &Front, cell: &CellId, range: &IovaRange) -> Done { iommu.unmap_any(*cell, *range) }
    fn protect(iommu: &Front, cell: &CellId, range: &IovaRange, rights: &Rights) -> Done {
        iommu.protect(*cell, *range, *rights)
    }
    fn assign(iommu: &Front, device: &SourceId, cell: &CellId) -> Done { iommu.assign(*device, *cell) }
    fn assign_with(iommu: &Front, device: &SourceId, cell: &CellId, config: &DeviceConfig) -> Done {
        iommu.assign_with(*device, *cell, *config)
    }
    fn release(iommu: &Front, device: &SourceId) -> Done { iommu.release(*device) }

    fn remap_interrupts(iommu: &Front, io_apics: &&[u8], x2apic: bool) -> Result<(), Error> {
        iommu.remap_interrupts(io_apics, x2apic)
    }
    fn route(iommu: &Front, cell: &CellId, source: &Source, route: &Route) -> Done { iommu.route(*cell, *source, *route) }
    fn post(iommu: &Front, cell: &CellId, source: &Source, posting: &Posting) -> Done { iommu.post(*cell, *source, *posting) }
    fn unroute(iommu: &Front, cell: &CellId, source: &Source) -> Done { iommu.unroute(*cell, *source) }
    fn message(iommu: &Front, source: &Source) -> Result<Message, Error> { iommu.message(*source) }
    fn program_msi(iommu: &Front, device: &SourceId) -> Result<(), Error> { iommu.program_msi(*device) }
    fn msi_x_table(iommu: &Front, device: &SourceId) -> Result<MsiXTable, Error> { iommu.msi_x_table(*device) }
    fn program_msi_x(iommu: &Front, device: &SourceId, table: NonNull<u32>) -> Result<(), Error> {
        // SAFETY: the table is the device's, as the caller says.
        unsafe { iommu.program_msi_x(*device, table) }
    }
    fn redirection(iommu: &Front, io_apic: u8, pin: u8) -> Result<u64, Error> { iommu.redirection(io_apic, pin) }
    fn routes(iommu: &Front, each: Each<RoutedInterrupt>) -> Result<(), Error> { iommu.routes(|routed| each(&routed)) }
    fn found_interrupts(iommu: &Front, each: Each<FoundInterrupt>) -> Result<(), Error> { iommu.found_interrupts(|found| each(&found)) }

    fn commit(iommu: &Front, edits: &&[Edit]) -> Done { iommu.commit(edits) }
    fn commit_reporting(iommu: &Front, edits: &&[Edit], each: Each<Remains>) -> Done {
        iommu.commit_reporting(edits, |remains| each(&remains))
    }
    fn coherency_change(iommu: &Front, committed: &Committed, cell: &CellId) -> Result<Option<Coherency>, Error> {
        iommu.coherency_change(committed, *cell)
    }
    fn changes_coherency(committed: &Committed) -> bool { committed.changes_coherency() }

    fn faults(iommu: &Front, each: Each<Fault>) -> FaultLog { iommu.faults(|fault| each(&fault)) }
    fn faults_by_device(iommu: &Front, each: Each<(SourceId, u64)>) -> () {
        iommu.faults_by_device(|device, faults| each(&(device, faults)))
    }
    fn set_fault_event(iommu: &Front, to: &Option<FaultEvent>) -> Result<(), Error> { iommu.set_fault_event(*to) }
    fn mute(iommu: &Front, device: &SourceId, muted: bool) -> Result<(), Error> { iommu.mute(*device, muted) }

    fn audit(iommu: &Front, each: Each<Difference>) -> Result<Audit, Error> { iommu.audit(|difference| each(&difference)) }
    fn shares(iommu: &Front, cell: &CellId) -> Result<bool, Error> { iommu.shares(*cell) }
    fn allows_unsafe_interrupts(iommu: &Front, cell: &CellId) -> Result<bool, Error> { iommu.allows_unsafe_interrupts(*cell) }
    fn reach(iommu: &Front, each: Each<Reach>) -> Result<(), Error> { iommu.reach(|reach| each(&reach)) }
    fn regions(iommu: &Front, cell: &CellId, each: Each<Region>) -> Result<(), Error> { iommu.regions(*cell, |region| each(&region)) }
    fn senders(iommu: &Front, source: &SourceId, each: Each<AssignedDevice>) -> Result<(), Error> {
        iommu.senders(*source, |device| each(&device))
    }
    fn assigned(iommu: &Front, each: Each<AssignedDevice>) -> Result<(), Error> { iommu.assigned(|device| each(&device)) }
    fn withheld(iommu: &Front, each: Each<WithheldMemory>) -> Result<(), Error> { iommu.withheld(|memory| each(&memory)) }
    fn coherency_changes(iommu: &Front, each: Each<(CellId, Coherency)>) -> Result<(), Error> {
        iommu.coherency_changes(|cell, now| each(&(cell, now)))
    }
    fn code(error: &Error) -> u8 { error.code() }
    fn detail(error: &Error) -> u8 { error.detail() }
    fn is_nothing(unblocked: &Unblocked) -> bool { unblocked.is_nothing() }
    fn shared_memory(iommu: &Front, each: Each<SharedMemory>) -> Result<(), Error> { iommu.shared_memory(|memory| each(&memory)) }
}
