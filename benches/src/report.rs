//! What was measured or counted, as a table and as JSON; what was measured, as a picture too.

use std::error::Error;
use std::time::Duration;

use plotters::prelude::*;
use serde_json::{Value, json};
use statrs::statistics::{Data, Max, Min, OrderStatistics};

use crate::count::Costs;
use crate::worker::Failure;

/// One sample that takes longer is enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// The names of a way on the command line and in tables.
pub type Way = (String, String);

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
                let shown = ratio.filter(|_| way > 0);
                let shown = shown.map_or(String::new(), |ratio| format!(" **×{}**", short(ratio)));
                let json = json!({
                    "median": median, "least": least, "most": most, "ratio": ratio, "rounds": rounds,
                });
                (times(spread) + &shown, json)
            }
            _ => ("–".into(), Value::Null),
        }
    }
}

/// What was measured, as a table, and what failed and why; or as JSON.
pub fn measured(ways: &[Way], rounds: usize, rows: &[Row], as_json: bool) -> String {
    let cells = |row: &Row| (0..ways.len()).map(|way| row.cell(way)).collect();
    let all = rows.iter().map(|row| (row.name.clone(), cells(row))).collect();
    let mut text = render(["case", "nanoseconds"], ways, all, as_json);
    if !as_json {
        let head = format!("Median of {rounds} rounds (least–most), and × the first column's.\n\n");
        text.insert_str(0, &head);
        for row in rows {
            for (way, (_, title)) in row.ways.iter().zip(ways) {
                if let Err(Some(reason)) = way {
                    text += &format!("\nFailed: {}, {title}: {reason}\n", row.name);
                }
            }
        }
    }
    text
}

/// What was counted, as a table or as JSON.
pub fn counted(ways: &[Way], costs: Vec<Costs>, as_json: bool) -> String {
    let cell = |costs: &Costs, at: usize| match costs.get(at) {
        Some((operation, Some(cost))) => {
            let known = |number: Option<f64>| number.map_or("–".into(), |it| it.to_string());
            let unit = if operation == "open stream" { " B" } else { "" };
            let (calls, handles) =
                (known(cost.calls.map(|calls| calls as f64)), known(cost.handles));
            (format!("{calls} · {handles} · {}{unit}", cost.heap), json!(cost))
        }
        _ => ("–".into(), Value::Null),
    };
    // Each has the same operations, but one that failed none.
    let operations = costs.iter().max_by_key(|costs| costs.len()).into_iter().flatten().enumerate();
    let rows = operations.map(|(at, (operation, _))| {
        (operation.clone(), costs.iter().map(|costs| cell(costs, at)).collect())
    });
    let all = render(["operation", "costs"], ways, rows.collect(), as_json);
    let head =
        "System calls · kernel handles more than before · allocations (or bytes on the heap).";
    if as_json { all } else { format!("{head}\n\n{all}") }
}

/// A cell in a table and in JSON.
type Cell = (String, Value);

/// A table in Markdown, or JSON.
fn render(
    [row, cell]: [&str; 2],
    ways: &[Way],
    rows: Vec<(String, Vec<Cell>)>,
    as_json: bool,
) -> String {
    if as_json {
        let rows = rows.into_iter().map(|(name, cells)| {
            let cells = ways.iter().zip(cells).map(|((way, _), (_, json))| (way.clone(), json));
            json!({ row: name, cell: Value::from_iter(cells) })
        });
        return format!("{:#}\n", Value::from_iter(rows));
    }
    let titles: String = ways.iter().map(|(_, title)| format!(" {title} |")).collect();
    let mut text = format!("| {row} |{titles}\n|{}\n", " --- |".repeat(ways.len() + 1));
    for (name, cells) in rows {
        let cells: String = cells.iter().map(|(text, _)| format!(" {text} |")).collect();
        text += &format!("| {name} |{cells}\n");
    }
    text
}

/// A picture in SVG: a line for each case and a dot for each way, at how many times as long as the
/// first way it took.
pub fn plot(ways: &[Way], rounds: usize, rows: &[Row]) -> Result<String, Box<dyn Error>> {
    const COLOURS: [u32; 6] = [0x444444, 0xd62728, 0x9467bd, 0x1f77b4, 0x2ca02c, 0xbbbbbb];
    let ratios = rows.iter().flat_map(|row| (0..ways.len()).filter_map(|way| row.ratio(way)));
    let [_, least, most] = spread(ratios.collect()).ok_or("nothing to draw")?;
    // What is far out is drawn at the edge.
    let (low, high) = (least.clamp(0.25, 0.9), most.clamp(2.0, 40.0));
    let caption = format!(
        "Time as a multiple of {}'s, which is at the left (median of {rounds} rounds; \
         what is at an edge may be far beyond it)",
        ways[0].1
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
    for (way, (_, title)) in ways.iter().enumerate().rev() {
        let [_, r, g, b] = COLOURS[way % COLOURS.len()].to_be_bytes();
        let style = RGBColor(r, g, b).filled();
        let dots = rows.iter().rev().enumerate().filter_map(|(at, row)| {
            let at = (row.ratio(way)?.clamp(low, high), SegmentValue::CenterOf(at));
            Some(Circle::new(at, if way == 0 { 2 } else { 5 }, style))
        });
        chart.draw_series(dots)?.label(title).legend(move |at| Circle::new(at, 5, style));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    drop((chart, area));
    Ok(svg)
}

/// Three digits.
fn short(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}")
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
