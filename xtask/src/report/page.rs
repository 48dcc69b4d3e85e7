//! A board report as one page of HTML, which needs nothing else. All that comes from the log is escaped: `maud` does that,
//! and the page lets no script run.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    contents::{Contents, ReportedFunction, ReportedReserved, ReportedUnit},
    groups::groups,
    picture, summary,
};
use crate::{inspect::class, show};

const STYLE: &str = include_str!("page.css");
/// Nothing is fetched, nothing runs, and only the page's own style holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The whole page.
pub fn html(contents: &Contents) -> String {
    let groups = groups(contents);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width";
                title { "Board report of cofferdam" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Board report of cofferdam " (contents.version.as_deref().unwrap_or_default()) }
                (verdict(contents))
                (of_file(contents))
                (machine(contents))
                h2 { "Topology" }
                div.wide { (picture::svg(contents)) }
                (legend(&groups))
                (units(&contents.units))
                (functions(&contents.functions, &groups))
                (reserved(contents))
                (memory(contents))
                (findings(contents))
                (measured(contents))
                (expected(contents))
                details {
                    summary { "All that was printed for people" }
                    pre { @for line in &contents.words { (line) "\n" } }
                }
            }
        }
    };
    // A line for each block, so that a change can be read.
    let text = page.into_string();
    ["</table>", "</h2>", "</h3>", "</tr>", "</li>", "</g>", "</svg>", "</div>", "</head>"]
        .iter()
        .fold(text, |text, end| text.replace(end, &format!("{end}\n")))
        + "\n"
}

fn verdict(contents: &Contents) -> Markup {
    let class = match &contents.verdict {
        Some(verdict) if contents.is_sound() && verdict.limits == 0 => "fit",
        Some(_) if contents.is_sound() => "limits",
        _ => "unfit",
    };
    let more =
        contents.verdict.as_ref().map_or(0, |verdict| verdict.limits as usize).saturating_sub(contents.limits.len());
    html! {
        div class=(format!("verdict {class}")) {
            p { "Verdict: " (summary::verdict(contents)) }
            ul {
                @for (what, _, seen) in contents.expected.iter().filter(|(_, held, _)| !held) {
                    li { "did not hold: " (what) @if !seen.is_empty() { " [" (seen) "]" } }
                }
                @for finding in contents.findings.iter().filter(|finding| finding.severity == "error") {
                    li { "error in firmware's table: " (finding.text) "; " (finding.action) }
                }
                @if contents.firmware.as_ref().is_some_and(|firmware| !firmware.complete) {
                    li { "a part of firmware's table was lost that may define a unit, or say what one serves" }
                }
                @for limit in &contents.limits { li { (limit) } }
                @if more != 0 { li { "and " (more) " more" } }
            }
        }
    }
}

/// What is wrong with the report itself.
fn of_file(contents: &Contents) -> Markup {
    html! {
        @if !contents.flaws.is_empty() || contents.refused.is_some() {
            div class="verdict unfit" {
                p { "This report is not whole, or contradicts itself" }
                ul {
                    @for flaw in &contents.flaws { li { (flaw) } }
                    @if let Some(why) = &contents.refused { li { "it was given up: " (why) } }
                }
            }
        }
        @if !contents.notes.is_empty() {
            ul { @for note in &contents.notes { li { (note) } } }
        }
    }
}

fn machine(contents: &Contents) -> Markup {
    html! {
        table {
            @if let Some((memory, clock)) = contents.started {
                tr { th { "Memory that is free" } td { (memory) " MiB" } }
                tr { th { "Clock" } td { (clock) " MHz" } }
            }
            @if let Some(firmware) = &contents.firmware {
                tr { th { "Addresses of DMA" } td { (firmware.host_bits) " bits" } }
                tr {
                    th { "Interrupts, as firmware says" }
                    td { @if firmware.interrupts { "can be remapped" } @else { "cannot be remapped" } }
                }
                @if !firmware.complete {
                    tr {
                        th { "Firmware's table" }
                        td.wrong { "a part was lost that may define a unit, or say what one serves" }
                    }
                }
            }
            tr { th { "Bytes of firmware's table" } td { (contents.table.len()) } }
        }
    }
}

