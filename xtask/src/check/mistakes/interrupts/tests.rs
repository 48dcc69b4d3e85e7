//! Each mistake with CPUs, vectors and routes is found, by the table alone.

use cofferdam::topology::NoConfigSpace;

use crate::check::mistakes::tests::{GOOD, mistakes_on};

/// The good one, with interrupts of two cells.
fn routed() -> String {
    let left = "name = \"left\"\ncpus = [2, 3]\nvectors = [[32, 63]]\n\
                interrupts = [{ device = \"0000:00:03.0\", vector = 40, cpu = 2 }, { device = \"0000:00:03.0\", message = 1, vector = 41, cpu = 3 }]";
    let right = "name = \"right\"\ncpus = [3, 4]\nvectors = [[64, 95], [200, 255]]";
    GOOD.replace("name = \"left\"", left).replace("name = \"right\"", right)
}

#[test]
fn a_good_one_has_none() {
    assert_eq!(mistakes_on(&routed(), &NoConfigSpace), [""; 0]);
}

#[test]
fn each_mistake_is_found_with_its_place() {
    for (from, to, says) in [
        (
            "vectors = [[64, 95], [200, 255]]",
            "",
            "cell right: cell left has CPU 3, too, with some of the vectors 0 to 255; each needs its own",
        ),
        (
            "[64, 95]",
            "[63, 95]",
            "cell right: cell left has CPU 3, too, with some of the vectors 63 to 95; each needs its own",
        ),
        ("[64, 95]", "[95, 64]", "cell right: vectors 95 to 64 are none; there are 16 to 255"),
        ("vectors = [[32, 63]]", "vectors = [[15, 63]]", "cell left: vectors 15 to 63 are none; there are 16 to 255"),
        ("cpus = [3, 4]", "cpus = [4, 4]", "cell right: a CPU is there twice"),
        (
            "cpus = [3, 4]",
            "cpus = [0, 12, 14, 16, 18, 20, 22, 24, 26]",
            "cell right: its CPUs are 9 ranges of ids, and a set has 8 at most",
        ),
        (
            "device = \"0000:00:03.0\", vector",
            "device = \"0000:01:00.0\", vector",
            "cell left, interrupt 1: 0000:01:00.0 is no device of the cell",
        ),
        (
            "vector = 40",
            "vector = 64",
            "cell left, interrupt 1: vector 64 is none of the cell's, which are among 16 to 255",
        ),
        (
            "vector = 40",
            "vector = 15",
            "cell left, interrupt 1: vector 15 is none of the cell's, which are among 16 to 255",
        ),
        ("vector = 40, cpu = 2", "vector = 40, cpu = 4", "cell left, interrupt 1: CPU 4 is none of the cell's (cpus)"),
        ("message = 1", "message = 0", "cell left, interrupt 2: message 0 of 0000:00:03.0 is there twice"),
    ] {
        assert_eq!(routed().matches(from).count(), 1, "{from}");
        assert_eq!(mistakes_on(&routed().replace(from, to), &NoConfigSpace), [says], "{to}");
    }
}
