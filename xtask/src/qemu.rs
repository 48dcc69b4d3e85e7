//! QEMU: where it is, the command line of a machine, and one boot of it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use cofferdam_report::Record;

use crate::{
    bare_metal::Version,
    judge::{self, Records},
    matrix::{Machine, Scenario},
    plain,
    process::{self, Line, Streams},
    spcr::SerialAt,
    trace,
};

const NAME: &str = "qemu-system-x86_64";

/// What the guest's instructions run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// QEMU interprets them; works everywhere.
    Tcg,
    /// The CPU itself; needs /dev/kvm.
    Kvm,
}

/// A QEMU that answers, and how it is used.
#[derive(Debug)]
pub struct Qemu {
    path: PathBuf,
    accel: Accel,
    /// Where its libraries and its firmware are, if it is not installed.
    root: Option<PathBuf>,
    /// What it says about itself.
    pub version: String,
}

/// The QEMU that would be used without `--qemu`.
pub fn in_path() -> Option<PathBuf> {
    which::which(NAME).ok()
}

impl Qemu {
    /// Takes the QEMU at `path`.
    ///
    /// # Errors
    ///
    /// It does not run, or `accel` is not to be had.
    pub fn new(path: PathBuf, accel: Accel) -> Result<Qemu> {
        Qemu { path, accel, root: None, version: String::new() }.checked()
    }

    /// Takes the QEMU of packages that were unpacked in `root`.
    ///
    /// # Errors
    ///
    /// As of [`new`](Qemu::new).
    pub fn unpacked(root: PathBuf, accel: Accel) -> Result<Qemu> {
        Qemu { path: root.join("usr/bin").join(NAME), accel, root: Some(root), version: String::new() }.checked()
    }

    fn checked(mut self) -> Result<Qemu> {
        let version = process::answer(self.program().arg("--version"));
        let version = version.with_context(|| format!("{} does not run", self.path.display()))?;
        version.lines().next().unwrap_or_default().clone_into(&mut self.version);
        if self.accel == Accel::Kvm {
            let kvm = File::options().read(true).write(true).open("/dev/kvm");
            kvm.context("--accel kvm needs read and write access to /dev/kvm; use --accel tcg, or get that access")?;
        }
        Ok(self)
    }

    /// Whether it is new enough for a scenario on a machine, and not too new.
    pub fn suits(&self, scenario: &Scenario, machine: &Machine) -> bool {
        let (since, major) = (scenario.since_qemu.max(machine.since_qemu), self.number().major);
        since.is_none_or(|since| major >= since) && machine.until_qemu.is_none_or(|until| major <= until)
    }

    pub fn number(&self) -> Version {
        Version::parse(self.version.strip_prefix("QEMU emulator version ").unwrap_or_default())
    }

