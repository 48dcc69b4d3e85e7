//! `tests-qemu/matrix.toml`: the machines, and what is booted on them.

use std::{collections::BTreeSet, fmt, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{judge::Expected, spcr::SerialAt, trace::Script};

/// The whole file, checked: each name that it mentions exists, and none is there twice.
#[derive(Debug)]
pub struct Matrix {
    pub timeout: Duration,
    /// Those of the axes, then those that have a name of their own.
    pub machines: Vec<Machine>,
    pub scenarios: Vec<Scenario>,
    pub run: Run,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    timeout_s: u64,
    devices: Vec<String>,
    axes: Axes,
    #[serde(default)]
    machine: Vec<Named>,
    run: Run,
    scenario: Vec<Scenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Axes {
    aw_bits: Vec<u8>,
    snoop_control: Vec<bool>,
    caching_mode: Vec<bool>,
    memory_mib: Vec<u64>,
}

/// A machine that is described by what it has otherwise than one of the axes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    like: String,
    devices: Option<Vec<String>>,
    iommu_options: Option<String>,
    cpus: Option<String>,
    since_qemu: Option<u32>,
    until_qemu: Option<u32>,
    #[serde(default)]
    by_name_only: bool,
}

/// A machine with one remapping unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    pub aw_bits: u8,
    pub snoop_control: bool,
    pub caching_mode: bool,
    pub memory_mib: u64,
    /// QEMU's `-device` arguments: DMA engines, and what they are behind.
    pub devices: Vec<String>,
    /// More options of `-device intel-iommu`.
    pub iommu_options: Option<String>,
    /// QEMU's `-smp` argument, whatever a scenario has.
    pub cpus: Option<String>,
    /// It needs a QEMU of this major version, or a newer one.
    pub since_qemu: Option<u32>,
    /// It needs a QEMU of this major version, or an older one.
    pub until_qemu: Option<u32>,
    /// Only a scenario that names it runs on it.
    by_name_only: bool,
}

/// What `cargo xtask run` shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub scenario: String,
    pub machines: Vec<String>,
}

/// A bin of `tests-qemu`, and what is special about the machine it runs on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    bin: Option<String>,
    /// It is the example in C, and says in plain lines what it found.
    #[serde(default)]
    pub c: bool,
    /// It is the client outside of the workspace.
    #[serde(default)]
    pub outside: bool,
    /// The machines it runs on; if left out, every one but those that want to be named.
    machines: Option<Vec<String>>,
    pub cmdline: Option<String>,
    pub memory_mib: Option<u64>,
    /// QEMU's `-smp` argument, where there is more than one CPU.
    pub cpus: Option<String>,
    /// Its CPUs run at the same time, and time is the host's.
    #[serde(default)]
    pub real_time: bool,
    /// It needs a QEMU of this major version, or a newer one.
    pub since_qemu: Option<u32>,
    #[serde(default = "yes")]
    pub iommu: bool,
    /// More options of `-machine`.
    pub machine_options: Option<String>,
    /// More options of `-cpu`.
    pub cpu_options: Option<String>,
    /// More options of `-device intel-iommu`.
    pub iommu_options: Option<String>,
    #[serde(default)]
    pub more_devices: Vec<String>,
    /// Where its serial port is, if it is not at COM1.
    pub serial: Option<SerialAt>,
    /// The driver has to refuse the machine with a message that holds these words.
    refused: Option<Vec<String>>,
    /// The guest has to crash, with a report of which a line holds these words.
    crashed: Option<Vec<String>>,
    /// The file, beside the matrix, of what its calls have to leave in QEMU's trace.
    trace: Option<String>,
    /// What that file holds.
    #[serde(skip)]
    pub script: Option<Script>,
}

fn yes() -> bool {
    true
}

