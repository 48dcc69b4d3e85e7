//! The board as a picture: memory and CPUs at the top, units, and the buses, bridges and functions that each serves.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{
    contents::{Contents, ReportedFunction, ReportedUnit},
    groups::groups,
};
use crate::inspect::class;

/// A character of the font, in pixels.
const CHARACTER: f32 = 7.25;
const ROW: usize = 24;
const BOX: usize = 20;
const INDENT: usize = 20;
/// Between columns, and around all.
const GAP: usize = 24;
const MEMORY: usize = 36;
const UNIT: usize = 50;
/// Between memory and units: the arrows.
const ARROW: usize = 34;
const LEAST_COLUMN: usize = 250;
/// One colour a group, and again from the first one on.
pub const COLOURS: [&str; 8] = ["#cfe3ff", "#ffdfb3", "#d5f0cb", "#f2d2ee", "#fff1a8", "#cdeeee", "#e3d9ff", "#f7d0cc"];
const LINE: &str = "#5b6b80";
const WRONG: &str = "#b3261e";

/// What one unit serves, or none.
struct Column<'c> {
    unit: Option<&'c ReportedUnit>,
    rows: Vec<PictureRow<'c>>,
}

/// A line of a column: the name of a bus, or a function.
struct PictureRow<'c> {
    depth: usize,
    kind: RowKind<'c>,
}

enum RowKind<'c> {
    Bus(u16, u8),
    Function(&'c ReportedFunction, Option<usize>),
}

/// The picture, as SVG that needs nothing else.
pub fn svg(contents: &Contents) -> Markup {
    let groups = groups(contents);
    let columns = columns(contents, &groups);
    let widths = Vec::from_iter(columns.iter().map(Column::width));
    let memory = contents.started.map_or_else(String::new, |(memory, _)| format!(": {memory} MiB of it free"));
    let memory = format!("CPUs and memory{memory}");
    let least = text_width(&memory) + 24 + GAP;
    let width = widths.iter().map(|width| width + GAP).sum::<usize>().max(least) + GAP;
    let most_rows = columns.iter().map(|column| column.rows.len()).max().unwrap_or_default();
    let below = if columns.is_empty() { 0 } else { ARROW + UNIT + ROW * (most_rows + 1) };
    let height = GAP + MEMORY + below + GAP;
    let lefts = widths.iter().scan(GAP, |left, width| Some(std::mem::replace(left, *left + width + GAP)));
    let lefts = Vec::from_iter(lefts);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}"))
            font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12" role="img"
            aria-label="Memory, remapping units, buses and functions" {
            rect x=(GAP) y=(GAP) width=(width - 2 * GAP) height=(MEMORY) rx="6" fill="#e8edf3" stroke=(LINE) {}
            (words(GAP + 12, GAP + 23, "#1b2733", &memory))
            @for ((column, width), left) in columns.iter().zip(&widths).zip(lefts) {
                (column.draw(left, *width))
            }
        }
    }
}

/// A column a unit, and one for what none serves.
fn columns<'c>(contents: &'c Contents, groups: &[Option<usize>]) -> Vec<Column<'c>> {
    let of = |unit: Option<&'c ReportedUnit>| {
        let base = unit.map(|unit| unit.base);
        // A unit that is not there serves nobody.
        let served = |function: &ReportedFunction| function.unit.filter(|base| contents.unit(*base).is_some());
        let all = contents.functions.iter().zip(groups.iter().copied());
        Column { unit, rows: rows(Vec::from_iter(all.filter(|(function, _)| served(function) == base))) }
    };
    let units = contents.units.iter().map(|unit| of(Some(unit)));
    let alone = of(None);
    units.chain((!alone.rows.is_empty()).then_some(alone)).collect()
}

type Member<'c> = (&'c ReportedFunction, Option<usize>);

/// Functions as a tree: each bridge before what is behind it.
fn rows<'c>(mut all: Vec<Member<'c>>) -> Vec<PictureRow<'c>> {
    all.sort_by_key(|(function, _)| function.id);
    let mut bridges = BTreeSet::new();
    for (function, _) in &all {
        bridges.extend(behind(function).map(|bus| (function.id.segment(), bus)));
    }
    let mut tree = Tree { all: &all, rows: Vec::new(), drawn: vec![false; all.len()] };
    for (function, _) in &all {
        let bus = (function.id.segment(), function.id.bus());
        if !bridges.contains(&bus) {
            tree.add_bus(bus, 0);
        }
    }
    tree.rows
}

/// The bus right behind a bridge. Buses are numbered from the root on: a bridge with a lower one behind it is not set up,
/// and leads nowhere, so that none leads in a circle.
fn behind(function: &ReportedFunction) -> Option<u8> {
    function.buses.map(|(secondary, _)| secondary).filter(|secondary| *secondary > function.id.bus())
}

struct Tree<'t, 'c> {
    all: &'t [Member<'c>],
    rows: Vec<PictureRow<'c>>,
    drawn: Vec<bool>,
}

impl<'c> Tree<'_, 'c> {
    /// What is on a bus and was not drawn yet, each bridge with what is behind it.
    fn add_bus(&mut self, bus: (u16, u8), depth: usize) {
        let mut is_named = false;
        for (number, (function, group)) in self.all.iter().enumerate() {
            let is_here = (function.id.segment(), function.id.bus()) == bus;
            let Some(drawn) = self.drawn.get_mut(number).filter(|drawn| is_here && !**drawn) else { continue };
            *drawn = true;
            if !is_named {
                self.rows.push(PictureRow { depth, kind: RowKind::Bus(bus.0, bus.1) });
                is_named = true;
            }
            self.rows.push(PictureRow { depth: depth + 1, kind: RowKind::Function(function, *group) });
            if let Some(next) = behind(function) {
                self.add_bus((bus.0, next), depth + 2);
            }
        }
    }
}

