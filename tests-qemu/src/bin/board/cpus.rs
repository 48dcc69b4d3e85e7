//! The CPUs: which of those that firmware lists run, and whether they have one time.

use cofferdam_pc::{Cpus, Pc, println};
use cofferdam_tests_qemu::Verdict;

/// Starts the CPUs, prints which run, and says what of them limits the board. They halt afterwards.
pub(crate) fn look_at_all(pc: &'static Pc, verdict: &mut Verdict) {
    let (is_x2apic, is_invariant) = (pc.x2apic_is_on(), pc.tsc_is_invariant());
    println!("\nCPUs:");
    println!("  local APICs as firmware has left them: {} mode", if is_x2apic { "x2APIC" } else { "xAPIC" });
    println!("  time-stamp counter: {}", if is_invariant { "invariant" } else { "not known to be invariant" });
    if !is_invariant {
        verdict.limit(format_args!(
            "the CPU does not say that its time-stamp counter is invariant: a clock made of it may go slower where a CPU saves power \
             (switch power states off in set-up, or give the platform another clock)"
        ));
    }
    let mut silent = 0_u32;
    let started = pc.start_cpus_that_answer(is_x2apic, &mut |id| {
        println!("  CPU with the APIC id {id}: does not start");
        silent += 1;
    });
    match started {
        Err(error) => verdict.limit(format_args!("{error}: whether the other CPUs run is not known")),
        Ok(cpus) => {
            let running = cpus.ids().count();
            let listed = pc.listed_cpus().filter(|id| !cpus.ids().any(|running| running == *id)).count() + running;
            println!("  {running} of the {listed} that firmware lists run, with the APIC ids:");
            cpus.ids().for_each(|id| println!("    {id}"));
            if running != listed {
                verdict.limit(format_args!(
                    "CPUs that firmware lists, and that were not started: {}; {silent} of them do not answer",
                    listed - running
                ));
            }
            compare(&cpus, verdict);
        }
    }
}

/// Compares the time-stamp counters of all CPUs with that of the first.
fn compare(cpus: &Cpus, verdict: &mut Verdict) {
    let (mut worst, mut mute) = (None, 0_u32);
    // How many differ for sure, and by how much at most.
    let (mut apart, mut apart_ns) = (0_u32, 0);
    for id in cpus.ids().skip(1) {
        match cpus.tsc_skew(id) {
            None => mute += 1,
            Some(skew) => {
                if skew.is_sure() {
                    (apart, apart_ns) = (apart + 1, apart_ns.max(skew.most_ns()));
                }
                worst = worst.into_iter().chain([(id, skew)]).max_by_key(|(_, skew)| skew.most_ns());
            }
        }
    }
    if let Some((id, skew)) = worst {
        println!(
            "  time-stamp counters: at most {} ns from the first CPU's, which is that of the CPU with the APIC id {id}; it was {} ns from \
             the middle of a question and its answer, which took {} ns",
            skew.most_ns(),
            skew.skew_ns,
            skew.round_trip_ns
        );
        if apart != 0 {
            verdict.limit(format_args!(
                "CPUs whose time-stamp counter differs from the first one's: {apart}, by up to {apart_ns} ns; deadlines that one CPU sets \
                 are early or late on another (give the platform a clock that all have in common)"
            ));
        }
    }
    if mute != 0 {
        verdict.limit(format_args!("CPUs that run, and whose time-stamp counter could not be compared: {mute}"));
    }
}