impl Matrix {
    /// Reads and checks the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, holds something unknown, a name twice, or a name of nothing.
    pub fn read(path: &Path) -> Result<Matrix> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut matrix = Matrix::parse(&text).with_context(|| format!("{} is wrong", path.display()))?;
        for scenario in &mut matrix.scenarios {
            scenario.script =
                scenario.trace.as_ref().map(|file| Script::read(&path.with_file_name(file))).transpose()?;
        }
        Ok(matrix)
    }

    fn parse(text: &str) -> Result<Matrix> {
        let File { timeout_s, devices, axes, machine: named, run, scenario: scenarios } = toml::from_str(text)?;
        let machines = axes.machines(&devices);
        // Each name that another machine is described by is one machine's.
        all_differ("machine", machines.iter().map(|machine| machine.name.clone()))?;
        let mut matrix = Matrix { timeout: Duration::from_secs(timeout_s), machines, scenarios, run };
        for named in named {
            let name = named.name.clone();
            let machine = named.machine(&matrix).with_context(|| format!("machine {name}"))?;
            matrix.machines.push(machine);
        }
        all_differ("machine", matrix.machines.iter().map(|machine| machine.name.clone()))?;
        all_differ("scenario", matrix.scenarios.iter().map(|scenario| scenario.name.clone()))?;
        for scenario in &matrix.scenarios {
            matrix.machines_of(scenario).with_context(|| format!("scenario {}", scenario.name))?;
            let both = scenario.refused.is_some() && scenario.crashed.is_some();
            ensure!(!both, "scenario {} cannot both be refused and crash", scenario.name);
        }
        matrix.scenario(&matrix.run.scenario)?;
        ensure!(!matrix.run.machines.is_empty(), "[run] names no machine");
        matrix.run.machines.iter().try_for_each(|name| matrix.machine(name).map(drop))?;
        Ok(matrix)
    }

    /// The machine of this name.
    ///
    /// # Errors
    ///
    /// There is none; the error lists those that are.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.with_context(|| format!("there is no machine {name}; there are {}", list(&self.machines)))
    }

    /// The scenario of this name.
    ///
    /// # Errors
    ///
    /// There is none; the error lists those that are.
    pub fn scenario(&self, name: &str) -> Result<&Scenario> {
        let found = self.scenarios.iter().find(|scenario| scenario.name == name);
        let names = || list(self.scenarios.iter().map(|scenario| &scenario.name));
        found.with_context(|| format!("there is no scenario {name}; there are {}", names()))
    }

    /// Every boot, in the order of the file.
    ///
    /// # Errors
    ///
    /// As for [`machines_of`](Self::machines_of).
    pub fn boots(&self) -> Result<Vec<(&Scenario, &Machine)>> {
        let mut boots = Vec::new();
        for scenario in &self.scenarios {
            boots.extend(self.machines_of(scenario)?.into_iter().map(|machine| (scenario, machine)));
        }
        Ok(boots)
    }

    /// The machines that a scenario runs on.
    ///
    /// # Errors
    ///
    /// It names one that does not exist, one twice, or none at all.
    pub fn machines_of(&self, scenario: &Scenario) -> Result<Vec<&Machine>> {
        let Some(names) = &scenario.machines else {
            return Ok(self.machines.iter().filter(|machine| !machine.by_name_only).collect());
        };
        ensure!(!names.is_empty(), "it names no machine");
        all_differ("machine", names.iter().cloned())?;
        names.iter().map(|name| self.machine(name)).collect()
    }
}

impl Scenario {
    pub fn bin(&self) -> &str {
        self.bin.as_deref().unwrap_or(&self.name)
    }

    /// True if it is neither to crash nor to be refused.
    pub fn is_to_succeed(&self) -> bool {
        matches!(self.expected(), Expected::Success)
    }

    /// What it has to come to.
    pub fn expected(&self) -> Expected<'_> {
        match (&self.refused, &self.crashed) {
            (Some(words), _) => Expected::Refusal(words),
            (None, Some(words)) => Expected::Crash(words),
            (None, None) => Expected::Success,
        }
    }
}

impl Axes {
    /// Every combination.
    fn machines(&self, devices: &[String]) -> Vec<Machine> {
        let mut machines = Vec::new();
        for &memory_mib in &self.memory_mib {
            for &aw_bits in &self.aw_bits {
                for &snoop_control in &self.snoop_control {
                    for &caching_mode in &self.caching_mode {
                        let unit = (aw_bits, snoop_control, caching_mode);
                        machines.push(Machine::of_axes(unit, memory_mib, devices.to_vec()));
                    }
                }
            }
        }
        machines
    }
}

impl Named {
    /// # Errors
    ///
    /// It is like no machine, or no more than another name for it.
    fn machine(self, matrix: &Matrix) -> Result<Machine> {
        let Named { name, like, devices, iommu_options, cpus, since_qemu, until_qemu, by_name_only } = self;
        let like = matrix.machine(&like)?;
        ensure!(devices.is_some() || iommu_options.is_some() || cpus.is_some(), "it has nothing of its own");
        let devices = devices.unwrap_or_else(|| like.devices.clone());
        Ok(Machine { name, devices, iommu_options, cpus, since_qemu, until_qemu, by_name_only, ..like.clone() })
    }
}

