//! What was measured, as a table, as JSON and as a picture.

use std::fmt::Write;
use std::time::Duration;

use crate::Failure;
use crate::worker::Kind;

/// One sample that takes longer is enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// All that was measured.
pub struct Report<'a> {
    kinds: &'a [&'static Kind],
    rounds: usize,
    /// A row for each case.
    pub rows: Vec<Row>,
}

/// One case.
pub struct Row {
    name: String,
    ways: Vec<Cell>,
    /// The ways that take too long, and are not tried again.
    too_slow: Vec<bool>,
}

/// One case with one way: the nanoseconds of each round, or why there are none.
type Cell = Result<Vec<f64>, Failure>;

/// The middle, the least and the most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread {
            median,
            least,
            most,
        })
    }
}

impl Row {
    /// A case that nothing is known of yet.
    pub fn new(name: &str, ways: usize) -> Row {
        Row {
            name: name.into(),
            ways: (0..ways).map(|_| Ok(Vec::new())).collect(),
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

    fn spread(&self, way: usize) -> Option<Spread> {
        Spread::of(self.ways[way].as_ref().ok()?.clone())
    }

    /// How many times as long as the first way it took: of the ratios of each round, the median.
    fn ratio(&self, way: usize) -> Option<f64> {
        let (times, firsts) = (self.ways[way].as_ref().ok()?, self.ways[0].as_ref().ok()?);
        let ratios = times.iter().zip(firsts).map(|(time, first)| time / first);
        Spread::of(ratios.collect()).map(|ratios| ratios.median)
    }
}

impl<'a> Report<'a> {
    /// A report without rows.
    pub fn new(kinds: &'a [&'static Kind], rounds: usize) -> Report<'a> {
        Report {
            kinds,
            rounds,
            rows: Vec::new(),
        }
    }

    /// A table in Markdown, and below it what failed and why.
    pub fn table(&self) -> String {
        let mut table = format!(
            "Median of {} rounds (least–most), and × the first column's.\n\n| case |",
            self.rounds
        );
        for kind in self.kinds {
            let _ = write!(table, " {} |", kind.title);
        }
        let _ = writeln!(table, "\n|---|{}", "---|".repeat(self.kinds.len()));
        let mut failures = String::new();
        for row in &self.rows {
            let _ = write!(table, "| {} |", row.name);
            for (way, cell) in row.ways.iter().enumerate() {
                let text = match (cell, row.spread(way)) {
                    (Err(Failure::Failed(reason)), _) => {
                        let title = self.kinds[way].title;
                        let _ = writeln!(failures, "- {}, {title}: {reason}", row.name);
                        "failed".into()
                    }
                    (Ok(_), Some(spread)) => {
                        let times = in_one_unit(&spread);
                        match row.ratio(way) {
                            Some(ratio) if way > 0 => format!("{times} **×{}**", short(ratio)),
                            _ => times,
                        }
                    }
                    _ => "–".into(),
                };
                let _ = write!(table, " {text} |");
            }
            table.push('\n');
        }
        if !failures.is_empty() {
            let _ = write!(table, "\nFailed:\n{failures}");
        }
        table
    }

    /// All times of all rounds, in nanoseconds.
    pub fn json(&self) -> String {
        let mut rows = Vec::new();
        for row in &self.rows {
            let mut ways = Vec::new();
            for (way, (kind, cell)) in self.kinds.iter().zip(&row.ways).enumerate() {
                let value = match (cell, row.spread(way)) {
                    (Err(Failure::Failed(reason)), _) => {
                        format!("{{\"failed\":{}}}", quote(reason))
                    }
                    (Ok(times), Some(spread)) => format!(
                        "{{\"median\":{:.1},\"least\":{:.1},\"most\":{:.1},\"ratio\":{},\"rounds\":[{}]}}",
                        spread.median,
                        spread.least,
                        spread.most,
                        row.ratio(way)
                            .map_or("null".into(), |ratio| format!("{ratio:.4}")),
                        times
                            .iter()
                            .map(|time| format!("{time:.1}"))
                            .collect::<Vec<_>>()
                            .join(","),
                    ),
                    _ => "null".into(),
                };
                ways.push(format!("{}:{value}", quote(kind.name)));
            }
            rows.push(format!(
                "  {{\"case\":{},\"nanoseconds\":{{{}}}}}",
                quote(&row.name),
                ways.join(",")
            ));
        }
        format!("[\n{}\n]\n", rows.join(",\n"))
    }

