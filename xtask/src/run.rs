//! `cargo xtask run`: the main job on two machines, and what happened in plain words.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use console::style;

use crate::{
    Booting, Verdict, build,
    qemu::{Boot, Qemu},
    setup, show,
};

#[derive(clap::Args)]
pub struct Options {
    /// What is to be booted instead of the main job.
    what: Option<What>,
    /// The whole serial log too.
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    booting: Booting,
}

/// What else can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The example in C, with its log.
    C,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let (scenario, machines) = match options.what {
        Some(What::C) => {
            let scenario = matrix.scenario("c")?;
            (scenario, matrix.machines_of(scenario)?.into_iter().take(1).collect())
        }
        None => {
            let machines = matrix.run.machines.iter().map(|name| matrix.machine(name));
            (matrix.scenario(&matrix.run.scenario)?, machines.collect::<Result<Vec<_>>>()?)
        }
    };
    let limit = options.booting.timeout.map_or(matrix.timeout, Duration::from_secs);

    let tools = setup::ensure(options.booting.qemu.clone())?;
    let qemu = Qemu::new(tools.qemu, options.booting.accel)?;
    println!("Rust for bare metal: {}", tools.rust);
    println!("{}", qemu.version);

    let building = Instant::now();
    let image = build::images(&tools.rust, [scenario])?.remove(scenario.bin()).context("cargo built no image")?;
    println!("Built in {:.2} s", building.elapsed().as_secs_f32());

    let mut boots: Vec<Boot> = Vec::new();
    for machine in machines {
        let boot = qemu.boot(scenario, machine, &image, limit);
        println!("\n{}", style(format!("Machine {machine}: {}", machine.words())).bold());
        print!("{}", boots.first().map_or_else(|| whole(&boot), |first| difference(first, &boot)));
        print!("{}{}", show::counts(&boot), show::times(&boot));
        if options.verbose || scenario.c {
            print!("  serial log:\n{}", show::log(boot.lines.iter()));
        }
        if !boot.wrong.is_empty() {
            print!("  {}\n{}", show::mark(false), show::failure(&boot));
        }
        boots.push(boot);
    }
    println!("\n{}", verdict(&boots));
    Ok(if boots.iter().all(|boot| boot.wrong.is_empty()) { Verdict::Held } else { Verdict::Failed })
}

/// All that a boot told.
fn whole(boot: &Boot) -> String {
    let expectations = show::expectations(boot).iter().map(|expectation| format!("{expectation}\n")).collect();
    [show::units(boot), show::cells(boot), show::reach(boot), expectations].concat()
}

/// What a boot told otherwise than the first one; its unit always.
fn difference(first: &Boot, boot: &Boot) -> String {
    let mut text = show::units(boot);
    for (what, tell) in [("cells", show::cells as fn(&Boot) -> String), ("reach of the devices", show::reach)] {
        if tell(first) == tell(boot) {
            text += &format!("  {what}: as on the first machine\n");
        } else {
            text += &tell(boot);
        }
    }
    let (before, now) = (show::expectations(first), show::expectations(boot));
    let same =
        |one: &show::Expectation<'_>, other: &show::Expectation<'_>| (one.what, one.ok) == (other.what, other.ok);
    let (known, new): (Vec<&show::Expectation<'_>>, Vec<_>) =
        now.iter().partition(|now| now.ok && before.iter().any(|before| same(now, before)));
    let s = if known.len() == 1 { "" } else { "s" };
    text += &format!("  {} {} expectation{s} as on the first machine\n", show::mark(true), known.len());
    text.extend(new.iter().map(|expectation| format!("{expectation}\n")));
    let gone = before.iter().filter(|before| !now.iter().any(|now| now.what == before.what));
    text.extend(gone.map(|before| format!("  not expected here: {}\n", before.what)));
    text
}

fn verdict(boots: &[Boot]) -> String {
    let expected = || boots.iter().flat_map(show::expectations);
    let (all, held) = (expected().count(), expected().filter(|expectation| expectation.ok).count());
    let failed = boots.iter().filter(|boot| !boot.wrong.is_empty()).count();
    match failed {
        0 => style(format!("All {all} expectations held on {} machines.", boots.len())).green().to_string(),
        _ => {
            let text = format!("FAILED on {failed} of {} machines: {held} of {all} expectations held.", boots.len());
            style(text).red().bold().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_report::Record;

    use super::*;

    fn boot(expectations: &[(&str, bool)], cell: &str) -> Boot {
        let mut boot = Boot::default();
        let expect = |(what, ok): &(&str, bool)| Record::Expect { what: (*what).into(), ok: *ok, seen: String::new() };
        let cell = Record::Cell { name: cell.into(), input: 0, output: 0, bytes: 4096, coherency: String::new() };
        boot.records.all = std::iter::once(cell).chain(expectations.iter().map(expect)).collect();
        boot
    }

    #[test]
    fn the_second_machine_shows_only_what_differs() {
        let first = boot(&[("a", true), ("b", true), ("only there", true)], "left");
        let told = difference(&first, &boot(&[("a", true), ("b", true), ("only here", true)], "left"));
        assert!(told.contains("2 expectations as on the first machine") && told.contains("ok     only here"), "{told}");
        assert!(told.contains("cells: as on the first") && told.contains("not expected here: only there"), "{told}");
        assert!(!told.contains(" a\n") && !told.contains(" b\n"), "{told}");
    }

    #[test]
    fn what_failed_is_shown_on_both_machines() {
        let failed = boot(&[("a", false)], "left");
        assert!(difference(&failed, &failed).contains("FAILED a"));
        assert!(difference(&failed, &boot(&[("a", true)], "right")).contains("cell right"));
    }

    #[test]
    fn the_verdict_counts_machines_and_expectations() {
        let good = boot(&[("a", true), ("b", true)], "");
        let mut bad = boot(&[("a", false)], "");
        bad.wrong.push("a".into());
        assert_eq!(
            console::strip_ansi_codes(&verdict(&[boot(&[("c", true)], ""), good])),
            "All 3 expectations held on 2 machines."
        );
        assert!(verdict(&[bad]).contains("FAILED on 1 of 1 machines: 0 of 1 expectations held."));
    }
}
