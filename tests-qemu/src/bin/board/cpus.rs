//! The CPUs: which of those that firmware lists run, and whether they have one time.

use cofferdam_pc::{Cpus, Pc, TscSkew, println};
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
    let (mut worst, mut apart, mut mute) = (None::<(u32, TscSkew)>, 0_u32, 0_u32);
    for id in cpus.ids().skip(1) {
        match cpus.tsc_skew(id) {
            None => mute += 1,
            Some(skew) => {
                apart += u32::from(skew.is_sure());
                worst = worst.into_iter().chain([(id, skew)]).max_by_key(|(_, skew)| skew.skew_ns);
            }
        }
    }
    if let Some((id, TscSkew { skew_ns, round_trip_ns })) = worst {
        println!(
            "  time-stamp counters: at most {skew_ns} ns from the first CPU's, which is that of the CPU with the APIC id {id}; seen in \
             {round_trip_ns} ns there and back"
        );
        if apart != 0 {
            verdict.limit(format_args!(
                "CPUs whose time-stamp counter differs from the first one's: {apart}, by up to {skew_ns} ns; deadlines that one CPU sets \
                 are early or late on another (give the platform a clock that all have in common)"
            ));
        }
    }
    if mute != 0 {
        verdict.limit(format_args!("CPUs that run, and whose time-stamp counter could not be compared: {mute}"));
    }
}