    /// A picture in SVG: a line for each case and a dot for each way, at how many times as long as the
    /// first way it took. Where there is one way only, at the time.
    pub fn plot(&self) -> String {
        const LEFT: f64 = 250.0;
        const WIDTH: f64 = 640.0;
        const TOP: f64 = 70.0;
        const LINE: f64 = 20.0;
        const COLOURS: [&str; 6] = [
            "#444444", "#d62728", "#9467bd", "#1f77b4", "#2ca02c", "#bbbbbb",
        ];
        let ratios = self.kinds.len() > 1;
        let value = |row: &Row, way: usize| match ratios {
            true => row.ratio(way),
            false => row.spread(way).map(|spread| spread.median),
        };
        let values = self
            .rows
            .iter()
            .flat_map(|row| (0..self.kinds.len()).filter_map(move |way| value(row, way)));
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        // What is far out is drawn at the edge.
        let (low, high) = match ratios {
            true => (least.clamp(0.25, 0.9), most.clamp(2.0, 40.0)),
            false => (least * 0.8, most * 1.25),
        };
        let at = |value: f64| {
            let part = (value.clamp(low, high) / low).ln() / (high / low).ln();
            LEFT + part.clamp(0.0, 1.0) * WIDTH
        };
        let bottom = TOP + LINE * self.rows.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" \
             viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            LEFT + WIDTH + 110.0,
            bottom + 30.0,
        );
        let text = |svg: &mut String, x: f64, y: f64, anchor: &str, text: &str| {
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(
                svg,
                "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>"
            );
        };
        let what = match ratios {
            true => format!(
                "Time as a multiple of {}'s, which is at the right (median of {} rounds; left is \
                 faster; what is at an edge may be far beyond it)",
                self.kinds[0].title, self.rounds
            ),
            false => format!("Time (median of {} rounds)", self.rounds),
        };
        text(&mut svg, 10.0, 20.0, "start", &what);
        for (way, kind) in self.kinds.iter().enumerate() {
            let x = LEFT + 130.0 * (way as f64 - 1.0);
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.0}\" cy=\"40\" r=\"5\" fill=\"{}\"/>",
                COLOURS[way % COLOURS.len()]
            );
            text(&mut svg, x + 9.0, 44.0, "start", kind.title);
        }
        for tick in (-3..40).flat_map(|power| {
            let ten = 10_f64.powi(power);
            [ten, ten * 2.0, ten * 5.0]
        }) {
            if (low..=high).contains(&tick) {
                let (x, strong) = (at(tick), ratios && tick == 1.0);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{}\"/>",
                    if strong { "#444444" } else { "#e4e4e4" }
                );
                let label = match ratios {
                    true => format!("×{tick}"),
                    // For more there is no room.
                    false if tick.log10().fract() == 0.0 => time(tick),
                    false => String::new(),
                };
                text(&mut svg, x, bottom + 16.0, "middle", &label);
            }
        }
        for (line, row) in self.rows.iter().enumerate() {
            let y = TOP + LINE * (line as f64 + 0.5);
            text(&mut svg, LEFT - 12.0, y + 4.0, "end", &row.name);
            if let Some(first) = row.spread(0) {
                let x = LEFT + WIDTH + 100.0;
                text(&mut svg, x, y + 4.0, "end", &time(first.median));
            }
            // This crate's own dot is on top.
            for way in (0..self.kinds.len()).rev() {
                if let Some(value) = value(row, way) {
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"{}\" fill=\"{}\"><title>{} {}</title></circle>",
                        at(value),
                        if way == 0 && ratios { 2 } else { 5 },
                        COLOURS[way % COLOURS.len()],
                        self.kinds[way].title,
                        short(value)
                    );
                }
            }
        }
        svg + "</svg>\n"
    }
}

/// Text as JSON has it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..' ' => quoted.push(' '),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
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

fn in_one_unit(spread: &Spread) -> String {
    let (unit, name) = unit(spread.median);
    let [median, least, most] =
        [spread.median, spread.least, spread.most].map(|value| short(value / unit));
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
        row.add(1, Err(Failure::None), Duration::ZERO);
        assert!(row.is_done(0) && row.is_done(1));
        assert!(row.spread(0).is_some() && row.ratio(1).is_none());
    }
}
