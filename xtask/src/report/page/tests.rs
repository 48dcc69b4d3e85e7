//! The page holds what the report says, and nothing of it as anything but text.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cofferdam_report::Record;

use super::*;
use crate::report::made::{STATE, UNIT, VERDICT, contents, function, shared, unserved};

#[test]
fn nothing_of_the_log_is_anything_but_text() {
    let evil = "</td><script>alert('x')</script><img src=\"http://x/\">&amp;";
    let contents = contents(&[
        Record::Finding { severity: evil, offset: 1, text: evil, action: evil },
        Record::Unit { base: 1, segment: 0, capabilities: evil },
        STATE,
        Record::UnitState {
            unit: 1,
            version: (1, 0),
            input_bits: 1,
            output_bits: 1,
            domains: 1,
            translating: true,
            interrupts: true,
            refused: evil,
        },
        Record::Ability { unit: UNIT, bit: evil, has: true, words: evil },
        Record::Reserved { first: 0, last: u64::MAX, offset: 0, map: evil, agrees: false },
        Record::Memory { first: u64::MAX, bytes: u64::MAX, kind: evil },
        shared("0000:00:02.0"),
        Record::Alias { function: "0000:00:02.0", id: "0000:00:02.1" },
        unserved("0000:00:03.0", evil),
        Record::Measured { unit: UNIT, what: evil, times: 1, min_ns: 1, median_ns: 20_000, max_ns: u64::MAX },
        Record::Expect { what: evil, ok: false, seen: evil },
        Record::Limit { text: evil },
        Record::Verdict { fit: false, why: evil, limits: 3 },
        Record::Refused { error: evil },
    ]);
    let page = html(&contents);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("alert('x')</"), "{page}");
    assert!(page.matches("&lt;script&gt;").count() >= 14, "{page}");
    let outside = ["http:", "https:", "src=", "href=", "url(", "@import"];
    let own = page.replace("http://www.w3.org/2000/svg", "").replace("&quot;http://x/", "").replace("src=&quot;", "");
    outside.iter().for_each(|outside| assert!(!own.contains(outside), "{outside}"));
}

#[test]
fn what_makes_the_verdict_red_is_in_its_box() {
    let page = html(&contents(&[
        STATE,
        Record::Finding { severity: "error", offset: 1, text: "a bad length", action: "the rest is lost" },
        Record::Finding { severity: "warning", offset: 2, text: "a bad name", action: "none" },
        Record::Expect { what: "a write arrives", ok: false, seen: "0x55" },
        Record::Expect { what: "a read arrives", ok: true, seen: "" },
        VERDICT,
    ]));
    let (_, rest) = page.split_once("<div class=\"verdict unfit\">").unwrap();
    let (top, _) = rest.split_once("</div>").unwrap();
    assert!(top.contains("did not hold: a write arrives [0x55]"), "{top}");
    assert!(top.contains("error in firmware's table: a bad length; the rest is lost"), "{top}");
    assert!(!top.contains("a bad name") && !top.contains("a read arrives"), "{top}");
}

#[test]
fn the_verdict_is_on_top_and_each_section_is_there() {
    let page = html(&contents(&[
        Record::Limit { text: "a limit" },
        STATE,
        Record::Ability { unit: UNIT, bit: "QI", has: true, words: "an invalidation queue" },
        Record::Reserved {
            first: 0x7000_0000,
            last: 0x700f_ffff,
            offset: 0x58,
            map: "reserved there, too",
            agrees: true,
        },
        Record::Memory { first: 0, bytes: 0xa_0000, kind: "free" },
        function("0000:00:02.0"),
        Record::Uses { function: "0000:00:02.0", first: 0x7000_0000, last: 0x700f_ffff },
        Record::Measured { unit: UNIT, what: "a page", times: 1000, min_ns: 900, median_ns: 1234, max_ns: 56_789 },
        Record::Verdict { fit: true, why: "", limits: 2 },
    ]));
    let order = [
        "Verdict: fit for partitioning, with limits: 2",
        "<li>a limit</li>",
        "<li>and 1 more</li>",
        "<h2>Topology</h2>",
        "<svg",
        "<h2>Units</h2>",
        "an invalidation queue",
        "<h2>Devices</h2>",
        "<h2>Reserved memory</h2>",
        "<td class=\"code\">0x70000000 to 0x700fffff</td>",
        "<td>1 MiB</td>",
        "<td class=\"code\">0000:00:02.0</td>",
        "<h2>Memory map</h2>",
        "<td class=\"code\">0x0 to 0x9ffff</td>",
        "<h2>Findings in firmware",
        "<h2>Measurements</h2>",
        "1234 ns",
        "56.8 µs",
    ];
    order
        .into_iter()
        .fold(&*page, |rest, text| rest.split_once(text).unwrap_or_else(|| panic!("{text} is not in {rest}")).1);
}

#[test]
fn a_report_that_is_not_whole_says_so_on_top() {
    let page = html(&contents(&[VERDICT]));
    let flaw = page.find("the state of the unit 0xfed90000 is not there").unwrap();
    assert!(flaw < page.find("<h2>Topology").unwrap());
}
