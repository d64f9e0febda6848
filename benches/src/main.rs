//! Times winpipe against the raw calls, its predecessor and its neighbours, or counts what each costs.
//!
//! Each way does the same work, round after round, in a process of its own, which is ended if it hangs.
//! Ratios are medians over the rounds, as the machine may be busy in one round and not in the next.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use report::{Row, Way};
use worker::Running;

mod cases;
mod count;
mod report;
mod way;
mod ways {
    pub mod asynchronous;
    pub mod blocking;
    #[cfg(windows)]
    pub mod raw;
    #[cfg(windows)]
    pub mod tokio;
}
mod worker;

/// Times winpipe against the raw calls and its neighbours, and counts what each costs
#[derive(Parser)]
#[command(name = "winpipe-bench")]
struct Options {
    /// How often each way does each case [default: 21]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only the cases whose name contains it, those of the matrix too; may be repeated
    #[arg(long, value_name = "SUBSTRING")]
    case: Vec<String>,
    /// Only the bulk matrix: writes of 64 B to 16 MiB, readers' buffers of 4 KiB to 1 MiB
    #[arg(long)]
    matrix: bool,
    /// Only this way and the first, which others are compared to; may be repeated. winpipe:BYTES is
    /// winpipe with buffers of that size
    #[arg(long, value_name = "NAME", value_parser = named)]
    way: Vec<Way>,
    /// Short rounds, and 3 of them: to try it out
    #[arg(long)]
    quick: bool,
    /// Print the names of cases and ways, and no more
    #[arg(long)]
    list: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Draw it, too
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Count system calls, kernel handles and allocations instead of timing
    #[arg(long)]
    count: bool,
    /// What this program starts itself for, and with which way.
    #[arg(hide = true, requires = "with")]
    role: Option<String>,
    #[arg(hide = true, value_parser = named)]
    with: Option<Way>,
}

/// All ways, by their names on the command line and in tables; the first is the one that the others are
/// compared to.
#[cfg(windows)]
const WAYS: &[(&str, &str)] = &[
    ("raw", "raw"),
    ("winpipe", "winpipe"),
    ("old", "winpipe 0.1.1"),
    ("interprocess", "interprocess 2.4"),
    ("async", "winpipe::tokio"),
    ("tokio", "tokio 1"),
    ("bare", "raw, bare"),
];
#[cfg(unix)]
const WAYS: &[(&str, &str)] = &[("std", "std UnixStream"), ("async", "tokio UnixStream")];

/// Is a process for one of the ways.
fn be(way: &str, role: &str) -> io::Result<()> {
    use ways::*;
    match way {
        "async" => worker::be(asynchronous::Asynchronous, way, role),
        #[cfg(windows)]
        "raw" => worker::be(raw::Raw::Chunks, way, role),
        #[cfg(windows)]
        "bare" => worker::be(raw::Raw::Bare, way, role),
        #[cfg(windows)]
        "old" => worker::be(blocking::Old, way, role),
        #[cfg(windows)]
        "interprocess" => worker::be(blocking::Interprocess, way, role),
        #[cfg(windows)]
        "tokio" => worker::be(tokio::Tokio, way, role),
        _ => worker::be(blocking::Winpipe(buffers(way)), way, role),
    }
}

/// The size in `winpipe:BYTES`.
fn buffers(way: &str) -> Option<usize> {
    way.strip_prefix("winpipe:")?.parse().ok()
}

fn named(way: &str) -> Result<Way, String> {
    if cfg!(windows) && buffers(way).is_some() {
        return Ok((way.into(), way.replacen(':', ", buffers of ", 1)));
    }
    let found = WAYS.iter().find(|(name, _)| *name == way);
    found.map(|(name, title)| (name.to_string(), title.to_string())).ok_or("no such way".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if let (Some(role), Some((way, _))) = (&options.role, &options.with) {
        return Ok(be(way, role)?);
    }
    let mut ways = options.way.clone();
    for (at, (name, _)) in WAYS.iter().enumerate().rev() {
        if at == 0 || options.way.is_empty() {
            ways.retain(|(way, _)| way != name);
            ways.insert(0, named(name)?);
        }
    }
    let cases = cases::all().into_iter().filter(|case| {
        let named = || options.case.iter().any(|part| case.name.contains(part));
        (case.in_matrix || !options.matrix)
            && if options.case.is_empty() { case.in_matrix == options.matrix } else { named() }
    });
    if options.list {
        cases.for_each(|case| println!("{}", case.name));
        ways.iter().for_each(|(name, title)| println!("--way {name}: {title}"));
        return Ok(());
    }
    if options.count {
        // One that fails has no costs.
        let cost = |(way, _): &Way| Running::new(way, "counter").ask("").unwrap_or_default();
        print!("{}", report::counted(&ways, ways.iter().map(cost).collect(), options.json));
        return Ok(());
    }

    let (rounds, time, connections) = if options.quick { (3, 15, 40) } else { (21, 40, 2000) };
    let time = Duration::from_millis(time);
    let rounds = options.rounds.unwrap_or(rounds).max(1);
    let mut workers: Vec<_> = ways.iter().map(|(way, _)| Running::new(way, "worker")).collect();
    let mut rows = Vec::new();
    for case in cases {
        eprint!("{} ", case.name);
        let start = Instant::now();
        let mut row = Row::new(&case.name, ways.len());
        for round in 0..rounds {
            // None is always the first.
            for turn in 0..workers.len() {
                let way = (round + turn) % workers.len();
                if !row.is_done(way) {
                    let start = Instant::now();
                    let result = workers[way].sample((&case.name, time, connections));
                    row.add(way, result, start.elapsed());
                }
            }
            eprint!(".");
        }
        eprintln!(" {:.1?}", start.elapsed());
        rows.push(row);
    }
    print!("{}", report::measured(&ways, rounds, &rows, options.json));
    if let Some(file) = &options.plot {
        std::fs::write(file, report::plot(&ways, rounds, &rows)?)?;
    }
    Ok(())
}
