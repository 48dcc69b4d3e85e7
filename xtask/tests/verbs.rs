//! The verbs as a whole, on a cargo and a QEMU that only pretend.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Told {
    fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    #[track_caller]
    fn has(&self, words: &[&str]) {
        for word in words {
            assert!(self.out.contains(word), "{word} is not in\n{}\n{}", self.out, self.err);
        }
    }
}

fn fake(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// `xtask` in a repository that holds a matrix and nothing else, with a toolchain whose library is there too.
fn command(args: &[&str], guest: &str, cargo: &str, root: &TempDir) -> Command {
    std::fs::create_dir(root.path().join("tests-qemu")).unwrap();
    std::fs::copy(fake("fake-matrix.toml"), root.path().join("tests-qemu/matrix.toml")).unwrap();
    std::fs::write(root.path().join("libcore-0123.rlib"), []).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("CARGO", fake("fake-cargo.sh")).env("RUSTC", fake("fake-cargo.sh"));
    command.env("FAKE_GUEST", guest).env("FAKE_CARGO", cargo).env("FAKE_LIBDIR", root.path()).env("NO_COLOR", "1");
    command.env("CARGO_MANIFEST_DIR", root.path().join("xtask"));
    command.arg("--qemu").arg(fake("fake-qemu.sh"));
    command
}

fn xtask(args: &[&str], guest: &str, cargo: &str) -> Told {
    let root = TempDir::new().unwrap();
    let output = command(args, guest, cargo, &root).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn run_shows_both_machines_and_holds() {
    let told = xtask(&["run"], "good", "good");
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    told.has(&[
        "Machine aw48-snoop-256M",
        "unit at 0xfed90000, segment 0: 48 bits, queue",
        "cell left: 16 MiB at 0x4000000, seen by its devices at 0x0; snoops",
        "read write",
        "ok     a device reaches its own cell [0x1234]",
        "driver: 45 descriptors, 10 of them waits, 11 doorbells, 14 table frames",
        "Machine aw48-256M",
        "1 expectation as on the first machine",
        "not expected here: the cell is coherent",
    ]);
    assert_eq!(told.out.matches("a device reaches its own cell").count(), 1);
    assert_eq!(told.last_line(), "All 3 expectations held on 2 machines.");
    assert!(!told.out.contains("the log of a guest"));
}

#[test]
fn test_lists_what_it_would_boot() {
    let told = xtask(&["test", "--list", "--scenario", "main_job"], "good", "no_build");
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    told.has(&["main_job on aw48-256M\n"]);
    assert!(told.last_line().ends_with(" boots"), "{}", told.out);
}

#[test]
fn what_came_of_each_boot_is_written_for_junit() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("boots.xml");
    let path = file.to_str().unwrap();
    for (guest, code, says) in [("good", 0, "failures=\"0\""), ("broken", 1, "a device stays out; seen: it wrote 0x55")]
    {
        let told = xtask(&["test", "--qemu-only", "--scenario", "main_job", "--junit", path], guest, "good");
        assert_eq!(told.code, Some(code), "{}{}", told.out, told.err);
        let xml = std::fs::read_to_string(&file).unwrap();
        assert!(xml.contains(says) && xml.contains("name=\"main_job on aw48-256M\""), "{xml}");
    }
}

#[test]
fn run_shows_the_log_when_asked() {
    let told = xtask(&["run", "--verbose"], "good", "good");
    told.has(&["the log of a guest", "| @cofferdam \"Finished\""]);
}

#[test]
fn run_fails_with_what_failed() {
    for (guest, says) in [
        ("broken", "expected: a device stays out; seen: it wrote 0x55"),
        ("crash", "panicked at the disco"),
        ("no_start", "QEMU said first: qemu: no such device"),
        ("torn", "a torn record: @cofferdam {\"Expect\":{\"wh"),
    ] {
        let told = xtask(&["run"], guest, "good");
        assert_eq!(told.code, Some(1), "{guest}");
        told.has(&[says, "to repeat it: "]);
        assert!(told.last_line().starts_with("FAILED on 2 of 2 machines"), "{}", told.last_line());
    }
}

#[test]
fn a_guest_that_hangs_is_ended() {
    let began = Instant::now();
    let told = xtask(&["run", "--timeout", "1"], "hang", "good");
    assert_eq!(told.code, Some(1));
    told.has(&["hung: no end after 1 s, killed"]);
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_image_that_does_not_build_is_shown() {
    let told = xtask(&["run"], "good", "no_build");
    assert_eq!(told.code, Some(2));
    assert!(told.err.contains("error: expected one of these"), "{}", told.err);
    let told = xtask(&["test", "--qemu-only"], "good", "no_build");
    assert_eq!((told.code, told.last_line()), (Some(1), "0 passed, 6 failed"));
    told.has(&["error: expected one of these"]);
}

#[test]
fn test_counts_host_tests_and_boots() {
    let told = xtask(&["test"], "good", "good");
    assert_eq!((told.code, told.last_line()), (Some(0), "11 passed, 0 failed"), "{}{}", told.out, told.err);
    told.has(&[
        "cofferdam, src/lib.rs: 3 passed, 1 ignored",
        "cofferdam, doctests: 2 passed",
        "main_job on aw39-snoop-256M",
    ]);
    told.has(&["LEFT OUT: 1 host test that is marked to be ignored"]);
    let boots: Vec<_> = told.out.lines().filter(|line| line.contains("main_job on ")).collect();
    assert_eq!(boots.len(), 4);
    assert!(boots[0].contains("aw39-256M") && boots[3].contains("aw48-snoop-256M"), "{boots:?}");
}

#[test]
fn results_come_in_order_whatever_ends_first() {
    let told = xtask(&["test", "--qemu-only"], "slow_first", "good");
    let boots: Vec<_> = told.out.lines().filter(|line| line.contains("main_job on ")).collect();
    assert_eq!(boots.len(), 4);
    assert!(boots[0].starts_with("  FAILED main_job on aw39-256M"), "{boots:?}");
    assert!(boots[1].starts_with("  ok     main_job on aw39-snoop-256M"), "{boots:?}");
    assert_eq!(told.last_line(), "5 passed, 1 failed");
}

#[test]
fn flags_of_the_shell_do_not_reach_the_image() {
    let root = TempDir::new().unwrap();
    let status = command(&["run"], "good", "good", &root).env("RUSTFLAGS", "-Dwarnings").output().unwrap().status;
    assert_eq!(status.code(), Some(0));
}

#[test]
fn test_fails_when_one_thing_fails() {
    for (guest, cargo, last, says) in [
        ("broken", "good", "7 passed, 4 failed", "seen: it wrote 0x55"),
        ("good", "bad_test", "10 passed, 1 failed", "left is not right"),
        ("good", "no_test", "6 passed, 1 failed", "error: expected one of those"),
        ("good", "abort", "6 passed, 1 failed", "SIGABRT"),
    ] {
        let told = xtask(&["test"], guest, cargo);
        assert_eq!((told.code, told.last_line()), (Some(1), last), "{cargo}\n{}", told.out);
        told.has(&[says]);
    }
}

#[test]
fn what_is_left_out_is_said() {
    let told = xtask(&["test", "--host-only"], "good", "good");
    told.has(&["LEFT OUT: all 6 boots in QEMU"]);
    assert_eq!(told.last_line(), "5 passed, 0 failed");
    let told = xtask(&["test", "--qemu-only", "--scenario", "main_job", "--machine", "aw39-256M"], "good", "good");
    told.has(&["LEFT OUT: the host tests", "LEFT OUT: 5 of 6 boots in QEMU"]);
    assert_eq!(told.last_line(), "1 passed, 0 failed");
}

#[test]
fn what_cannot_run_ends_with_2_and_says_what_to_do() {
    for (args, says) in [
        (&["test", "--scenario", "nothing"][..], "there is no scenario nothing; there are main_job"),
        (&["test", "--host-only", "--qemu-only"], "cannot be used with"),
        (&["run", "--timeout", "0"], "0 is not in 1..=86400"),
    ] {
        let told = xtask(args, "good", "good");
        assert_eq!(told.code, Some(2), "{args:?}");
        assert!(told.err.contains(says), "{}", told.err);
    }
}

#[test]
fn no_guest_outlives_xtask() {
    let root = TempDir::new().unwrap();
    let mut command = command(&["run", "--verbose"], "hang", "good", &root);
    // The fake becomes `sleep`, whose environment names this directory: so it can be told from any other.
    let mut xtask = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let wait_until = |wanted: bool| {
        while guests(root.path()) != wanted {
            assert!(Instant::now() < deadline, "guest running: {}", !wanted);
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait_until(true);
    xtask.kill().unwrap();
    xtask.wait().unwrap();
    wait_until(false);
}

/// Whether a `sleep` runs that was started with this directory in its environment.
fn guests(root: &Path) -> bool {
    let read = |entry: &Path, file| std::fs::read(entry.join(file)).unwrap_or_default();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.into_iter().any(|process| {
        let environment = read(&process, "environ");
        let ours = environment.windows(root.as_os_str().len()).any(|part| part == root.as_os_str().as_encoded_bytes());
        ours && read(&process, "cmdline").starts_with(b"sleep")
    })
}
