//! `bench` on a cargo that only pretends to measure.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const PEERS: [&str; 4] = ["x86_64", "page_table_multiarch", "page_table_generic", "aarch64_paging"];
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn fake(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A repository that holds a lock file, what the benchmarks are to say, and a PATH with these programs beside a shell's.
struct Repository(TempDir);

impl Repository {
    fn new(programs: &[&str]) -> Self {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("benches")).unwrap();
        fs::create_dir_all(at("bin")).unwrap();
        for real in ["sh", "cat", "mkdir", "chmod", "env"] {
            symlink(Path::new("/bin").join(real), at("bin").join(real)).unwrap();
        }
        for program in programs {
            symlink("/bin/true", at("bin").join(program)).unwrap();
        }
        fs::write(at("Cargo.lock"), "[[package]]\nname = \"gungraun-runner\"\nversion = \"0.20.7\"\n").unwrap();
        fs::write(at("times"), times()).unwrap();
        fs::write(at("counts"), counts()).unwrap();
        Self(root)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }

    /// Status, stdout and stderr of `bench`.
    fn bench(&self, args: &[&str], cargo: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("bench").args(args).env_clear().env("PATH", self.0.path().join("bin")).env("NO_COLOR", "1");
        command.env("CARGO", fake("fake-cargo.sh")).env("CARGO_MANIFEST_DIR", self.0.path().join("xtask"));
        command.env("FAKE_BENCH", self.0.path()).env("FAKE_CARGO", cargo);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

/// A line for each work by each contender, all of which take 5 µs.
fn times() -> String {
    let mut text = String::from("{\"kind\":\"place\",\"pinned\":true}\n{\"kind\":\"batch\",\"registers\":1}\n");
    let mut time = |work: &str, contender: &str, bytes: u64| {
        let ns = "\"low\":4950.0,\"median\":5000.0,\"high\":5050.0";
        let line =
            format!("\"kind\":\"time\",\"work\":\"{work}\",\"contender\":\"{contender}\",\"bytes\":{bytes},{ns}");
        writeln!(text, "{{{line}}}").unwrap();
    };
    let works = [
        ("map_page", 256 * MIB),
        ("map_page_alike", 256 * MIB),
        ("unmap_page", 256 * MIB),
        ("map_4k", GIB),
        ("unmap_4k", GIB),
    ];
    let large = [MIB, GIB, 64 * GIB, 512 * GIB, 1024 * GIB].map(|bytes| [("map_2m", bytes), ("unmap_2m", bytes)]);
    for (work, bytes) in works.into_iter().chain(large.into_iter().flatten()).chain([("unmap_sparse", 512 * GIB)]) {
        PEERS.iter().chain(&["cofferdam", "stores"]).for_each(|contender| time(work, contender, bytes));
    }
    for (work, bytes) in [("map_page", 16 * MIB), ("map_4k", GIB), ("unmap_4k", GIB)] {
        ["cofferdam_unsnooped", "stores_unsnooped"].iter().for_each(|contender| time(work, contender, bytes));
    }
    ["batch", "cell", "carve", "route"].iter().for_each(|work| time(work, "cofferdam", 0));
    for (work, doorbells) in [("cell", 3), ("carve", 3), ("route", 1)] {
        let cost = "\"waits\":1,\"registers\":1,\"frames\":5,\"frames_at_most\":5,\"frames_left\":0";
        writeln!(text, "{{\"kind\":\"cost\",\"work\":\"{work}\",\"doorbells\":{doorbells},{cost}}}").unwrap();
    }
    for (kind, units, threads) in [("edit", 1, 1), ("edit", 8, 1), ("wait", 1, 1), ("wait", 1, 4)] {
        let ns = 12.0 / f64::from(threads);
        let times = format!("\"low\":{ns},\"median\":{ns},\"high\":{ns}");
        writeln!(text, "{{\"kind\":\"{kind}\",\"units\":{units},\"threads\":{threads},{times}}}").unwrap();
    }
    text
}

/// A line for each work by each contender, all of which take 200 instructions.
fn counts() -> String {
    let mut text = String::new();
    for work in [
        "map_page",
        "map_page_alike",
        "unmap_page",
        "map_4k",
        "unmap_4k",
        "map_2m",
        "unmap_2m",
        "batch",
        "cell",
        "carve",
        "route",
    ] {
        for contender in PEERS.iter().chain(&["cofferdam", "cofferdam_v1", "stores"]) {
            let metrics = "{\"data\":{\"total\":{\"metrics\":{\"Ir\":{\"values\":{\"new\":200}}}}}}";
            let line = format!("\"function_name\":\"{work}\",\"id\":\"{contender}\",\"profiles\":[{metrics}]");
            writeln!(text, "{{{line}}}").unwrap();
        }
    }
    text
}

#[test]
fn what_holds_and_what_does_not_is_shown_and_written() {
    let repository = Repository::new(&["valgrind"]);
    let (code, out, err) = repository.bench(&["--record"], "good");
    assert_eq!(code, Some(1), "{out}{err}");
    let doorbells = out.lines().find(|line| line.contains("create the cell and destroy it: doorbells")).unwrap();
    assert!(doorbells.contains("MISSES"), "{doorbells}");
    assert_eq!(out.matches("MISSES").count(), 1, "{out}");
    assert!(out.contains("within 1.0 % of their median") && out.ends_with("bars hold, 1 do not\n"), "{out}");
    let record = repository.read("benches/RESULTS.md");
    assert!(record.contains("Written by `cargo xtask bench --record`.") && record.contains("| 3 | 2 | MISSES | 12 |"));
    assert!(repository.read("benches/scaling.svg").starts_with("<svg "));
}

#[test]
fn nothing_is_written_unasked_and_the_runner_is_installed_once() {
    let repository = Repository::new(&["valgrind"]);
    for _ in 0..2 {
        assert_eq!(repository.bench(&["--quick"], "good").0, Some(1));
    }
    let log = repository.read("log");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.starts_with("install gungraun-runner --locked --version =0.20.7 --root "), "{log}");
    assert_eq!(repository.read("benches/RESULTS.md"), "");
}

#[test]
fn what_cannot_be_measured_ends_with_2() {
    let (code, _, err) = Repository::new(&["valgrind"]).bench(&[], "no_build");
    assert!(code == Some(2) && err.contains("error: expected one of these"), "{err}");
    let (code, _, err) = Repository::new(&[]).bench(&[], "good");
    assert!(code == Some(2) && err.contains("no apt-get; install valgrind by its own means"), "{err}");
    for (file, says) in [("times", "a line that says nothing: oh"), ("counts", "a line that says nothing: oh")] {
        let repository = Repository::new(&["valgrind"]);
        fs::write(repository.0.path().join(file), "oh\n").unwrap();
        let (code, _, err) = repository.bench(&["--record"], "good");
        assert!(code == Some(2) && err.contains(says), "{err}");
        assert_eq!(repository.read("benches/RESULTS.md"), "");
    }
    let repository = Repository::new(&["valgrind"]);
    fs::write(repository.0.path().join("counts"), "").unwrap();
    let (code, _, err) = repository.bench(&[], "good");
    assert!(code == Some(2) && err.contains("not measured"), "{err}");
}
