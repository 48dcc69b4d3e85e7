//! The descriptor of posted interrupts (S 9.11). 64 bytes, aligned to that.
//!
//! | bits | field |
//! |---|---|
//! | 319:288 | NDST, notification destination: an APIC id, in 303:296 without extended interrupt mode |
//! | 279:272 | NV, notification vector |
//! | 257 | SN, suppress notification |
//! | 256 | ON, outstanding notification |
//! | 255:0 | PIR, posted-interrupt requests: a bit for each vector |
//!
//! All other bits are 0.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use crate::interrupt::Destination;

const ON: u64 = 1;
const SN: u64 = 1 << 1;

/// The descriptor in which a unit records interrupts for one virtual CPU, and which that CPU takes them from if its VMCS names it
/// (VT-d 5.10, section 9.11; SDM 3C, section 30.6). The hypervisor has it in write-back memory that it keeps for itself
/// ([`Hal::own_memory`](crate::hal::Hal::own_memory)), and hands it over by its physical address, as a
/// [`Posting`](crate::interrupt::Posting).
///
/// Units, the CPU and this type's methods change it by atomic accesses, so each method may be called at any time, on any CPU, in an
/// NMI too, and waits for nothing but the cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct PostedDescriptor {
    requests: [AtomicU64; 4],
    control: AtomicU64,
    reserved: [AtomicU64; 3],
}

impl PostedDescriptor {
    /// Without requests. Notices go there: with the vector that the virtual CPU's VMCS has for them while it runs there, with
    /// another one while it waits. `x2apic`: the CPUs are in x2APIC mode.
    pub const fn new(to: Destination, x2apic: bool) -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; 4],
            control: AtomicU64::new(notice(to, x2apic)),
            reserved: [const { AtomicU64::new(0) }; 3],
        }
    }

    /// Has notices go there from now on; suppressed or not, as before. What is recorded meanwhile is notified of to the old place or
    /// the new one, and what was recorded before may have had its notice there: whoever moves a virtual CPU looks what
    /// [is pending](Self::is_pending).
    pub fn notify(&self, to: Destination, x2apic: bool) {
        let notice = notice(to, x2apic);
        let _ = self
            .control
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |control| Some(control & (ON | SN) | notice));
    }

    /// Has notices of what is not urgent be left out from now on: while its virtual CPU is ready to run, and does not.
    pub fn suppress(&self) {
        self.control.fetch_or(SN, Ordering::AcqRel);
    }

    /// Has notices sent again of what is recorded from now on. True if something [is pending](Self::is_pending), which nobody may have been
    /// notified of.
    #[must_use = "nobody else looks what was recorded without a notice"]
    pub fn resume(&self) -> bool {
        self.control.fetch_and(!SN, Ordering::AcqRel);
        self.is_pending()
    }

    /// True if something was recorded that nobody has taken.
    pub fn is_pending(&self) -> bool {
        self.requests.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }

    /// Records an interrupt of the hypervisor's own, as a unit does (VT-d 5.10, section 5.2.3). True if the caller has to send the notice:
    /// the vector that it has, to the CPU that it has.
    #[must_use = "nobody else sends the notice"]
    pub fn post(&self, vector: u8, urgent: bool) -> bool {
        if let Some(word) = self.requests.get(usize::from(vector / 64)) {
            word.fetch_or(1 << (vector % 64), Ordering::AcqRel);
        }
        let notifies = |control: u64| (control & ON == 0 && (urgent || control & SN == 0)).then_some(control | ON);
        self.control.fetch_update(Ordering::AcqRel, Ordering::Acquire, notifies).is_ok()
    }

    /// Takes what was recorded: a bit for each vector, the lowest 64 first. What is recorded from now on is notified of again.
    pub fn take(&self) -> [u64; 4] {
        // The other way about, what comes between would be left without a notice.
        self.control.fetch_and(!ON, Ordering::AcqRel);
        self.requests.each_ref().map(|word| word.swap(0, Ordering::AcqRel))
    }

    /// Where notices go.
    pub fn notice(&self, x2apic: bool) -> Destination {
        let control = self.control.load(Ordering::Acquire);
        let apic_id = if x2apic { (control >> 32) as u32 } else { (control >> 40) as u32 & 0xff };
        Destination { apic_id, vector: (control >> 16) as u8 }
    }
}

