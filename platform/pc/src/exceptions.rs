//! Exceptions end the run, with a report of what the CPU was doing.

use core::arch::naked_asm;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use cofferdam_report::EXIT_CRASHED;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr2, Cr3};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use crate::{cpus, exit, println, serial};

/// Where in the interrupt stack table the stack for double faults is: a full boot stack is what causes them.
const DOUBLE_FAULT: usize = 0;

/// Bytes that the CPU writes behind the compiler's back.
#[repr(C, align(16))]
struct Stack([u8; 16384]);

static mut STACK: Stack = Stack([0; 16384]);

/// What the stubs leave on the stack, from its top on: their pushes, then the CPU's.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Saves the registers as a [`Frame`] and reports it.
#[unsafe(naked)]
extern "C" fn common() -> ! {
    naked_asm!(
        "push rax", "push rbx", "push rcx", "push rdx", "push rsi", "push rdi", "push rbp",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "cld",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {report}",
        report = sym report,
    )
}

/// One stub a vector, and a function that enters them all: `code` where the CPU pushes an error code.
macro_rules! vectors {
    ($($vector:literal $name:ident $field:ident $($code:ident)?;)*) => {
        $(
            #[unsafe(naked)]
            extern "C" fn $field() -> ! {
                naked_asm!(
                    vectors!(@code $($code)?),
                    "push {vector}",
                    "jmp {common}",
                    vector = const $vector,
                    common = sym common,
                )
            }
        )*

        fn table() -> InterruptDescriptorTable {
            let mut idt = InterruptDescriptorTable::new();
            $(
                let stub = VirtAddr::from_ptr($field as *const ());
                // SAFETY: the stub takes the stack as the CPU leaves it for this vector, and does not return.
                unsafe { idt.$field.set_handler_addr(stub) };
            )*
            idt
        }

        fn name(vector: u64) -> &'static str {
            match vector {
                $($vector => stringify!($name),)*
                _ => "unknown",
            }
        }
    };
    (@code code) => { "" };
    (@code) => { "push 0" };
}

vectors! {
    0 DE divide_error;
    1 DB debug;
    2 NMI non_maskable_interrupt;
    3 BP breakpoint;
    4 OF overflow;
    5 BR bound_range_exceeded;
    6 UD invalid_opcode;
    7 NM device_not_available;
    8 DF double_fault code;
    10 TS invalid_tss code;
    11 NP segment_not_present code;
    12 SS stack_segment_fault code;
    13 GP general_protection_fault code;
    14 PF page_fault code;
    16 MF x87_floating_point;
    17 AC alignment_check code;
    18 MC machine_check;
    19 XM simd_floating_point;
    20 VE virtualization;
    21 CP cp_protection_exception code;
    29 VC vmm_communication_exception code;
    30 SX security_exception code;
}

static GDT: Once<GlobalDescriptorTable> = Once::new();
static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Loads the tables on another CPU, after [`init`]. It has no task state segment, so a double fault resets the machine.
pub(crate) fn load() {
    if let (Some(gdt), Some(idt)) = (GDT.get(), IDT.get()) {
        gdt.load();
        idt.load();
    }
}

/// The unmapped memory below the boot stack.
static GUARD: Once<Range<u64>> = Once::new();

/// Loads the tables. Called once, before anything can go wrong; `guard` is the unmapped memory below the boot stack.
pub(crate) fn init(guard: Range<u64>) {
    GUARD.call_once(|| guard);
    static TSS: Once<TaskStateSegment> = Once::new();
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        tss.interrupt_stack_table[DOUBLE_FAULT] = VirtAddr::from_ptr((&raw const STACK).wrapping_add(1));
        tss
    });
    let (mut code, mut task) = (SegmentSelector::NULL, SegmentSelector::NULL);
    let gdt = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        code = gdt.append(Descriptor::kernel_code_segment());
        task = gdt.append(Descriptor::tss_segment(tss));
        gdt
    });
    gdt.load();
    // SAFETY: this is the code segment of the table that has just been loaded, and it is flat as the one before.
    unsafe { CS::set_reg(code) };
    // SAFETY: this is the only use of that task state segment, which is static.
    unsafe { load_tss(task) };
    IDT.call_once(|| {
        let mut idt = table();
        for vector in 32..=255 {
            // SAFETY: the stub takes the stack as the CPU leaves it for an interrupt, and returns by `iretq`.
            unsafe { idt[vector].set_handler_addr(VirtAddr::from_ptr(cpus::interrupt as *const ())) };
        }
        let stub = idt.double_fault.handler_addr();
        // SAFETY: the stub is the one that `table` found right for this vector.
        let options = unsafe { idt.double_fault.set_handler_addr(stub) };
        // SAFETY: the stack is in the table, and used for nothing else.
        unsafe { options.set_stack_index(DOUBLE_FAULT as u16) };
        idt
    })
    .load();
}

/// Prints what happened and ends the run. An exception while it prints ends the run without another word.
extern "C" fn report(frame: &Frame) -> ! {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    if REPORTING.swap(true, Ordering::Relaxed) {
        exit(EXIT_CRASHED);
    }
    serial::break_lock();
    let Frame { vector, error_code, rip, cs, rflags, rsp, ss, .. } = *frame;
    let (cr2, (cr3, _)) = (Cr2::read_raw(), Cr3::read());
    println!("\nexception {vector} (#{}), error code {error_code:#x}", name(vector));
    if GUARD.get().is_some_and(|guard| guard.contains(&cr2)) {
        println!("the boot stack is full: {cr2:#x} is in its guard page");
    }
    println!("rip {rip:016x}  cs {cs:04x}  rflags {rflags:08x}  rsp {rsp:016x}  ss {ss:04x}");
    println!("cr2 {cr2:016x}  cr3 {:016x}", cr3.start_address().as_u64());
    println!("rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}", frame.rax, frame.rbx, frame.rcx, frame.rdx);
    println!("rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}", frame.rsi, frame.rdi, frame.rbp, frame.r8);
    println!("r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}", frame.r9, frame.r10, frame.r11, frame.r12);
    println!("r13 {:016x}  r14 {:016x}  r15 {:016x}", frame.r13, frame.r14, frame.r15);
    exit(EXIT_CRASHED)
}
