//! What was measured or counted, as a table and as JSON; what was measured, as a picture too.

use std::error::Error;
use std::time::Duration;

use plotters::prelude::*;
use serde_json::{Value, json};
use statrs::statistics::{Data, Max, Min, OrderStatistics};

use crate::cases::Failure;
use crate::count::Costs;
use crate::worker::Kind;

/// One sample that takes longer is enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// One case: its name, and for each way the nanoseconds of each round, or why there are none.
pub struct Row {
    name: String,
    ways: Vec<Result<Vec<f64>, Failure>>,
    /// The ways that take too long, and are not tried again.
    too_slow: Vec<bool>,
}

/// The middle, the least and the most.
fn spread(values: Vec<f64>) -> Option<[f64; 3]> {
    let mut values = Data::new(values);
    (!values.is_empty()).then(|| [values.median(), values.min(), values.max()])
}

impl Row {
    /// A case that nothing is known of yet.
    pub fn new(name: &str, ways: usize) -> Row {
        Row { name: name.into(), ways: vec![Ok(Vec::new()); ways], too_slow: vec![false; ways] }
    }

    /// Adds a round's result, which was there after so long.
    pub fn add(&mut self, way: usize, result: Result<f64, Failure>, after: Duration) {
        self.too_slow[way] |= after > PATIENCE;
        match (result, &mut self.ways[way]) {
            (Ok(time), Ok(times)) => times.push(time),
            (Err(failure), cell) => *cell = Err(failure),
            (Ok(_), Err(_)) => {}
        }
    }

    /// Whether there is no use in trying again: it would fail, or take too long.
    pub fn is_done(&self, way: usize) -> bool {
        self.ways[way].is_err() || self.too_slow[way]
    }

    fn spread(&self, way: usize) -> Option<[f64; 3]> {
        spread(self.ways[way].as_ref().ok()?.clone())
    }

    /// How many times as long as the first way it took: of the ratios of each round, the median.
    fn ratio(&self, way: usize) -> Option<f64> {
        let (times, firsts) = (self.ways[way].as_ref().ok()?, self.ways[0].as_ref().ok()?);
        let ratios = times.iter().zip(firsts).map(|(time, first)| time / first);
        spread(ratios.collect()).map(|[median, ..]| median)
    }

    /// A way's cell in the table and in JSON.
    fn cell(&self, way: usize) -> Cell {
        match (&self.ways[way], self.spread(way)) {
            (Err(Some(reason)), _) => ("failed".into(), json!({ "failed": reason })),
            (Ok(rounds), Some(spread @ [median, least, most])) => {
                let ratio = self.ratio(way);
                let text = match ratio {
                    Some(ratio) if way > 0 => format!("{} **×{}**", times(spread), short(ratio)),
                    _ => times(spread),
                };
                let json = json!({
                    "median": median, "least": least, "most": most, "ratio": ratio, "rounds": rounds,
                });
                (text, json)
            }
            _ => ("–".into(), Value::Null),
        }
    }
}

/// What was measured, as a table, and what failed and why; or as JSON.
pub fn measured(kinds: &[&Kind], rounds: usize, rows: &[Row], as_json: bool) -> String {
    let cells = |row: &Row| (row.name.clone(), (0..kinds.len()).map(|way| row.cell(way)).collect());
    let all = render(("case", "nanoseconds"), kinds, rows.iter().map(cells).collect(), as_json);
    if as_json {
        return all;
    }
    let mut failures = String::new();
    for row in rows {
        for (way, kind) in row.ways.iter().zip(kinds) {
            if let Err(Some(reason)) = way {
                failures += &format!("- {}, {}: {reason}\n", row.name, kind.title);
            }
        }
    }
    let failures = if failures.is_empty() { failures } else { format!("\nFailed:\n{failures}") };
    format!("Median of {rounds} rounds (least–most), and × the first column's.\n\n{all}{failures}")
}

/// What was counted, as a table or as JSON.
pub fn counted(kinds: &[&Kind], costs: &[Costs], as_json: bool) -> String {
    let cell = |costs: &Costs, at: usize| match costs.get(at) {
        Some((operation, Some(cost))) => {
            let known =
                |number: Option<f64>| number.map_or("–".into(), |number| number.to_string());
            let calls = known(cost.calls.map(|calls| calls as f64));
            let unit = if operation == "open stream" { " B" } else { "" };
            let text = format!("{calls} · {} · {}{unit}", known(cost.handles), cost.heap);
            (text, json!(cost))
        }
        _ => ("–".into(), Value::Null),
    };
    // Each has the same operations, but one that failed none.
    let operations = costs.iter().max_by_key(|costs| costs.len()).into_iter().flatten().enumerate();
    let rows = operations.map(|(at, (operation, _))| {
        (operation.clone(), costs.iter().map(|costs| cell(costs, at)).collect())
    });
    let all = render(("operation", "costs"), kinds, rows.collect(), as_json);
    if as_json {
        return all;
    }
    format!(
        "System calls · kernel handles more than before · allocations (or bytes on the heap).\n\n{all}"
    )
}

