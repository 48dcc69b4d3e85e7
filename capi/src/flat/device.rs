//! What is said of a device.

use super::number;

pub const COFFERDAM_ISOLATION_ROOT_COMPLEX: u8 = 1;
pub const COFFERDAM_ISOLATION_ACCESS_CONTROL: u8 = 2;
pub const COFFERDAM_ISOLATION_SHARED: u8 = 3;
pub const COFFERDAM_ISOLATION_UNKNOWN: u8 = 4;

pub const COFFERDAM_DEVICE_SNOOP_ENFORCEABLE: u32 = 1;
pub const COFFERDAM_DEVICE_RELAXABLE: u32 = 2;
pub const COFFERDAM_DEVICE_RESETTABLE: u32 = 4;
pub const COFFERDAM_DEVICE_NEEDS_DEVICE_TLB: u32 = 8;
pub const COFFERDAM_DEVICE_CAN_HAVE_DEVICE_TLB: u32 = 16;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeviceInfo {
    pub unit: u64,
    pub cell: u64,
    pub largest_page: u64,
    pub flags: u32,
    pub input_bits: u8,
    pub isolation: u8,
    pub refusal: u8,
    pub no_device_tlb: u8,
    pub reserved_with: u16,
    pub source_ids: u16,
    pub source_id: [u32; 8],
}

impl From<&cofferdam::iommu::DeviceInfo> for DeviceInfo {
    fn from(info: &cofferdam::iommu::DeviceInfo) -> Self {
        use cofferdam::topology::Isolation;
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let ids = info.requesters.ids();
        let mut source_id = [0; 8];
        source_id.iter_mut().zip(ids).for_each(|(to, from)| *to = number(*from));
        Self {
            unit: info.unit.base.as_u64(),
            cell: info.cell.map_or(0, |cell| cell.to_bits()),
            largest_page: info.largest_page,
            flags: flag(info.snoop_enforceable, COFFERDAM_DEVICE_SNOOP_ENFORCEABLE)
                | flag(info.relaxable, COFFERDAM_DEVICE_RELAXABLE)
                | flag(info.resettable, COFFERDAM_DEVICE_RESETTABLE)
                | flag(info.needs_device_tlb, COFFERDAM_DEVICE_NEEDS_DEVICE_TLB)
                | flag(info.ats.is_ok(), COFFERDAM_DEVICE_CAN_HAVE_DEVICE_TLB),
            input_bits: info.input_bits,
            isolation: match info.group.isolation() {
                Isolation::RootComplex => COFFERDAM_ISOLATION_ROOT_COMPLEX,
                Isolation::AccessControl => COFFERDAM_ISOLATION_ACCESS_CONTROL,
                Isolation::Shared => COFFERDAM_ISOLATION_SHARED,
                _ => COFFERDAM_ISOLATION_UNKNOWN,
            },
            refusal: info.refusal.map_or(0, |reason| reason.code()),
            no_device_tlb: info.ats.map_or_else(|reason| reason.code(), |_| 0),
            reserved_with: info.reserved_with.count(),
            source_ids: u16::try_from(ids.len()).unwrap_or(u16::MAX),
            source_id,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MsiXTable {
    pub address: u64,
    pub entries: u32,
}
