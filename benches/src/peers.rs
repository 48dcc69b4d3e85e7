//! The peers: other crates that edit page tables, each over the same pool.
//!
//! Those that leave the entry to their user get VT-d's; the others write x86-64's or AArch64's own, of the same size.

mod aarch64_paging;
mod page_table_generic;
mod page_table_multiarch;
mod x86_64;

pub use aarch64_paging::Aarch64Paging;
pub use page_table_generic::PageTableGeneric;
pub use page_table_multiarch::PageTableMultiarch;
pub use x86_64::X86_64;

/// VT-d's second-stage entry (VT-d 5.10, section 9.8).
mod entry {
    pub(super) const RIGHTS: u64 = 0b11;
    pub(super) const LARGE: u64 = 1 << 7;
    pub(super) const SNOOP: u64 = 1 << 11;
    pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}
