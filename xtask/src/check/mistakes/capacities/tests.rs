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
fn interrupts_are_held_against_tables_that_there_can_be() {
    let route = |message| format!("{{ device = \"0000:00:03.0\", message = {message}, vector = 40, cpu = 2 }}, ");
    let routes = (0..65).map(route).collect::<String>();
    let routed = GOOD.replace("name = \"left\"", &format!("name = \"left\"\ncpus = [2]\ninterrupts = [{routes}]"));
    let with = |room: usize| mistakes_on(&format!("limits = {{ interrupts = {room} }}\n{routed}"), &NoConfigSpace);
    let says =
        "interrupts in all cells: 65, and there is room for 64 (limits.interrupts, which Limits has to have as well)";
    assert_eq!(with(64), [says]);
    assert_eq!(with(128), [""; 0]);
}

#[test]
fn what_the_driver_refuses_is_a_mistake() {
    for (name, room, says) in [
        ("cells", 65, "limits: the driver refuses as much room for cells; it has 64 at most"),
        ("reserved", 65, "limits: the driver refuses as much room for reserved memory regions; it has 64 at most"),
        (
            "interrupts",
            100,
            "limits: the driver refuses as much room for interrupts (a power of two from 64 on, or 0); it has 65536 at most",
        ),
    ] {
        assert_eq!(mistakes_on(&format!("limits = {{ {name} = {room} }}\n{GOOD}"), &NoConfigSpace), [says]);
    }
}

#[test]
fn without_room_for_interrupts_none_is_remapped() {
    let all = mistakes_on(&format!("limits = {{ interrupts = 0 }}\n{GOOD}"), &NoConfigSpace);
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(all.iter().all(|mistake| mistake.contains("are not remapped, so it can send any to any CPU")), "{all:#?}");
}

#[test]
fn without_limits_the_defaults_are_meant() {
    let cells = (0..17).map(|number| format!("[[cell]]\nname = \"{number}\"\n")).collect::<String>();
    let says = "cells: 17, and there is room for 16 (limits.cells, which Limits has to have as well)";
    assert_eq!(mistakes_on(&cells, &NoConfigSpace), [says]);
}