    fn program(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(root) = &self.root {
            command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(firmware));
            }
        }
        command
    }

    /// The command that boots `image` on `machine`, as `scenario` changes it.
    pub fn command(&self, scenario: &Scenario, machine: &Machine, image: &Path) -> Command {
        let mut command = self.machine(scenario, machine);
        command.arg("-kernel").arg(image);
        if let Some(cmdline) = &scenario.cmdline {
            command.args(["-append", cmdline]);
        }
        command
    }

    /// The command that starts `machine`, as `scenario` changes it, with nothing to boot.
    pub fn machine(&self, scenario: &Scenario, machine: &Machine) -> Command {
        let mut command = self.program();
        let more = scenario.machine_options.iter().map(|more| format!(",{more}")).collect::<String>();
        match self.accel {
            Accel::Tcg => command.args(["-machine", &format!("q35{more}"), "-accel", "tcg"]),
            // Interrupt remapping under KVM needs the IOAPIC in QEMU.
            Accel::Kvm => command.args(["-machine", &format!("q35,kernel-irqchip=split{more}"), "-accel", "kvm"]),
        };
        if self.accel == Accel::Tcg && !scenario.real_time {
            // Time is counted in instructions and waiting skips it, or each transfer of `edu` would take 100 ms.
            command.args(["-icount", "shift=10,sleep=off"]);
        }
        command.args(["-smp", machine.cpus.as_ref().or(scenario.cpus.as_ref()).map_or("1", String::as_str)]);
        let more = scenario.cpu_options.iter().map(|more| format!(",{more}")).collect::<String>();
        command.args(["-cpu", &format!("max{more}")]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(scenario.serial.map_or_else(|| ["-serial", "stdio"].map(Into::into).into(), SerialAt::options));
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        command.args(["-m", &scenario.memory_mib.unwrap_or(machine.memory_mib).to_string()]);
        if scenario.iommu {
            let Machine { aw_bits, snoop_control, caching_mode, .. } = machine;
            let on = |on: &bool| if *on { "on" } else { "off" };
            let (snoop, caching) = (on(snoop_control), on(caching_mode));
            let more = machine.iommu_options.iter().chain(&scenario.iommu_options);
            let more = more.map(|more| format!(",{more}")).collect::<String>();
            let unit = format!("intel-iommu,aw-bits={aw_bits},snoop-control={snoop},caching-mode={caching}{more}");
            command.args(["-device", &unit]);
        }
        for device in machine.devices.iter().chain(&scenario.more_devices) {
            command.args(["-device", device]);
        }
        if scenario.script.is_some() {
            trace::EVENTS.iter().for_each(|event| _ = command.args(["-trace", event]));
        }
        command
    }

    /// Boots `image` and judges what came of it.
    pub fn boot(&self, scenario: &Scenario, machine: &Machine, image: &Path, limit: Duration) -> Boot {
        if let Some(Err(error)) = scenario.serial.map(SerialAt::write) {
            return Boot { wrong: vec![format!("{error:#}")], ..Boot::default() };
        }
        self.boot_by(self.command(scenario, machine, image), scenario, limit)
    }

    /// Boots by a command and judges what came of it.
    pub fn boot_by(&self, mut command: Command, scenario: &Scenario, limit: Duration) -> Boot {
        let mut boot = Boot { command: process::words(&command), ..Boot::default() };
        let began = std::time::Instant::now();
        let mut traced = Vec::new();
        let ending = process::watch_until(&mut command, Streams::Apart, limit, judge::is_hopeless, |line| {
            if trace::is_event(&line) { traced.push(line) } else { boot.lines.push(line) }
        });
        boot.took = began.elapsed();
        let plain = scenario.c.then(|| plain::as_records(&boot.lines));
        let lines = plain.as_ref().unwrap_or(&boot.lines);
        boot.records = judge::records(lines);
        boot.wrong = match ending {
            Ok(ending) => judge::judge(scenario.expected(), lines, ending),
            Err(error) => vec![format!("{error:#}")],
        };
        boot.wrong
            .extend(judge::is_another(scenario.bin(), &boot.records).filter(|_| !scenario.c && !scenario.outside));
        if let Some(script) = &scenario.script {
            boot.wrong.extend(trace::judge(script, &traced, &boot.records.all));
        }
        boot
    }
}

/// What came of a boot.
#[derive(Debug, Default)]
pub struct Boot {
    /// The command that repeats it.
    pub command: String,
    pub lines: Vec<Line>,
    pub records: Records,
    /// What did not go as expected, in words.
    pub wrong: Vec<String>,
    /// From the start of QEMU to its end.
    pub took: Duration,
}

