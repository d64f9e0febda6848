//! What was measured or counted, as a table and as JSON; what was measured, as a picture too.

use std::time::Duration;

use serde_json::{Value, json};
use statrs::statistics::{Data, Max, Min, OrderStatistics};

use crate::count::Costs;
use crate::worker::Failure;

/// One sample that takes longer is enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// A way's names on the command line and in tables, and what its processes do.
#[derive(Clone)]
pub struct Way {
    pub name: String,
    pub title: String,
    pub be: crate::Be,
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
        spread(self.ways[way].clone().ok()?)
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
            (Ok(rounds), Some([median, least, most])) => {
                let ratio = self.ratio(way);
                let mut text = times([median, least, most]);
                if let (1.., Some(ratio)) = (way, ratio) {
                    text += &format!(" **×{}**", short(ratio));
                }
                (
                    text,
                    json!({ "median": median, "least": least, "most": most, "ratio": ratio,
                    "rounds": rounds }),
                )
            }
            _ => ("–".into(), Value::Null),
        }
    }
}

/// What was measured, as a table, and what failed and why; or as JSON.
pub fn measured(ways: &[Way], rounds: usize, rows: &[Row], as_json: bool) -> String {
    let head = format!("Median of {rounds} rounds (least–most), and × the first column's.");
    let cells = |row: &Row| (0..ways.len()).map(|way| row.cell(way)).collect();
    let all = rows.iter().map(|row| (row.name.clone(), cells(row))).collect();
    let mut text = render(&head, ["case", "nanoseconds"], ways, all, as_json);
    for row in rows.iter().filter(|_| !as_json) {
        for (result, way) in row.ways.iter().zip(ways) {
            if let Err(Some(reason)) = result {
                text += &format!("\nFailed: {}, {}: {reason}\n", row.name, way.title);
            }
        }
    }
    text
}

/// What was counted, as a table or as JSON.
pub fn counted(ways: &[Way], costs: Vec<Costs>, as_json: bool) -> String {
    const HEAD: &str =
        "System calls · kernel handles more than before · allocations (or bytes on the heap).";
    let known = |number: Option<f64>| number.map_or("–".into(), |it| it.to_string());
    let cell = |costs: &Costs, at: usize| match costs.get(at) {
        Some((operation, Some(cost))) => {
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
    render(HEAD, ["operation", "costs"], ways, rows.collect(), as_json)
}

/// A cell in a table and in JSON.
type Cell = (String, Value);

/// A table in Markdown below a line about it, or JSON.
fn render(
    head: &str,
    [row, cell]: [&str; 2],
    ways: &[Way],
    rows: Vec<(String, Vec<Cell>)>,
    as_json: bool,
) -> String {
    if as_json {
        let rows = rows.into_iter().map(|(name, cells)| {
            let cells = ways.iter().zip(cells).map(|(way, (_, json))| (way.name.clone(), json));
            json!({ row: name, cell: Value::from_iter(cells) })
        });
        return format!("{:#}\n", Value::from_iter(rows));
    }
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let titles = ways.iter().map(|way| &*way.title);
    let mut text = format!("{head}\n\n") + &line([row].into_iter().chain(titles).collect());
    text += &line(vec!["---"; ways.len() + 1]);
    for (name, cells) in &rows {
        let cells = cells.iter().map(|(text, _)| &**text);
        text += &line([&**name].into_iter().chain(cells).collect());
    }
    text
}

/// A picture in SVG: a line for each case and a dot for each way, at how many times as long as the
/// first way it took.
pub fn plot(ways: &[Way], rounds: usize, rows: &[Row]) -> String {
    const COLOURS: [&str; 6] = ["#444", "#d62728", "#9467bd", "#1f77b4", "#2ca02c", "#bbb"];
    const SCALE: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0];
    // What is far out is drawn at the edge.
    let x = |ratio: f64| 400.0 + 95.0 * (ratio.clamp(0.25, 40.0) / 0.25).log2();
    let (y, bottom) = (|row: usize| 70 + 20 * row, 70 + 20 * rows.len());
    let mut body = String::new();
    for ratio in SCALE {
        let x = x(ratio);
        body += &format!("<path d='M{x} 55V{bottom}'/><text x='{x}' y='50'>×{ratio}</text>\n");
    }
    for (at, row) in rows.iter().enumerate() {
        let (y, first) = (y(at), row.spread(0).map_or("–".into(), times));
        body += &format!("<path d='M400 {y}H1096'/><text y='{y}'>{}: {first}</text>\n", row.name);
        // This crate's own dots are on top.
        for way in (0..ways.len()).rev() {
            let (radius, colour) = (if way == 0 { 2 } else { 5 }, COLOURS[way % COLOURS.len()]);
            if let Some(x) = row.ratio(way).map(x) {
                body += &format!("<circle cx='{x:.1}' cy='{y}' r='{radius}' fill='{colour}'/>\n");
            }
        }
    }
    for (way, Way { title, .. }) in ways.iter().enumerate() {
        let (x, colour) = (180 * way, COLOURS[way % COLOURS.len()]);
        body += &format!("<text x='{x}' y='30' fill='{colour}'>● {title}</text>\n");
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='-12 0 1150 {}' font-family='sans-serif' \
         font-size='12' stroke-width='0.5'>\n<style>path {{ stroke: #ccc }}</style>\n\
         <rect x='-12' width='1150' height='100%' fill='white'/>\n<text y='14'>Time as a multiple of \
         {}'s (median of {rounds} rounds; what is at an edge may be far beyond it)</text>\n{body}</svg>\n",
        bottom + 10,
        ways[0].title
    )
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
