//! How the cost grows, as a picture: in colours that can be told from light and from dark ground.

use std::ops::Range;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{
    figures,
    results::Results,
    rows::{OURS, PEERS, SIZES},
};

const SIZE: (u32, u32) = (1000, 760);
const TEXT: RGBColor = RGBColor(128, 128, 128);
/// The first is ours.
const COLOURS: [RGBColor; 5] = [
    RGBColor(214, 69, 65),
    RGBColor(65, 131, 215),
    RGBColor(38, 166, 91),
    RGBColor(230, 126, 34),
    RGBColor(155, 89, 182),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What a chart goes along, on a logarithmic scale with a mark at each power of the base.
struct Axis {
    what: &'static str,
    range: Range<f64>,
    base: f64,
    label: fn(&f64) -> String,
}

/// A line: its name and its points.
type Line = (String, Vec<(f64, f64)>);

/// Four charts: map and unmap as memory grows, an edit as units grow, and as threads do.
///
/// # Errors
///
/// Something was not measured, or cannot be drawn.
pub fn svg(results: &Results) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let areas = area.split_evenly((2, 2));
        let [map, unmap, units, threads] = areas.as_slice() else { anyhow::bail!("four charts") };
        let sizes = Axis { what: "memory", range: 2_f64.powi(19)..2_f64.powi(41), base: 1024.0, label: size };
        let counts = |what, range| Axis { what, range, base: 2.0, label: |at| format!("{at:.0}") };
        chart(map, "map, one call, pages of up to 2 MiB", &sizes, &memory(results, "map_2m"))?;
        chart(unmap, "unmap it, one call", &sizes, &memory(results, "unmap_2m"))?;
        let lines = edits(results, |units, threads| (threads, units), "thread");
        chart(units, "map and unmap 2 MiB in a cell behind all units", &counts("units", 0.8..80.0), &lines)?;
        let lines = edits(results, |units, threads| (units, threads), "unit");
        chart(threads, "the same, a cell a thread, all together", &counts("threads", 0.9..4.5), &lines)?;
        area.present()?;
    }
    Ok(text)
}

fn size(bytes: &f64) -> String {
    let names = [(20, "1 MiB"), (30, "1 GiB"), (40, "1 TiB")];
    let found = names.iter().find(|(power, _)| bytes.log2().round() as i32 == *power);
    found.map_or_else(String::new, |(_, name)| (*name).to_owned())
}

fn memory(results: &Results, work: &str) -> Vec<Line> {
    let contenders = [(OURS, OURS)].into_iter().chain(PEERS);
    let line = |(name, crate_name): (&str, &str)| {
        let point = |bytes: u64| Some((bytes as f64, results.time(work, name, bytes)?.median));
        (crate_name.to_owned(), SIZES.into_iter().filter_map(point).collect())
    };
    contenders.map(line).collect()
}

/// A line for each value of what `sort` puts first, along what it puts second.
fn edits(results: &Results, sort: fn(u64, u64) -> (u64, u64), name: &str) -> Vec<Line> {
    let mut lines: Vec<(u64, Line)> = Vec::new();
    for (&(units, threads), time) in &results.edits {
        let (line, at) = sort(units, threads);
        let point = (at as f64, time.median);
        match lines.iter_mut().find(|(number, _)| *number == line) {
            Some((_, (_, points))) => points.push(point),
            None => {
                let plural = if line == 1 { "" } else { "s" };
                lines.push((line, (format!("{line} {name}{plural}"), vec![point])));
            }
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

fn chart(area: &Area<'_>, title: &str, axis: &Axis, lines: &[Line]) -> Result<()> {
    let times = || lines.iter().flat_map(|(_, points)| points).map(|(_, time)| *time);
    let (lowest, highest) = (times().fold(f64::INFINITY, f64::min), times().fold(1.0, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 19, &TEXT))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            axis.range.clone().log_scale().base(axis.base),
            (lowest / 2.0..highest * 4.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc(axis.what)
        .x_label_formatter(&axis.label)
        .y_labels(5)
        .y_label_formatter(&|time: &f64| figures::time(*time))
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.3))
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 15, &TEXT))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        let style = colour.stroke_width(if name == OURS { 3 } else { 2 });
        let series = LineSeries::new(points.iter().copied(), style).point_size(3);
        let drawn = chart.draw_series(series)?;
        drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 15, &TEXT))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_in_the_picture() {
        let mut results = Results::default();
        for contender in [OURS].into_iter().chain(PEERS.map(|(name, _)| name)) {
            for bytes in SIZES {
                for work in ["map_2m", "unmap_2m"] {
                    let line = serde_json::json!({
                        "kind": "time", "work": work, "contender": contender, "bytes": bytes,
                        "low": 1.0, "median": bytes as f64 / 1e3, "high": 1.0
                    });
                    results.hear_time(&line.to_string()).unwrap();
                }
            }
        }
        for (units, threads) in [(1, 1), (1, 2), (8, 1), (8, 2)] {
            let line = serde_json::json!({
                "kind": "edit", "units": units, "threads": threads, "low": 1.0, "median": 100.0 * f64::from(units), "high": 1.0
            });
            results.hear_time(&line.to_string()).unwrap();
        }
        let svg = svg(&results).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        // Five contenders in each of two charts, two lines in each of the others.
        let lines = COLOURS.map(|RGBColor(r, g, b)| svg.matches(&format!("#{r:02X}{g:02X}{b:02X}")).count());
        assert!(lines.iter().all(|count| *count > 0), "{lines:?}");
        for text in ["aarch64-paging", "1 TiB", "2 threads", "8 units", "1 unit"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
