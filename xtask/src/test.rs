//! `cargo xtask test`: the host tests, then every scenario on every machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Error, Result, bail};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::{
    Booting, Verdict,
    bare_metal::Toolchain,
    build, host,
    matrix::{Machine, Matrix, Scenario},
    process,
    qemu::{Boot, Qemu},
    setup, show,
};

#[derive(clap::Args)]
pub struct Options {
    /// Only this scenario in QEMU, on all its machines.
    #[arg(long, value_name = "NAME", conflicts_with = "host_only")]
    scenario: Option<String>,
    /// Only this machine in QEMU, with all its scenarios.
    #[arg(long, value_name = "NAME", conflicts_with = "host_only")]
    machine: Option<String>,
    /// No QEMU.
    #[arg(long, conflicts_with = "qemu_only")]
    host_only: bool,
    /// No host tests.
    #[arg(long)]
    qemu_only: bool,
    /// Lists the scenarios with their machines, and runs nothing.
    #[arg(long, conflicts_with = "host_only")]
    list: bool,
    /// Writes what came of each boot, as JUnit's XML.
    #[arg(long, value_name = "FILE", conflicts_with = "host_only")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    booting: Booting,
}

/// A scenario on a machine: one test.
struct Job<'a> {
    scenario: &'a Scenario,
    machine: &'a Machine,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let all = jobs(&matrix, None, None)?;
    let jobs = jobs(&matrix, options.scenario.as_deref(), options.machine.as_deref())?;
    if options.list {
        jobs.iter().for_each(|Job { scenario, machine }| println!("{} on {machine}", scenario.name));
        println!("{} boots", jobs.len());
        return Ok(Verdict::Held);
    }
    let mut total = host::Count::default();
    let mut left_out = Vec::new();

    // All that can stop the run comes before the first test.
    let tools = if options.host_only { None } else { Some(ready(options, &jobs)?) };
    if options.qemu_only {
        left_out.push("the host tests".to_owned());
    } else {
        println!("Host tests");
        total.add(host::run()?);
        if setup::lacks_iasl() {
            left_out.push(
                "the comparison of the firmware's tables with iasl, which `cargo xtask setup` installs".to_owned(),
            );
        }
    }
    match tools {
        None => left_out.push(format!("all {} boots in QEMU", all.len())),
        Some(Tools { rust, qemus, no_newer }) => {
            if jobs.len() < all.len() {
                left_out.push(format!("{} of {} boots in QEMU", all.len() - jobs.len(), all.len()));
            }
            let (boots, without) = on(&qemus, jobs);
            let why = no_newer.map(|error| format!(": {error:#}")).unwrap_or_default();
            left_out.extend(
                without
                    .iter()
                    .map(|job| format!("{} on {}, which needs another QEMU{why}", job.scenario.name, job.machine)),
            );
            if boots.is_empty() {
                // Nothing that was to be booted can be.
                total.failed += without.len();
            }
            let versions: Vec<_> = qemus.iter().map(|qemu| qemu.version.as_str()).collect();
            println!("Scenarios in {}", versions.join(" and in "));
            let limit = options.booting.timeout.map_or(matrix.timeout, Duration::from_secs);
            let mut cases = Vec::from_iter(without.iter().map(|job| {
                let mut status = TestCaseStatus::skipped();
                status.set_message("it needs another QEMU");
                TestCase::new(name(job), status)
            }));
            total.add(boot_all(&boots, &rust, limit, &mut cases));
            if let Some(file) = &options.junit {
                write_junit(file, cases)?;
            }
        }
    }
    if total.ignored > 0 {
        let (n, are) = if total.ignored == 1 { ("", "is") } else { ("s", "are") };
        left_out.push(format!("{} host test{n} that {are} marked to be ignored", total.ignored));
    }
    for part in &left_out {
        println!("{} {part}", show::left_out());
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { Verdict::Held } else { Verdict::Failed })
}

/// What builds images, and what boots them.
struct Tools {
    rust: Toolchain,
    /// The oldest first.
    qemus: Vec<Qemu>,
    /// Why there is none for jobs that need a newer one.
    no_newer: Option<Error>,
}

fn ready(options: &Options, jobs: &[Job<'_>]) -> Result<Tools> {
    let setup::Tools { rust, qemu } = setup::ensure(options.booting.qemu.clone())?;
    println!("Rust for bare metal: {rust}");
    let accel = options.booting.accel;
    let qemu = Qemu::new(qemu, accel)?;
    let (newer, no_newer) = match setup::newer(&qemu, jobs.iter().map(|job| (job.scenario, job.machine)), accel) {
        Ok(newer) => (newer, None),
        Err(error) => (None, Some(error)),
    };
    Ok(Tools { rust, qemus: std::iter::once(qemu).chain(newer).collect(), no_newer })
}

/// Each job with the oldest QEMU that suits it, and those that none suits.
fn on<'a, 'q>(qemus: &'q [Qemu], jobs: Vec<Job<'a>>) -> (Vec<(Job<'a>, &'q Qemu)>, Vec<Job<'a>>) {
    let (mut boots, mut without) = (Vec::new(), Vec::new());
    for job in jobs {
        match qemus.iter().find(|qemu| qemu.suits(job.scenario, job.machine)) {
            Some(qemu) => boots.push((job, qemu)),
            None => without.push(job),
        }
    }
    (boots, without)
}

/// The boots that are asked for, in the order of the matrix.
fn jobs<'a>(matrix: &'a Matrix, scenario: Option<&str>, machine: Option<&str>) -> Result<Vec<Job<'a>>> {
    scenario.map_or(Ok(()), |name| matrix.scenario(name).map(drop))?;
    let only = machine.map(|name| matrix.machine(name)).transpose()?;
    let is_wanted = |job: &Job<'_>| {
        scenario.is_none_or(|name| job.scenario.name == name) && only.is_none_or(|only| job.machine == only)
    };
    let jobs = matrix.boots()?.into_iter().map(|(scenario, machine)| Job { scenario, machine });
    let jobs = Vec::from_iter(jobs.filter(is_wanted));
    if jobs.is_empty() {
        bail!("this scenario does not run on this machine; see {}", crate::MATRIX);
    }
    Ok(jobs)
}