/// A cell in a table and in JSON.
type Cell = (String, Value);

/// A table in Markdown, or JSON.
fn render(
    (row, cell): (&str, &str),
    kinds: &[&Kind],
    rows: Vec<(String, Vec<Cell>)>,
    as_json: bool,
) -> String {
    if as_json {
        let names = || kinds.iter().map(|kind| kind.name.to_owned());
        let rows = rows.into_iter().map(|(name, cells)| {
            let cells = names().zip(cells.into_iter().map(|(_, json)| json));
            json!({ row: name, cell: Value::from_iter(cells) })
        });
        return format!("{:#}\n", Value::from_iter(rows));
    }
    let titles = kinds.iter().map(|kind| (kind.title.to_owned(), Value::Null)).collect();
    let line = vec![("---".to_owned(), Value::Null); kinds.len()];
    let rows = [(row.into(), titles), ("---".into(), line)].into_iter().chain(rows);
    let text = |cells: Vec<Cell>| cells.into_iter().map(|(text, _)| format!(" {text} |"));
    rows.map(|(name, cells)| format!("| {name} |{}\n", text(cells).collect::<String>())).collect()
}

/// A picture in SVG: a line for each case and a dot for each way, at how many times as long as the
/// first way it took.
pub fn plot(kinds: &[&Kind], rounds: usize, rows: &[Row]) -> Result<String, Box<dyn Error>> {
    const COLOURS: [RGBColor; 6] = [
        RGBColor(0x44, 0x44, 0x44),
        RGBColor(0xd6, 0x27, 0x28),
        RGBColor(0x94, 0x67, 0xbd),
        RGBColor(0x1f, 0x77, 0xb4),
        RGBColor(0x2c, 0xa0, 0x2c),
        RGBColor(0xbb, 0xbb, 0xbb),
    ];
    let ratios = rows.iter().flat_map(|row| (0..kinds.len()).filter_map(|way| row.ratio(way)));
    let [_, least, most] = spread(ratios.collect()).ok_or("nothing to draw")?;
    // What is far out is drawn at the edge.
    let (low, high) = (least.clamp(0.25, 0.9), most.clamp(2.0, 40.0));
    let caption = format!(
        "Time as a multiple of {}'s, which is at the left (median of {rounds} rounds; \
         what is at an edge may be far beyond it)",
        kinds[0].title
    );
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) | SegmentValue::Exact(at) if *at < rows.len() => {
            let row = &rows[rows.len() - 1 - at];
            format!("{}: {}", row.name, row.spread(0).map_or("–".into(), times))
        }
        _ => String::new(),
    };
    let mut svg = String::new();
    let size = (1100, 110 + 20 * rows.len() as u32);
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 13))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(390)
        .build_cartesian_2d((low..high).log_scale(), (0..rows.len()).into_segmented())?;
    let mut mesh = chart.configure_mesh();
    mesh.y_labels(rows.len()).y_label_formatter(&name);
    mesh.x_label_formatter(&|ratio| format!("×{}", short(*ratio))).draw()?;
    // This crate's own dots are on top.
    for (way, kind) in kinds.iter().enumerate().rev() {
        let style = COLOURS[way % COLOURS.len()].filled();
        let dots = rows.iter().rev().enumerate().filter_map(|(at, row)| {
            let at = (row.ratio(way)?.clamp(low, high), SegmentValue::CenterOf(at));
            Some(Circle::new(at, if way == 0 { 2 } else { 5 }, style))
        });
        chart.draw_series(dots)?.label(kind.title).legend(move |at| Circle::new(at, 5, style));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    drop((chart, area));
    Ok(svg)
}

/// Three digits.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A spread of nanoseconds in one unit.
fn times(spread: [f64; 3]) -> String {
    let (unit, name) = match spread[0] {
        ..1e3 => (1.0, "ns"),
        1e3..1e6 => (1e3, "µs"),
        1e6..1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let [median, least, most] = spread.map(|value| short(value / unit));
    format!("{median} {name} ({least}–{most})")
}

#[test]
fn a_ratio_is_the_median_of_the_rounds_ratios() {
    let mut row = Row::new("case", 2);
    // The machine is busy in the second round.
    for (first, other) in [(10.0, 11.0), (90.0, 99.0), (10.0, 30.0)] {
        row.add(0, Ok(first), Duration::ZERO);
        row.add(1, Ok(other), Duration::ZERO);
    }
    let ratio = row.ratio(1).unwrap();
    assert!((ratio - 1.1).abs() < 1e-9, "{ratio}");
}

#[test]
fn what_failed_or_takes_long_is_not_tried_again() {
    let mut row = Row::new("case", 2);
    row.add(0, Ok(1.0), PATIENCE * 2);
    row.add(1, Err(None), Duration::ZERO);
    assert!(row.is_done(0) && row.is_done(1));
    assert!(row.spread(0).is_some() && row.ratio(1).is_none());
}
