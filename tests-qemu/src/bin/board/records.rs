//! The records beside the words: what `cargo xtask inspect --report` reads.

use core::fmt::Write;

use cofferdam::addr::SourceId;
use cofferdam::firmware::Finding;
use cofferdam::iommu::{DeviceInfo, RemappingUnit, UnitDetails, UnitState};
use cofferdam::topology::{Group, Requesters, Topology};
use cofferdam_report::{FORMAT, Record};
use cofferdam_tests_qemu::{Report, Verdict, Words};

/// So many bytes of firmware's table are in one record.
const PART: usize = 128;

/// Who says all that follows.
pub(crate) fn board(report: &Report) {
    report.tell(Record::Board { format: FORMAT, version: env!("CARGO_PKG_VERSION") });
}

/// The whole of firmware's table.
pub(crate) fn table(report: &Report, table: &[u8]) {
    for (part, offset) in table.chunks(PART).zip((0..).step_by(PART)) {
        let mut hex = Words::default();
        // `Words` has room for them.
        part.iter().for_each(|byte| _ = write!(hex, "{byte:02x}"));
        report.tell(Record::TablePart { offset, hex: hex.as_str() });
    }
}

pub(crate) fn firmware(report: &Report, topology: &Topology<'_>) {
    report.tell(Record::Firmware {
        host_bits: topology.host_address_width(),
        interrupts: topology.interrupt_remapping(),
        complete: topology.is_complete(),
    });
}

pub(crate) fn finding(report: &Report, finding: &Finding) {
    let [severity, text] =
        [format_args!("{}", finding.severity()), format_args!("{}", finding.flaw)].map(|text| Words::new(text));
    report.tell(Record::Finding {
        severity: severity.as_str(),
        offset: finding.offset,
        text: text.as_str(),
        action: finding.flaw.action(),
    });
}

/// What a unit is. Its abilities follow.
pub(crate) fn unit(report: &Report, unit: &RemappingUnit, host_bits: u8) {
    let base = unit.window.base.as_u64();
    let capabilities = Words::new(format_args!("{}", unit.details));
    report.tell(Record::Unit { base, segment: unit.segment, capabilities: capabilities.as_str() });
    let UnitDetails::Vtd(can) = unit.details else { return };
    let refused = match unit.state {
        UnitState::Failed { error, .. } => Words::new(format_args!("{error}")),
        _ => Words::default(),
    };
    report.tell(Record::UnitState {
        unit: base,
        version: (can.major_version, can.minor_version),
        input_bits: can.input_bits,
        output_bits: host_bits,
        domains: can.domain_ids,
        translating: unit.found_on,
        interrupts: unit.features.interrupts.is_some(),
        refused: refused.as_str(),
    });
}

/// What of a function is read from its configuration space.
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    pub(crate) class: u32,
    pub(crate) buses: Option<(u8, u8)>,
    /// Messages that it can send by MSI.
    pub(crate) msi: u16,
}

/// A function of which nothing is known but who serves it, if somebody does, and why no cell is given it.
pub(crate) fn refused(report: &Report, function: SourceId, identity: &Identity, unit: Option<u64>, why: &str) {
    let id = Words::new(format_args!("{function}"));
    let &Identity { vendor, device, class, buses, msi } = identity;
    report.tell(Record::Function {
        id: id.as_str(),
        vendor,
        device,
        class,
        unit,
        refused: why,
        input_bits: 0,
        isolated: "",
        device_tlb: 0,
        no_device_tlb: "",
        msi,
        msi_x: 0,
        resettable: false,
        buses,
    });
}

/// A function that a unit serves.
pub(crate) fn function(
    report: &Report,
    function: SourceId,
    identity: &Identity,
    info: &DeviceInfo,
    isolated: &str,
    msi_x: u16,
) {
    let id = Words::new(format_args!("{function}"));
    let refused = info.refusal.map_or_else(Words::default, |refusal| Words::new(format_args!("{refusal}")));
    let (device_tlb, why) = match &info.ats {
        Ok(ats) => (ats.queue_depth, Words::default()),
        Err(reason) => (0, Words::new(format_args!("{reason}"))),
    };
    let &Identity { vendor, device, class, buses, msi } = identity;
    report.tell(Record::Function {
        id: id.as_str(),
        vendor,
        device,
        class,
        unit: Some(info.unit.base.as_u64()),
        refused: refused.as_str(),
        input_bits: info.input_bits,
        isolated,
        device_tlb,
        no_device_tlb: why.as_str(),
        msi,
        msi_x,
        resettable: info.resettable,
        buses,
    });
    aliases(report, function, &info.requesters);
    if isolated.is_empty() {
        group(report, function, &info.group);
    }
}

/// The other source-ids of a function.
pub(crate) fn aliases(report: &Report, function: SourceId, requesters: &Requesters) {
    let own = Words::new(format_args!("{function}"));
    for id in requesters.ids().iter().filter(|id| **id != function) {
        report.tell(Record::Alias { function: own.as_str(), id: Words::new(format_args!("{id}")).as_str() });
    }
}

/// What nothing isolates a function from.
pub(crate) fn group(report: &Report, function: SourceId, group: &Group) {
    let own = Words::new(format_args!("{function}"));
    for (first, last) in group.ranges() {
        let [first, last] = [first, last].map(|id| Words::new(format_args!("{id}")));
        report.tell(Record::Group { function: own.as_str(), first: first.as_str(), last: last.as_str() });
    }
}

/// The verdict, and so many records in all.
pub(crate) fn verdict(report: &Report, verdict: &Verdict) {
    verdict.limits().for_each(|text| report.tell(Record::Limit { text }));
    report.tell(Record::Verdict {
        fit: verdict.is_fit(),
        why: verdict.why_unfit().unwrap_or_default(),
        limits: verdict.limit_count(),
    });
}