/// Boots as many at once as there are CPUs, and prints what came of them in the order of `jobs`.
fn boot_all(jobs: &[(Job<'_>, &Qemu)], rust: &Toolchain, limit: Duration, cases: &mut Vec<TestCase>) -> host::Count {
    let images = match build::images(rust, jobs.iter().map(|(job, _)| job.scenario)) {
        Ok(images) => images,
        Err(error) => {
            println!("{error:#}");
            println!("  {} without images none of the {} boots can be made", show::mark(false), jobs.len());
            cases.extend(jobs.iter().map(|(job, qemu)| {
                let wrong = vec![format!("its image does not build: {error:#}")];
                case(job, qemu, &Boot { wrong, ..Boot::default() })
            }));
            return host::Count { failed: jobs.len(), ..host::Count::default() };
        }
    };
    let next = AtomicUsize::new(0);
    let (done, finished) = mpsc::channel();
    let work = |done: mpsc::Sender<(usize, Boot)>| {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some((job, qemu)) = jobs.get(index)
            && let Some(image) = images.get(job.scenario.bin())
        {
            let _ = done.send((index, qemu.boot(job.scenario, job.machine, image, limit)));
        }
    };
    let mut count = host::Count::default();
    let spinner = process::spinner(&format!("Booting {} machines", jobs.len()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(jobs.len()) {
            let done = done.clone();
            scope.spawn(|| work(done));
        }
        drop(done);
        let mut waiting = BTreeMap::new();
        for (index, boot) in finished {
            waiting.insert(index, boot);
            spinner.set_message(format!("{} of {} boots", count.passed + count.failed, jobs.len()));
            while let Some(boot) = waiting.remove(&(count.passed + count.failed))
                && let Some((job, qemu)) = jobs.get(count.passed + count.failed)
            {
                spinner.suspend(|| tell(job, qemu, &boot));
                cases.push(case(job, qemu, &boot));
                if boot.wrong.is_empty() { count.passed += 1 } else { count.failed += 1 }
            }
        }
    });
    spinner.finish_and_clear();
    // A worker that died has left boots undone.
    count.failed += jobs.len() - count.passed - count.failed;
    count
}

fn tell(job: &Job<'_>, qemu: &Qemu, boot: &Boot) {
    let Job { scenario, machine } = job;
    let ok = boot.wrong.is_empty();
    let (name, number, took) = (&scenario.name, qemu.number(), boot.took.as_secs_f32());
    println!("  {} {name} on {machine}, QEMU {}.{}, {took:.2} s", show::mark(ok), number.major, number.minor);
    if !ok {
        print!("{}", show::failure(boot));
    }
}

/// What came of a boot, for JUnit.
fn case(job: &Job<'_>, qemu: &Qemu, boot: &Boot) -> TestCase {
    let status = match boot.wrong.first() {
        None => TestCaseStatus::success(),
        Some(first) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(text(first)).set_description(text(&boot.wrong.join("\n")));
            status
        }
    };
    let mut case = TestCase::new(name(job), status);
    let log = boot.lines.iter().map(|line| format!("{}\n", line.text)).collect::<String>();
    case.set_classname(qemu.version.clone()).set_time(boot.took).set_system_out(text(&log));
    case
}

fn name(job: &Job<'_>) -> String {
    format!("{} on {}", job.scenario.name, job.machine)
}

/// A text without the two characters that XML cannot hold, and that the crate lets through (XML 1.0, section 2.2).
fn text(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// # Errors
///
/// The file cannot be written.
fn write_junit(file: &Path, cases: Vec<TestCase>) -> Result<()> {
    let mut suite = TestSuite::new("scenarios");
    suite.add_test_cases(cases);
    let mut report = Report::new("cofferdam");
    report.add_test_suite(suite);
    let name = file.display();
    std::fs::write(file, report.to_string()?).with_context(|| format!("cannot write {name}"))?;
    println!("{name}: what came of each boot");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_can_be_picked_by_scenario_and_by_machine() {
        let matrix = crate::matrix().unwrap();
        let picked = |scenario, machine| jobs(&matrix, scenario, machine).map(|jobs| jobs.len());
        let all = picked(None, None).unwrap();
        assert!(picked(Some("main_job"), None).unwrap() > 16);
        assert_eq!(picked(Some("main_job"), Some("switch")).unwrap(), 1);
        assert_eq!(picked(Some("main_job"), Some("aw39-6G")).unwrap(), 1);
        assert!(all > 16 && picked(None, Some("aw39-6G")).unwrap() < all);
    }

    #[test]
    fn whatever_a_guest_prints_the_file_for_junit_is_xml() {
        assert_eq!(text("a\u{fffe}\u{ffff}<\u{fffd}"), "a\u{fffd}\u{fffd}<\u{fffd}");
    }

    #[test]
    fn picking_nothing_is_an_error() {
        let matrix = crate::matrix().unwrap();
        for (scenario, machine, says) in [
            (Some("nothing"), None, "there are main_job"),
            (None, Some("nothing"), "there are aw39-256M"),
            (Some("refuse_no_dmar"), Some("aw39-6G"), "does not run on this machine"),
        ] {
            let error = jobs(&matrix, scenario, machine).map(|jobs| jobs.len()).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