fn legend(groups: &[Option<usize>]) -> Markup {
    let count = groups.iter().flatten().max().copied().unwrap_or_default();
    html! {
        ul.legend {
            li { span.swatch {} "white: something isolates the function from all others" }
            @for (number, colour) in (1..=count).zip(picture::COLOURS.iter().cycle()) {
                li {
                    span.swatch style=(format!("background: {colour}")) {}
                    "group " (number) ": nothing isolates these functions from each other; one cell has them all"
                }
            }
            li { span class="swatch unserved" {} "dashed: no unit serves it, or no cell is given it" }
        }
    }
}

fn units(units: &[ReportedUnit]) -> Markup {
    html! {
        h2 { "Units" }
        @if units.is_empty() { p { "There is none." } }
        @for unit in units {
            h3 { "Unit " (hex(unit.base)) ", segment " (format!("{:04x}", unit.segment)) }
            p { (unit.capabilities) }
            @if let Some(state) = &unit.state {
                table {
                    @if !state.refused.is_empty() { tr { th { "Cannot be used" } td.wrong { (state.refused) } } }
                    tr { th { "Version" } td { (state.version.0) "." (state.version.1) } }
                    tr {
                        th { "Translates" }
                        td { "addresses of " (state.input_bits) " bits, to addresses of " (state.output_bits) " bits" }
                    }
                    tr { th { "Domains" } td { (state.domains) } }
                    tr {
                        th { "Found" }
                        td { @if state.translating { span.wrong { "translating for somebody" } } @else { "not translating" } }
                    }
                    tr {
                        th { "Interrupts" }
                        td { @if state.interrupts { "can be remapped" } @else { "are not remapped" } }
                    }
                }
            }
            div.abilities {
                table {
                    @for (bit, has, words) in &unit.abilities {
                        tr class=(if *has { "yes" } else { "no" }) {
                            th.code { (bit) }
                            td { @if *has { "yes" } @else { "no" } }
                            td { (words) }
                        }
                    }
                }
            }
        }
    }
}

fn functions(functions: &[ReportedFunction], groups: &[Option<usize>]) -> Markup {
    html! {
        h2 { "Devices" }
        @if functions.is_empty() { p { "None was looked at." } }
        @else { div.wide {
            table {
                tr {
                    th { "Function" } th { "Is" } th { "Unit" } th { "Input bits" } th { "Isolated" } th { "Device-TLB" }
                    th { "Messages" } th { "Reset alone" } th { "Cell" }
                }
                @for (function, group) in functions.iter().zip(groups) {
                    (function_row(function, *group))
                }
            }
        } }
    }
}

fn function_row(function: &ReportedFunction, group: Option<usize>) -> Markup {
    let ReportedFunction { vendor, device, class: code, .. } = function;
    html! {
        tr {
            td.code {
                (function.id)
                @for alias in &function.aliases { br; "also as " (alias) }
            }
            td {
                span.code { (format!("{vendor:04x}:{device:04x}")) } " " (class(&format!("{code:06x}")))
                @if let Some((secondary, last)) = function.buses {
                    br; "to bus " (format!("{secondary:02x}")) @if last > secondary { " and on to " (format!("{last:02x}")) }
                }
            }
            td.code { @if let Some(unit) = function.unit { (hex(unit)) } @else { span.wrong { "none" } } }
            td.number { @if function.unit.is_some() { (function.input_bits) } }
            td {
                @if function.unit.is_none() {}
                @else if function.isolated.is_empty() {
                    "not from"
                    @for (first, last) in &function.shares { br; span.code { (first) @if first != last { " to " (last) } } }
                } @else { (function.isolated) }
                @if let Some(group) = group { br; "group " (group) }
            }
            td {
                @if function.device_tlb != 0 { (function.device_tlb) " invalidations at a time" }
                @else { span.no { (function.no_device_tlb) } }
            }
            td {
                @if function.msi_x != 0 { "MSI-X, " (function.msi_x) }
                @else if function.msi != 0 { "MSI, " (function.msi) }
                @else { span.no { "none" } }
            }
            td { @if function.resettable { "yes" } @else { span.no { "no" } } }
            td { @if function.refused.is_empty() { "can have it" } @else { span.wrong { (function.refused) } } }
        }
    }
}

