//! What was measured, as a table, as JSON and as a picture; what was counted, as a table and as JSON.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use plotters::prelude::*;
use serde_json::{Value, json};
use statrs::statistics::{Data, Max, Min, OrderStatistics};

use crate::cases::Failure;
use crate::count::Costs;
use crate::worker::Kind;

/// One sample that takes longer is enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// All that was measured.
pub struct Report<'a> {
    /// The ways: the columns.
    pub kinds: &'a [&'static Kind],
    /// How often each did each case.
    pub rounds: usize,
    /// A row for each case.
    pub rows: Vec<Row>,
}

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
        Row {
            name: name.into(),
            ways: vec![Ok(Vec::new()); ways],
            too_slow: vec![false; ways],
        }
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
}

impl Report<'_> {
    /// A table in Markdown, and below it what failed and why.
    pub fn table(&self) -> String {
        let mut failures = String::new();
        let rows = self.rows.iter().map(|row| {
            let cell = |(way, cell): (usize, &_)| match (cell, row.spread(way), row.ratio(way)) {
                (Err(Failure::Failed(reason)), ..) => {
                    let title = self.kinds[way].title;
                    let _ = writeln!(failures, "- {}, {title}: {reason}", row.name);
                    "failed".into()
                }
                (Ok(_), Some(spread), Some(ratio)) if way > 0 => {
                    format!("{} **×{}**", in_one_unit(spread), short(ratio))
                }
                (Ok(_), Some(spread), _) => in_one_unit(spread),
                _ => "–".into(),
            };
            (
                row.name.clone(),
                row.ways.iter().enumerate().map(cell).collect(),
            )
        });
        let table = markdown("case", self.kinds, rows.collect());
        let failures = match &*failures {
            "" => String::new(),
            lines => format!("\nFailed:\n{lines}"),
        };
        let rounds = self.rounds;
        format!(
            "Median of {rounds} rounds (least–most), and × the first column's.\n\n{table}{failures}"
        )
    }

    /// The same, with the time of every round.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let cell = |(way, cell): (usize, &_)| match (cell, row.spread(way)) {
                (Err(Failure::Failed(reason)), _) => json!({ "failed": reason }),
                (Ok(rounds), Some([median, least, most])) => json!({
                    "median": median, "least": least, "most": most, "ratio": row.ratio(way),
                    "rounds": rounds,
                }),
                _ => Value::Null,
            };
            let cells = row.ways.iter().enumerate().map(cell);
            let names = self.kinds.iter().map(|kind| kind.name.to_owned());
            json!({ "case": row.name, "nanoseconds": Value::from_iter(names.zip(cells)) })
        };
        self.rows.iter().map(row).collect()
    }

    /// A picture in SVG: a line for each case and a dot for each way, at how many times as long as the
    /// first way it took. Where there is one way only, at the time.
    pub fn plot(&self) -> Result<String, Box<dyn Error>> {
        let ratios = self.kinds.len() > 1;
        let value = |row: &Row, way| match ratios {
            true => row.ratio(way),
            false => row.spread(way).map(|[median, ..]| median),
        };
        let values = |way| self.rows.iter().filter_map(move |row| value(row, way));
        let all = spread((0..self.kinds.len()).flat_map(values).collect());
        let [_, least, most] = all.ok_or("nothing to draw")?;
        // What is far out is drawn at the edge.
        let (low, high, caption) = match ratios {
            true => (
                least.clamp(0.25, 0.9),
                most.clamp(2.0, 40.0),
                format!(
                    "Time as a multiple of {}'s, which is in brackets (median of {} rounds; left is \
                     faster; what is at an edge may be far beyond it)",
                    self.kinds[0].title, self.rounds
                ),
            ),
            false => (
                least * 0.8,
                most * 1.25,
                format!("Time (median of {} rounds)", self.rounds),
            ),
        };
        let name = |at: &SegmentValue<usize>| match at {
            SegmentValue::CenterOf(at) | SegmentValue::Exact(at) if *at < self.rows.len() => {
                let row = &self.rows[self.rows.len() - 1 - at];
                let first = row
                    .spread(0)
                    .map_or("–".into(), |[median, ..]| time(median));
                format!("{} ({first})", row.name)
            }
            _ => String::new(),
        };
        let tick = |value: &f64| match ratios {
            true => format!("×{}", short(*value)),
            false => time(*value),
        };
        let mut svg = String::new();
        {
            let height = 110 + 20 * self.rows.len() as u32;
            let area = SVGBackend::with_string(&mut svg, (1000, height)).into_drawing_area();
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(caption, ("sans-serif", 13))
                .margin(12)
                .x_label_area_size(30)
                .y_label_area_size(330)
                .build_cartesian_2d(
                    (low..high).log_scale(),
                    (0..self.rows.len()).into_segmented(),
                )?;
            chart
                .configure_mesh()
                .y_labels(self.rows.len())
                .y_label_formatter(&name)
                .x_label_formatter(&tick)
                .draw()?;
            // This crate's own dots are on top.
            for (way, kind) in self.kinds.iter().enumerate().rev() {
                let style = COLOURS[way % COLOURS.len()].filled();
                let size = if way == 0 && ratios { 2 } else { 5 };
                let dots = self.rows.iter().rev().enumerate().filter_map(|(at, row)| {
                    let x = value(row, way)?.clamp(low, high);
                    Some(Circle::new((x, SegmentValue::CenterOf(at)), size, style))
                });
                let legend = move |at| Circle::new(at, 5, style);
                chart.draw_series(dots)?.label(kind.title).legend(legend);
            }
            let mut labels = chart.configure_series_labels();
            labels
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK)
                .draw()?;
            area.present()?;
        }
        Ok(svg)
    }
}

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x44, 0x44, 0x44),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xbb, 0xbb, 0xbb),
];

