//! What has to be so if the header is right, as C: the compiler names what is not.

use std::fmt::Write;

use super::rust::Interface;

/// The assertions, to be compiled behind the header.
pub fn of(interface: &Interface) -> String {
    let mut text = String::from("#define SAME(a, b) __builtin_types_compatible_p(__typeof__(a), __typeof__(b))\n");
    let mut assert = |what: &str, why: &str| {
        // Never fails: a string takes all.
        let _ = writeln!(text, "_Static_assert({what}, \"{why}\");");
    };
    for (name, number) in &interface.constants {
        assert(&format!("({name}) == {number}u"), &format!("{name} is {number} in the library"));
    }
    let device = (1_u32 << 16) | (2 << 8) | (3 << 3) | 4;
    assert(&format!("COFFERDAM_DEVICE(1, 2, 3, 4) == {device}u"), "COFFERDAM_DEVICE");
    for (name, function) in &interface.functions {
        let takes = if function.takes.is_empty() { "void".to_owned() } else { function.takes.join(", ") };
        let why = format!("{name} has other arguments, or another result, in the library");
        assert(&format!("SAME({name}, {} ({takes}))", function.gives), &why);
    }
    let mut mirrors = String::new();
    let mut of_fields = String::new();
    for (name, fields) in &interface.structs {
        let mirror = format!("library_{name}");
        let body: String = fields.iter().map(|(field, of)| format!("\t{of} {field};\n")).collect();
        let _ = writeln!(mirrors, "struct {mirror} {{\n{body}}};");
        for (field, _) in fields {
            let place = |of: &str| format!("offsetof(struct {of}, {field})");
            let kind = |of: &str| format!("((struct {of} *)0)->{field}");
            let (same, at) =
                (format!("SAME({}, {})", kind(name), kind(&mirror)), place(name) + " == " + &place(&mirror));
            let _ = writeln!(of_fields, "_Static_assert({same}, \"{name}.{field} has another type in the library\");");
            let _ = writeln!(of_fields, "_Static_assert({at}, \"{name}.{field} is elsewhere in the library\");");
        }
        let _ = writeln!(
            of_fields,
            "_Static_assert(sizeof(struct {name}) == sizeof(struct {mirror}), \"{name} has another size in the library\");"
        );
    }
    text + &mirrors + &of_fields
}
