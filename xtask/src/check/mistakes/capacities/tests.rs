//! Each capacity that is too small is found, and the next larger one is enough.

use cofferdam::topology::NoConfigSpace;

use crate::check::mistakes::tests::{GOOD, mistakes_on};

#[test]
fn each_capacity_is_held_against_what_it_is_for() {
    let routed = GOOD.replace(
        "name = \"left\"",
        "name = \"left\"\ncpus = [2]\ninterrupts = [{ device = \"0000:00:03.0\", vector = 40, cpu = 2 }]",
    );
    for (name, count, what) in [
        ("units", 1, "units in firmware's table: 1"),
        ("scopes", 4, "device scopes in firmware's table: 4"),
        ("reserved", 2, "pieces of reserved memory in firmware's table: 2"),
        ("cells", 3, "cells: 3"),
        ("devices", 4, "devices in all cells: 4"),
        ("interrupts", 1, "interrupts in all cells: 1"),
        // Three pieces are taken from the middle of its second region.
        ("root_regions", 5, "regions in the root cell root once others have theirs: 5"),
    ] {
        let with = |room: usize| mistakes_on(&format!("limits = {{ {name} = {room} }}\n{routed}"), &NoConfigSpace);
        let says =
            format!("{what}, and there is room for {} (limits.{name}, which Limits has to have as well)", count - 1);
        assert_eq!(with(count - 1), [says]);
        assert_eq!(with(count), [""; 0], "{name}");
    }
    let with = |room: usize| mistakes_on(&format!("limits = {{ regions = {room} }}\n{routed}"), &NoConfigSpace);
    assert_eq!((with(1).len(), with(2).len()), (2, 0));
}

#[test]
fn without_limits_the_defaults_are_meant() {
    let cells = (0..17).map(|number| format!("[[cell]]\nname = \"{number}\"\n")).collect::<String>();
    let says = "cells: 17, and there is room for 16 (limits.cells, which Limits has to have as well)";
    assert_eq!(mistakes_on(&cells, &NoConfigSpace), [says]);
}