fn reserved(contents: &Contents) -> Markup {
    let users = |reserved: &ReportedReserved| {
        let uses = |function: &&ReportedFunction| function.uses.contains(&(reserved.first, reserved.last));
        let ids = contents.functions.iter().filter(uses).map(|function| function.id.to_string());
        ids.collect::<Vec<_>>().join(", ")
    };
    html! {
        h2 { "Reserved memory" }
        @if contents.reserved.is_empty() { p { "Firmware reserves none for devices." } }
        @else {
            table {
                tr { th { "Addresses" } th { "Size" } th { "Devices" } th { "Memory map" } th { "In firmware's table" } }
                @for reserved in &contents.reserved {
                    tr {
                        td.code { (hex(reserved.first)) " to " (hex(reserved.last)) }
                        td { (show::bytes(reserved.last.wrapping_sub(reserved.first).saturating_add(1))) }
                        td.code { (users(reserved)) }
                        td.wrong[!reserved.agrees] { (reserved.map) }
                        td.code { "offset " (hex(reserved.offset.into())) }
                    }
                }
            }
        }
    }
}

fn memory(contents: &Contents) -> Markup {
    let last = |first: u64, bytes: u64| hex(first.saturating_add(bytes.saturating_sub(1)));
    html! {
        h2 { "Memory map" }
        table {
            tr { th { "Addresses" } th { "Size" } th { "Kind" } }
            @for (first, bytes, kind) in &contents.memory {
                tr {
                    td.code { (hex(*first)) " to " (last(*first, *bytes)) }
                    td.number { (show::bytes(*bytes)) }
                    td { (kind) }
                }
            }
        }
    }
}

fn findings(contents: &Contents) -> Markup {
    html! {
        h2 { "Findings in firmware's table" }
        @if contents.findings.is_empty() { p { "Nothing is wrong with it." } }
        @else {
            table {
                tr { th { "Severity" } th { "Offset" } th { "What" } th { "What the driver does" } }
                @for finding in &contents.findings {
                    tr {
                        td.wrong[finding.severity == "error"] { (finding.severity) }
                        td.code { (hex(finding.offset.into())) }
                        td { (finding.text) }
                        td { (finding.action) }
                    }
                }
            }
        }
    }
}

fn measured(contents: &Contents) -> Markup {
    html! {
        h2 { "Measurements" }
        @if contents.measured.is_empty() { p { "None: nothing was switched on." } }
        @else {
            table {
                tr { th { "Unit" } th { "What" } th { "Times" } th { "Shortest" } th { "Median" } th { "Longest" } }
                @for measured in &contents.measured {
                    tr {
                        td.code { (hex(measured.unit)) }
                        td { (measured.what) }
                        td.number { (measured.times) }
                        @for ns in [measured.min_ns, measured.median_ns, measured.max_ns] { td.number { (time(ns)) } }
                    }
                }
            }
        }
    }
}

fn expected(contents: &Contents) -> Markup {
    html! {
        @if !contents.expected.is_empty() {
            h2 { "What was expected" }
            table {
                @for (what, held, seen) in &contents.expected {
                    tr {
                        td { @if *held { "held" } @else { span.wrong { "did not hold" } } }
                        td { (what) }
                        td { (seen) }
                    }
                }
            }
        }
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// Nanoseconds up to 10 µs, then microseconds.
fn time(ns: u64) -> String {
    if ns < 10_000 { format!("{ns} ns") } else { format!("{:.1} µs", ns as f64 / 1000.0) }
}

#[cfg(test)]
mod tests;
