//! The CPUs: the others are started, and all of them take interrupts and count them.

mod exchange;

use core::arch::naked_asm;
use core::hint;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use cofferdam::hal::Hal;
use spin::Once;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts;

use crate::acpi::{Madt, cpu_ids};
use crate::apic::{FIXED, INIT, LocalApic, START_UP, mask_legacy};
use crate::boot::{CPU_PAGE, cpu_code};
use crate::{BootError, Pc, exceptions};

pub use self::exchange::TscSkew;

/// How many CPUs are used.
const MOST: usize = 256;
/// So many that do not start are waited for.
const MOST_SILENT: u32 = 4;
const STACK_BYTES: u64 = 1 << 16;
/// Vectors of this module: the lowest of all, so that a CPU takes them after all else, and one that says that there is work.
const LAST: u8 = 0x20;
const WORK: u8 = 0x21;
/// A CPU that takes longer does not answer. The host may be busy.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What is known of a CPU.
struct Cpu {
    id: AtomicU32,
    taken: [AtomicU32; 256],
    work: SpinMutex<Option<fn()>>,
}

static CPUS: [Cpu; MOST] =
    [const { Cpu { id: AtomicU32::new(0), taken: [const { AtomicU32::new(0) }; 256], work: SpinMutex::new(None) } };
        MOST];
/// How many run; a CPU has its number in [`CPUS`] from this.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static APIC: Once<LocalApic> = Once::new();
/// The end of the stack of the CPU that starts next.
pub(crate) static STACK: AtomicU64 = AtomicU64::new(0);

/// The CPUs of a PC, all of which take interrupts and count them.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    pc: &'static Pc,
    apic: &'static LocalApic,
}

impl Pc {
    /// Starts the other CPUs, as the MADT lists them, and lets this one take interrupts, too. All are in x2APIC mode then, or in
    /// xAPIC mode. Called once.
    ///
    /// # Errors
    ///
    /// There is no list of CPUs, no page for them to start in, or one of them does not start.
    pub fn start_cpus(&'static self, x2apic: bool) -> Result<Cpus, BootError> {
        let mut silent = None;
        let cpus = self.start_cpus_that_answer(x2apic, &mut |id| _ = silent.get_or_insert(id))?;
        if let Some(id) = silent {
            return Err(BootError::CpuSilent { id });
        }
        interrupts::enable();
        Ok(cpus)
    }

    /// The same, but this CPU takes no interrupts yet, and `silent` is called for each of the others that does not start: it is as after a
    /// reset then, or has an id that is out of the reach of local APICs in xAPIC mode. After four that do not start, no more is tried.
    ///
    /// # Errors
    ///
    /// There is no list of CPUs, or no page for them to start in.
    pub fn start_cpus_that_answer(&'static self, x2apic: bool, silent: &mut dyn FnMut(u32)) -> Result<Cpus, BootError> {
        let madt = self.table::<Madt>().ok().flatten().ok_or(BootError::NoCpus)?;
        let apic = self.local_apic(x2apic).ok_or(BootError::NoCpus)?;
        let apic = APIC.call_once(|| apic);
        mask_legacy();
        apic.switch_on();
        let own = apic.id();
        enlist(own);
        let first = self.cpu_page().ok_or(BootError::NoCpuPage { at: CPU_PAGE.into() })?;
        let code = cpu_code();
        // SAFETY: the code is shorter than the page, which is nobody else's memory.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), first, code.len()) };
        let cpus = Cpus { pc: self, apic };
        let mut waited_for = 0;
        // One that runs must not be reset.
        for id in cpu_ids(madt) {
            if cpus.ids().any(|running| running == id) {
                continue;
            }
            if !apic.reaches(id) {
                silent(id);
            } else if cpus.ids().count() == MOST || waited_for == MOST_SILENT {
                break;
            } else if self.start_cpu(apic, id).is_none() {
                // It must not start later, when another has its stack.
                apic.send(id, INIT);
                silent(id);
                waited_for += 1;
            }
        }
        Ok(cpus)
    }

    /// The APIC ids of the CPUs that firmware lists as there and enabled, each once.
    pub fn listed_cpus(&self) -> impl Iterator<Item = u32> {
        cpu_ids(self.table::<Madt>().ok().flatten().unwrap_or_default())
    }

    /// INIT, 10 ms, and the page to start at, twice (SDM 3A, section 9.4.4.1).
    fn start_cpu(&self, apic: &LocalApic, id: u32) -> Option<()> {
        let stack = self.allocate_block(STACK_BYTES, 16)?;
        STACK.store(stack.base().as_u64() + STACK_BYTES, Ordering::Release);
        let before = RUNNING.load(Ordering::Acquire);
        let runs = || RUNNING.load(Ordering::Acquire) > before;
        apic.send(id, INIT);
        self.delay_ns(10_000_000);
        for _ in 0..2 {
            apic.send(id, START_UP | CPU_PAGE >> 12);
            self.delay_ns(200_000);
        }
        self.wait_at_most(PATIENCE_NS, runs).then_some(())
    }