impl Boot {
    /// From the start of QEMU to the guest's word that it runs.
    pub fn booted_after(&self) -> Option<Duration> {
        let started = |line: &&Line| {
            let record = cofferdam_report::json(&line.text).map(serde_json::from_str::<Record<String>>);
            matches!(record, Some(Ok(Record::Started { .. }))) || plain::is_start(&line.text)
        };
        Some(self.lines.iter().find(started)?.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;

    fn typed(accel: Accel, scenario: &str) -> String {
        typed_on("aw39-snoop-cm-6G", accel, scenario)
    }

    fn typed_on(machine: &str, accel: Accel, scenario: &str) -> String {
        let root = crate::root();
        let matrix = Matrix::read(&root.join(crate::MATRIX)).unwrap();
        let qemu = Qemu { path: "qemu".into(), accel, root: None, version: String::new() };
        let machine = matrix.machine(machine).unwrap();
        process::words(&qemu.command(matrix.scenario(scenario).unwrap(), machine, Path::new("image")))
    }

    #[test]
    fn a_machine_is_what_its_name_says() {
        let all = typed(Accel::Tcg, "main_job");
        assert!(all.contains("intel-iommu,aw-bits=39,snoop-control=on,caching-mode=on "), "{all}");
        assert!(all.contains("-m 6144") && all.contains("sleep=off") && !all.contains("-append"), "{all}");
        assert_eq!(all.matches("-device edu,").count(), 2, "{all}");
    }

    #[test]
    fn a_scenario_changes_its_machine() {
        assert!(!typed(Accel::Tcg, "refuse_no_dmar").contains("intel-iommu"));
        assert!(typed(Accel::Tcg, "refuse_no_dmar").ends_with("-kernel image -append no-dmar"));
        assert!(typed(Accel::Tcg, "refuse_no_translation").contains("caching-mode=on,dma-translation=off "));
        assert!(typed(Accel::Tcg, "refuse_little_memory").contains("-m 96 "));
        assert!(typed(Accel::Tcg, "platform_without_timers").contains("-machine q35,pit=off,hpet=off -accel"));
        assert!(typed(Accel::Tcg, "main_job").contains("-serial stdio"));
        let serial = typed(Accel::Tcg, "board_serial_pci");
        assert!(serial.contains("-device pci-serial,") && !serial.contains("-serial "), "{serial}");
        let interrupts = typed(Accel::Tcg, "interrupts");
        assert!(interrupts.contains("-smp 4") && !interrupts.contains("icount"), "{interrupts}");
    }

    #[test]
    fn a_machine_with_a_name_of_its_own_has_its_own_devices() {
        let all = typed_on("switch", Accel::Tcg, "main_job");
        assert!(all.contains("-device x3130-upstream,id=") && all.contains("-smp 3"), "{all}");
        assert_eq!((all.matches("-device edu").count(), all.matches("-device edu,bus=d0").count()), (2, 1), "{all}");
        let all = typed_on("eim", Accel::Tcg, "main_job");
        assert!(all.contains("caching-mode=off,intremap=on,eim=on "), "{all}");
        assert!(typed_on("many-cpus", Accel::Tcg, "main_job").contains("-smp 8"));
    }

    #[test]
    fn a_scenario_waits_for_a_qemu_that_is_new_enough() {
        let matrix = Matrix::read(&crate::root().join(crate::MATRIX)).unwrap();
        let suits_on = |machine: &str, version: &str, scenario| {
            let version = format!("QEMU emulator version {version} (Debian 1:10.0)");
            let qemu = Qemu { path: "qemu".into(), accel: Accel::Tcg, root: None, version };
            qemu.suits(matrix.scenario(scenario).unwrap(), matrix.machine(machine).unwrap())
        };
        let suits = |version, scenario| suits_on("aw48-256M", version, scenario);
        assert!(suits("7.2.22", "interrupts") && suits("10.0.2", "interrupts"));
        assert!(!suits("7.2.22", "interrupts_x2apic") && !suits("9.2.1", "interrupts_x2apic"));
        assert!(suits("10.0.2", "interrupts_x2apic") && suits("11.1.3", "interrupts_x2apic"));
        assert!(suits("7.2.22", "main_job") && !suits_on("eim", "7.2.22", "main_job"));
        assert!(suits_on("eim", "10.0.2", "main_job"));
        assert!(suits_on("scalable", "7.2.22", "main_job") && !suits_on("scalable", "11.1.3", "main_job"));
    }

    #[test]
    fn a_qemu_that_is_not_installed_has_its_own_libraries_and_firmware() {
        let root = Path::new("/x");
        let qemu = Qemu { path: "/x/q".into(), accel: Accel::Tcg, root: Some(root.into()), version: String::new() };
        let words = process::words(&qemu.program());
        assert_eq!(
            words,
            "LD_LIBRARY_PATH=/x/usr/lib/x86_64-linux-gnu /x/q -L /x/usr/share/qemu -L /x/usr/share/seabios"
        );
    }

    #[test]
    fn what_a_scenario_wants_traced_is_traced() {
        assert!(typed(Accel::Tcg, "trace").contains("-trace vtd_inv_desc -trace vtd_reg_write "));
        assert!(!typed(Accel::Tcg, "main_job").contains("-trace"));
    }

    #[test]
    fn under_kvm_no_instruction_is_counted() {
        let all = typed(Accel::Kvm, "main_job");
        assert!(all.contains("q35,kernel-irqchip=split -accel kvm") && !all.contains("icount"), "{all}");
    }

    #[test]
    fn a_qemu_that_does_not_run_is_refused() {
        assert!(Qemu::new("/nowhere/qemu".into(), Accel::Tcg).is_err());
    }
}
