use cofferdam::firmware::dmar::{self, DeviceScope, Dmar, Flags, Scopes, Structure, TableEntry};
use cofferdam::firmware::ivrs::{Ivrs, IvrsBlock};

use crate::{any, any_mut, show};

pub(super) fn written() {
    let entries: &&[TableEntry] = any();
    show(dmar::write(any_mut::<&mut [u8]>(), *any(), *any::<Flags>(), entries.iter().copied()));
}

pub(super) fn dmar() {
    let Ok(dmar) = Dmar::new(any::<&[u8]>(), show) else { return };
    show((dmar.header(), dmar.host_address_width(), dmar.flags(), dmar.structures_offset()));
    let header = dmar.header();
    show((header.length(), header.oem_revision(), header.creator_revision()));
    dmar.lint(show);
    dmar.sound().for_each(show);
    for structure in dmar.structures() {
        let Ok(structure) = structure else { continue };
        show((structure.number(), structure.offset()));
        match structure {
            Structure::Drhd(it) => {
                show((it.offset(), it.include_all(), it.segment(), it.base(), it.bytes()));
                scopes(it.scopes());
            }
            Structure::Rmrr(it) => {
                show((it.offset(), it.segment(), it.base(), it.limit()));
                scopes(it.scopes());
            }
            Structure::Atsr(it) => {
                show((it.offset(), it.segment(), it.all_ports()));
                scopes(it.scopes());
            }
            Structure::Rhsa(it) => show((it.offset(), it.base(), it.proximity())),
            Structure::Andd(it) => show((it.offset(), it.number(), it.name())),
            Structure::Satc(it) => {
                show((it.offset(), it.segment(), it.required()));
                scopes(it.scopes());
            }
            Structure::Sidp(it) => {
                show((it.offset(), it.segment()));
                scopes(it.scopes());
            }
            other => show(other),
        }
    }
}

fn scopes(scopes: Scopes<'_>) {
    let scope = |scope: DeviceScope<'_>| {
        show((scope.offset(), scope.kind(), scope.properties(), scope.enumeration_id(), scope.start_bus()));
        scope.path().iter().for_each(show);
    };
    scopes.clone().flatten().for_each(scope);
    scopes.sound().for_each(scope);
}

pub(super) fn ivrs() {
    let Ok(ivrs) = Ivrs::new(any::<&[u8]>(), show) else { return };
    let info = ivrs.info();
    show((ivrs.header(), ivrs.blocks_offset(), info.bits(), info.features_told(), info.dma_remap()));
    show((info.physical_width(), info.virtual_width(), info.ats_range_reserved()));
    ivrs.lint(show);
    ivrs.sound().for_each(show);
    for block in ivrs.blocks() {
        let Ok(block) = block else { continue };
        show((block.number(), block.offset()));
        match block {
            IvrsBlock::Ivhd(it) => {
                show((it.offset(), it.kind(), it.flags(), it.device(), it.capability(), it.base(), it.segment()));
                show((it.info(), it.attributes(), it.features(), it.features2(), it.bytes()));
                it.entries().for_each(show);
                it.devices().for_each(show);
            }
            IvrsBlock::Ivmd(it) => {
                show((it.offset(), it.number(), it.flags(), it.devices(), it.segment(), it.start(), it.bytes()));
            }
            other => show(other),
        }
    }
}