/// What each way costs, as a table in Markdown or as JSON.
pub fn costs(kinds: &[&'static Kind], costs: &[Costs], as_json: bool) -> String {
    let operations = costs
        .iter()
        .max_by_key(|costs| costs.len())
        .into_iter()
        .flatten();
    let cost = |costs: &Costs, operation: &str| {
        let found = costs.iter().find(|(name, _)| name == operation);
        found.and_then(|(_, cost)| cost.as_ref().map(|cost| json!(cost)))
    };
    let rows = operations.map(|(operation, _)| {
        let cells = costs.iter().map(|costs| cost(costs, operation));
        (operation.clone(), cells.collect::<Vec<_>>())
    });
    if as_json {
        let rows = rows.map(|(operation, cells)| {
            let names = kinds.iter().map(|kind| kind.name.to_owned());
            json!({ "operation": operation, "costs": Value::from_iter(names.zip(cells)) })
        });
        return format!("{:#}\n", Value::from_iter(rows));
    }
    let rows = rows.map(|(operation, cells)| {
        let unit = if operation == "open stream" { " B" } else { "" };
        let text = |cell: Option<Value>| match cell {
            Some(cost) => {
                let text = format!(
                    "{} · {} · {}{unit}",
                    cost["calls"], cost["handles"], cost["heap"]
                );
                text.replace("null", "–").replace(".0 ", " ")
            }
            None => "–".into(),
        };
        (operation, cells.into_iter().map(text).collect())
    });
    format!(
        "System calls · kernel handles more than before · allocations (or bytes on the heap).\n\n{}",
        markdown("operation", kinds, rows.collect())
    )
}

fn markdown(first: &str, kinds: &[&'static Kind], rows: Vec<(String, Vec<String>)>) -> String {
    let titles = kinds.iter().map(|kind| kind.title.to_owned()).collect();
    let line = vec!["---".to_owned(); kinds.len()];
    let heads = [(first.into(), titles), ("---".into(), line)];
    let rows = heads.into_iter().chain(rows);
    rows.map(|(name, cells)| format!("| {name} | {} |\n", cells.join(" | ")))
        .collect()
}

/// Three digits.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn unit(nanoseconds: f64) -> (f64, &'static str) {
    match nanoseconds {
        ..1e3 => (1.0, "ns"),
        1e3..1e6 => (1e3, "µs"),
        1e6..1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    }
}

fn time(nanoseconds: f64) -> String {
    let (unit, name) = unit(nanoseconds);
    format!("{} {name}", short(nanoseconds / unit))
}

fn in_one_unit(spread: [f64; 3]) -> String {
    let (unit, name) = unit(spread[0]);
    let [median, least, most] = spread.map(|value| short(value / unit));
    format!("{median} {name} ({least}–{most})")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        row.add(1, Err(Failure::Missing), Duration::ZERO);
        assert!(row.is_done(0) && row.is_done(1));
        assert!(row.spread(0).is_some() && row.ratio(1).is_none());
    }
}