impl Column<'_> {
    fn width(&self) -> usize {
        let rows = self.rows.iter().map(|row| row.left() + text_width(&row.text()) + 16);
        let titles = self.title().map(|title| text_width(&title) + 24);
        rows.chain(titles).max().unwrap_or_default().max(LEAST_COLUMN)
    }

    /// Two lines.
    fn title(&self) -> [String; 2] {
        let Some(unit) = self.unit else { return ["No unit".into(), "nothing blocks their DMA".into()] };
        let state = unit.state.as_ref().map_or_else(String::new, |state| match &*state.refused {
            "" => {
                let interrupts = if state.interrupts { "remaps interrupts" } else { "no interrupt remapping" };
                format!("{} bits to {} bits, {interrupts}", state.input_bits, state.output_bits)
            }
            _ => "cannot be used".into(),
        });
        [format!("Unit {:#x}, segment {:04x}", unit.base, unit.segment), state]
    }

    /// True if DMA of its functions passes nobody.
    fn is_wrong(&self) -> bool {
        let state = self.unit.and_then(|unit| unit.state.as_ref());
        self.unit.is_none() || state.is_some_and(|state| !state.refused.is_empty())
    }

    fn draw(&self, left: usize, width: usize) -> Markup {
        let (top, [title, state]) = (GAP + MEMORY + ARROW, self.title());
        let (colour, dashes) = if self.is_wrong() { (WRONG, "5 3") } else { (LINE, "none") };
        let (fill, middle) = (if self.is_wrong() { "#fdeceb" } else { "#dfe7f1" }, left + width / 2);
        let first_row = top + UNIT + ROW / 2;
        html! {
            path d=(format!("M {middle} {top} V {} m -5 9 l 5 -9 l 5 9", GAP + MEMORY + 2)) fill="none" stroke=(colour)
                stroke-width="2" stroke-dasharray=(dashes) {}
            rect x=(left) y=(top) width=(width) height=(UNIT) rx="6" fill=(fill) stroke=(colour) stroke-width="2"
                stroke-dasharray=(dashes) {}
            (words(left + 12, top + 20, "#1b2733", &title))
            (words(left + 12, top + 39, if self.is_wrong() { WRONG } else { "#445468" }, &state))
            @for (number, row) in self.rows.iter().enumerate() {
                (self.draw_stem(number, left, first_row))
                (row.draw(left, first_row + ROW * number, width))
            }
        }
    }

    /// The line from a bus to a function, or from a bridge or the unit to a bus.
    fn draw_stem(&self, number: usize, left: usize, first_row: usize) -> Markup {
        let Some(row) = self.rows.get(number) else { return html! {} };
        let above = self.rows.get(..number).unwrap_or_default();
        let parent = above.iter().rposition(|other| other.depth < row.depth);
        let middle = |number: usize| first_row + ROW * number + BOX / 2;
        let (from, x) = match parent {
            Some(parent) => (middle(parent) + BOX / 2, left + INDENT * (row.depth - 1) + 8),
            None => (first_row - ROW / 2, left + 4),
        };
        let to = left + row.left();
        let line = format!("M {x} {from} V {} H {to}", middle(number));
        html! { path d=(line) fill="none" stroke=(LINE) shape-rendering="crispEdges" {} }
    }
}

impl PictureRow<'_> {
    /// Where it starts, from the left of its column.
    fn left(&self) -> usize {
        INDENT * self.depth + if self.depth == 0 { 10 } else { 0 }
    }

    fn text(&self) -> String {
        match &self.kind {
            RowKind::Bus(segment, bus) => format!("bus {segment:04x}:{bus:02x}"),
            RowKind::Function(it, group) => {
                let (id, class) = (it.id, class(&format!("{:06x}", it.class)));
                let mut text =
                    format!("{:02x}.{} {:04x}:{:04x} {class}", id.device(), id.function(), it.vendor, it.device);
                if let Some(secondary) = behind(it) {
                    text += &format!(" to {secondary:02x}");
                }
                if let Some(group) = group {
                    text += &format!(" · group {group}");
                }
                if !it.refused.is_empty() {
                    text += " · no cell";
                }
                text
            }
        }
    }

    fn draw(&self, left: usize, top: usize, width: usize) -> Markup {
        let (x, text) = (left + self.left(), self.text());
        match &self.kind {
            RowKind::Bus(..) => words(x + 6, top + 14, "#445468", &text),
            RowKind::Function(function, group) => {
                let wrong = function.unit.is_none() || !function.refused.is_empty();
                let stroke = if wrong { WRONG } else { LINE };
                let fill = group
                    .map_or("#ffffff", |group| COLOURS.get((group - 1) % COLOURS.len()).copied().unwrap_or_default());
                html! {
                    g {
                        title { (function.id) @if !function.refused.is_empty() { ": " (function.refused) } }
                        rect x=(x) y=(top) width=((left + width).saturating_sub(x)) height=(BOX) rx="3" fill=(fill) stroke=(stroke)
                            stroke-dasharray=(if wrong { "4 2" } else { "none" }) {}
                        (words(x + 8, top + 14, "#1b2733", &text))
                    }
                }
            }
        }
    }
}

fn words(x: usize, y: usize, colour: &str, text: &str) -> Markup {
    html! { text x=(x) y=(y) fill=(colour) { (text) } }
}

fn text_width(text: &str) -> usize {
    (text.chars().count() as f32 * CHARACTER).ceil() as usize
}

#[cfg(test)]
mod tests;