impl Machine {
    /// One of the axes, called after its values.
    fn of_axes(unit: (u8, bool, bool), memory_mib: u64, devices: Vec<String>) -> Machine {
        let (aw_bits, snoop_control, caching_mode) = unit;
        let snoop = if snoop_control { "-snoop" } else { "" };
        let caching = if caching_mode { "-cm" } else { "" };
        let memory =
            if memory_mib.is_multiple_of(1024) { format!("{}G", memory_mib / 1024) } else { format!("{memory_mib}M") };
        Machine {
            name: format!("aw{aw_bits}{snoop}{caching}-{memory}"),
            aw_bits,
            snoop_control,
            caching_mode,
            memory_mib,
            devices,
            iommu_options: None,
            cpus: None,
            since_qemu: None,
            until_qemu: None,
            by_name_only: false,
        }
    }

    /// What it is like, in words.
    pub fn words(&self) -> String {
        let Machine { aw_bits, snoop_control, caching_mode, memory_mib, .. } = self;
        let on = |on: &bool| if *on { "on" } else { "off" };
        let (snoop, caching) = (on(snoop_control), on(caching_mode));
        format!("{memory_mib} MiB, {aw_bits} address bits, snoop control {snoop}, caching mode {caching}")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn list<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

fn all_differ(kind: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            bail!("{kind} {name} is there twice");
        }
        seen.insert(name);
    }
    ensure!(!seen.is_empty(), "there is no {kind}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = include_str!("../../tests-qemu/matrix.toml");

    #[test]
    fn the_real_matrix_covers_what_it_promises() {
        let matrix = Matrix::parse(REAL).unwrap();
        let (axes, named) = matrix.machines.split_at(16);
        assert!(axes.iter().all(|machine| machine.name.starts_with("aw")), "{axes:?}");
        assert!(named.iter().all(|machine| !machine.name.starts_with("aw")), "{named:?}");
        let main = matrix.machines_of(matrix.scenario("main_job").unwrap()).unwrap();
        let all = matrix.machines.iter().filter(|machine| !machine.by_name_only);
        assert_eq!(main, Vec::from_iter(all));
        let kinds =
            ["pcie-root-port", "x3130-upstream", "pcie-pci-bridge", "i82801b11-bridge", "pci-bridge", "pxb-pcie"];
        for kind in kinds {
            let has = |machine: &&Machine| machine.devices.iter().any(|it| it.split(',').next() == Some(kind));
            assert!(main.iter().copied().any(|machine| has(&machine)), "{kind}");
        }
        assert!(main.iter().any(|machine| machine.cpus.is_some()) && main.iter().any(|it| it.since_qemu.is_some()));
        // One that nothing would run on.
        let is_used =
            |machine: &Machine| matrix.scenarios.iter().any(|it| matrix.machines_of(it).unwrap().contains(&machine));
        assert!(named.iter().all(is_used));
        let shown: Vec<_> = matrix.run.machines.iter().map(|name| matrix.machine(name).unwrap()).collect();
        assert!(shown.iter().any(|m| m.snoop_control) && shown.iter().any(|m| !m.snoop_control));
    }

    #[test]
    fn a_mistake_in_the_file_is_named() {
        for (from, to, says) in [
            ("cmdline = \"no-dmar\"", "comandline = \"no-dmar\"", "comandline"),
            ("name = \"platform\"", "name = \"main_job\"", "main_job is there twice"),
            ("[\"aw48-256M\", \"aw48-6G\"]", "[\"aw48-257M\"]", "no machine aw48-257M"),
            ("[\"aw48-256M\", \"aw48-6G\"]", "[\"aw48-6G\", \"aw48-6G\"]", "aw48-6G is there twice"),
            ("[\"aw48-256M\", \"aw48-6G\"]", "[]", "names no machine"),
            ("name = \"platform\"", "name = \"platform\"\nrefused = []\ncrashed = []", "cannot both"),
            ("aw_bits = [39, 48]", "aw_bits = []", "there is no machine"),
            ("aw_bits = [39, 48]", "aw_bits = [48, 48]", "is there twice"),
            ("like = \"aw48-256M\"", "like = \"aw47-256M\"", "there is no machine aw47-256M"),
            ("like = \"aw48-256M\"", "like = \"aw48-256M\"\nlikes = 1", "likes"),
            ("name = \"ports\"", "name = \"switch\"", "machine switch is there twice"),
            ("scenario = \"main_job\"", "scenario = \"other\"", "no scenario other"),
        ] {
            assert!(REAL.contains(from), "{from}");
            let error = Matrix::parse(&REAL.replacen(from, to, 1)).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
    }
}