/// NDST and NV.
const fn notice(to: Destination, x2apic: bool) -> u64 {
    let id = if x2apic { (to.apic_id as u64) << 32 } else { (to.apic_id as u64 & 0xff) << 40 };
    id | (to.vector as u64) << 16
}

#[cfg(test)]
mod tests {
    use core::mem::{align_of, offset_of, size_of};

    use super::*;

    const TO: Destination = Destination { apic_id: 0x1234_5678, vector: 0xf2 };

    fn words(descriptor: &PostedDescriptor) -> [u64; 5] {
        let [a, b, c, d] = descriptor.requests.each_ref().map(|word| word.load(Ordering::Relaxed));
        [a, b, c, d, descriptor.control.load(Ordering::Relaxed)]
    }

    #[test]
    fn it_is_as_hardware_has_it() {
        assert_eq!((size_of::<PostedDescriptor>(), align_of::<PostedDescriptor>()), (64, 64));
        assert_eq!(offset_of!(PostedDescriptor, control), 32);
        let descriptor = PostedDescriptor::new(TO, true);
        assert_eq!(words(&descriptor), [0, 0, 0, 0, 0x1234_5678_00f2_0000]);
        assert_eq!(descriptor.notice(true), TO);
        let narrow = Destination { apic_id: 0x12, ..TO };
        assert_eq!(words(&PostedDescriptor::new(narrow, false)), [0, 0, 0, 0, 0x1200_00f2_0000]);
        descriptor.notify(narrow, false);
        assert_eq!(words(&descriptor), [0, 0, 0, 0, 0x1200_00f2_0000]);
        assert_eq!(descriptor.notice(false), narrow);
        assert_eq!(words(&PostedDescriptor::new(TO, false)), [0, 0, 0, 0, 0x7800_00f2_0000], "no reserved bit");
    }

    #[test]
    fn what_is_recorded_is_notified_of_once() {
        let descriptor = PostedDescriptor::new(Destination { apic_id: 1, vector: 0xf2 }, false);
        assert!(!descriptor.is_pending());
        assert!(descriptor.post(0x41, false) && !descriptor.post(0xff, false) && !descriptor.post(0x41, true));
        assert_eq!(words(&descriptor), [0, 2, 0, 1 << 63, 0x100_00f2_0001]);
        descriptor.notify(Destination { apic_id: 2, vector: 0xf3 }, false);
        assert_eq!(words(&descriptor)[4], 0x200_00f3_0001, "a notice is outstanding as before");
        assert!(descriptor.is_pending());
        assert_eq!(descriptor.take(), [0, 2, 0, 1 << 63]);
        assert_eq!(words(&descriptor), [0, 0, 0, 0, 0x200_00f3_0000]);
        assert!(!descriptor.is_pending());
    }

    #[test]
    fn who_lets_notices_be_sent_again_learns_what_had_none() {
        let descriptor = PostedDescriptor::new(Destination { apic_id: 1, vector: 0xf2 }, false);
        descriptor.suppress();
        assert!(!descriptor.resume());
        descriptor.suppress();
        descriptor.notify(Destination { apic_id: 1, vector: 0xf3 }, false);
        assert!(!descriptor.post(16, false));
        assert_eq!(words(&descriptor), [1 << 16, 0, 0, 0, 0x100_00f3_0002], "suppressed, also after it moved");
        assert!(descriptor.resume());
        assert_eq!(words(&descriptor), [1 << 16, 0, 0, 0, 0x100_00f3_0000]);
        descriptor.suppress();
        assert!(descriptor.post(16, true), "it is urgent");
        assert_eq!(words(&descriptor), [1 << 16, 0, 0, 0, 0x100_00f3_0003]);
    }
}