    fn wait_at_most(&self, ns: u64, is_so: impl Fn() -> bool) -> bool {
        let end = self.now_ns().saturating_add(ns);
        while !is_so() && self.now_ns() < end {
            hint::spin_loop();
        }
        is_so()
    }
}

impl Cpus {
    fn all() -> impl Iterator<Item = &'static Cpu> {
        CPUS.iter().take(RUNNING.load(Ordering::Acquire))
    }

    /// Their APIC ids, that of the first CPU first.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        Self::all().map(|cpu| cpu.id.load(Ordering::Relaxed))
    }

    /// How many interrupts with this vector the CPU with this APIC id has taken.
    pub fn taken(&self, id: u32, vector: u8) -> u32 {
        let of_cpu = |cpu: &&Cpu| cpu.id.load(Ordering::Relaxed) == id;
        Self::all().find(of_cpu).map_or(0, |cpu| count(cpu, vector).load(Ordering::Acquire))
    }

    /// How many interrupts all CPUs have taken, of whichever vector from 0x30 on.
    pub fn taken_by_all(&self) -> u32 {
        let taken = |cpu: &Cpu| cpu.taken.iter().skip(0x30).map(|count| count.load(Ordering::Acquire)).sum::<u32>();
        Self::all().map(taken).sum()
    }

    /// Waits until each CPU has taken all that was sent to it. False if one does not answer.
    pub fn settle(&self) -> bool {
        Self::all().all(|cpu| {
            let last = count(cpu, LAST);
            let before = last.load(Ordering::Acquire);
            self.apic.send(cpu.id.load(Ordering::Relaxed), FIXED | u32::from(LAST));
            self.wait_for(|| last.load(Ordering::Acquire) != before)
        })
    }

    /// Waits until this is so. False if it takes seconds.
    pub fn wait_for(&self, is_so: impl Fn() -> bool) -> bool {
        self.wait_at_most(PATIENCE_NS, is_so)
    }

    /// Waits until this is so, for so many nanoseconds at most. False if it is not so then.
    pub fn wait_at_most(&self, ns: u64, is_so: impl Fn() -> bool) -> bool {
        self.pc.wait_at_most(ns, is_so)
    }

    /// Has the CPU with this APIC id do some work, which is not the one that calls.
    pub fn run(&self, id: u32, work: fn()) {
        if let Some(cpu) = Self::all().find(|cpu| cpu.id.load(Ordering::Relaxed) == id) {
            *cpu.work.lock() = Some(work);
            self.apic.send(id, FIXED | u32::from(WORK));
        }
    }
}

/// The CPU that calls has lost its state, and takes interrupts again if it did before; the others do not run any more.
pub(crate) fn wake() {
    exceptions::load();
    RUNNING.fetch_min(1, Ordering::AcqRel);
    if let Some(apic) = APIC.get() {
        mask_legacy();
        apic.switch_on();
        interrupts::enable();
    }
}

fn count(cpu: &Cpu, vector: u8) -> &AtomicU32 {
    // As many counters as vectors.
    cpu.taken.get(usize::from(vector)).unwrap_or(&cpu.id)
}

/// Notes that the CPU that calls runs.
fn enlist(id: u32) -> Option<&'static Cpu> {
    let number = RUNNING.load(Ordering::Acquire);
    let cpu = CPUS.get(number)?;
    cpu.id.store(id, Ordering::Relaxed);
    RUNNING.store(number + 1, Ordering::Release);
    Some(cpu)
}

/// Called by `cpu_long` on a stack of its own: takes interrupts, and does the work that there is.
pub(crate) extern "C" fn run() -> ! {
    exceptions::load();
    if let Some(apic) = APIC.get() {
        apic.switch_on();
        if let Some(cpu) = enlist(apic.id()) {
            loop {
                interrupts::disable();
                let work = cpu.work.lock().take();
                match work {
                    Some(work) => {
                        interrupts::enable();
                        work();
                    }
                    None => interrupts::enable_and_hlt(),
                }
            }
        }
    }
    loop {
        x86_64::instructions::hlt();
    }
}

/// What all vectors of interrupts lead to. Saves what a call may change.
#[unsafe(naked)]
pub(crate) extern "C" fn interrupt() -> ! {
    naked_asm!(
        "push rax", "push rcx", "push rdx", "push rsi", "push rdi", "push r8", "push r9", "push r10", "push r11",
        "cld",
        "call {take}",
        "pop r11", "pop r10", "pop r9", "pop r8", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rax",
        "iretq",
        take = sym take,
    )
}

extern "C" fn take() {
    let Some(apic) = APIC.get() else { return };
    let Some(vector) = apic.in_service() else { return };
    let id = apic.id();
    if let Some(cpu) = Cpus::all().find(|cpu| cpu.id.load(Ordering::Relaxed) == id) {
        count(cpu, vector).fetch_add(1, Ordering::Release);
    }
    apic.end();
}
