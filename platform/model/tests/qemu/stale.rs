//! "What a wrong driver shows": translations that stay because they were not invalidated, or not the right ones.

use cofferdam_model::Reason;

use super::*;

#[test]
fn without_a_flush_after_an_unmap_the_page_stays() {
    for unit in relaxed(false) {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], 0);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(7), vec!["R31"]));
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
        assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::NotReadable);
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn without_a_flush_after_a_remap_the_old_page_stays() {
    for unit in relaxed(false) {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], (OUTPUT + 0x1000) | RW);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(7), vec!["R31"]));
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(0), vec![]));
    }
}

#[test]
fn without_an_iotlb_flush_a_context_change_leaves_old_pages() {
    for unit in relaxed(false) {
        let (mut driver, contexts, _) = mapped(unit);
        driver.publish(contexts + u64::from(DEVICE) * 16, 0);
        driver.submit(&[context_device(DEVICE, DOMAIN)]);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(7), vec!["R24", "R33"]));
        driver.submit(&[iotlb_domain(DOMAIN)]);
        assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::ContextNotPresent);
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn without_a_context_cache_flush_the_old_table_stays() {
    for unit in relaxed(false) {
        let (mut driver, contexts, _) = mapped(unit);
        driver.publish(contexts + u64::from(DEVICE) * 16, 0);
        driver.submit(&[iotlb_domain(DOMAIN)]);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(7), vec!["R33"]));
        driver.submit(&[context_device(DEVICE, DOMAIN), iotlb_domain(DOMAIN)]);
        assert!(driver.reads(INPUT).is_err());
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn a_flush_of_another_domain_id_leaves_the_page() {
    for unit in relaxed(false) {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], 0);
        driver.submit(&[iotlb_domain(DOMAIN + 1), iotlb_pages(DOMAIN + 1, INPUT, 0, true)]);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(7), vec!["R31"]));
        driver.submit(&[iotlb_domain(DOMAIN)]);
        driver.machine.check();
    }
}

/// Stricter: 7.2 compares only 8 bits of the page's number and so drops pages 256 further on, too.
#[test]
fn a_flush_of_another_page_leaves_the_page() {
    for unit in relaxed(false) {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], 0);
        driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x1000, 0, true), iotlb_pages(DOMAIN, INPUT + 0x10_0000, 0, true)]);
        assert_eq!((driver.reads(INPUT), settled(&driver)), (Ok(7), vec!["R31"]));
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
        driver.machine.check();
    }
}

/// Stricter: QEMU denies without a record where the IOTLB knows the page (a trap of its own); the model records it.
#[test]
fn without_a_flush_more_rights_are_denied() {
    for unit in relaxed(false) {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], OUTPUT | 1);
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
        driver.publish(tables[2], OUTPUT | RW);
        let write = || driver.machine.dma_write(device(), cofferdam::addr::Iova::new(INPUT), &[1]);
        assert_eq!(write().unwrap_err().reason, Reason::NotWritable);
        assert_eq!((recorded(&driver), settled(&driver)), (Some(5), vec!["R30"]));
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
        let write = || driver.machine.dma_write(device(), cofferdam::addr::Iova::new(INPUT), &[1]);
        assert_eq!((write(), settled(&driver)), (Ok(()), vec![]));
    }
}
