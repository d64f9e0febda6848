//! Times winpipe against the raw calls, its predecessor and its neighbours, or counts what each costs.
//!
//! Each way does the same work, round after round, in a process of its own, which is ended if it hangs.
//! Ratios are medians over the rounds, as the machine may be busy in one round and not in the next.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use report::{Row, Way};
use ways::*;
use worker::{Running, Task};

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
    /// Be a process for that way: what this program starts itself for
    #[arg(long, hide = true, value_parser = named)]
    be: Option<Way>,
}

/// Is a process for the way of this name.
type Be = fn(&str) -> io::Result<()>;

/// All ways, by their names on the command line and in tables; the first is the one that the others are
/// compared to.
#[cfg(windows)]
const WAYS: &[(&str, &str, Be)] = &[
    ("raw", "raw", |name| worker::be(raw::Raw::Chunks, name)),
    ("winpipe", "winpipe", |name| worker::be(blocking::Winpipe(buffers(name)), name)),
    ("old", "winpipe 0.1.1", |name| worker::be(blocking::Old, name)),
    ("interprocess", "interprocess 2.4", |name| worker::be(blocking::Interprocess, name)),
    ("async", "winpipe::tokio", |name| worker::be(asynchronous::Asynchronous, name)),
    ("tokio", "tokio 1", |name| worker::be(tokio::Tokio, name)),
    ("bare", "raw, bare", |name| worker::be(raw::Raw::Bare, name)),
];
#[cfg(unix)]
const WAYS: &[(&str, &str, Be)] = &[
    ("std", "std UnixStream", |name| worker::be(blocking::Winpipe(None), name)),
    ("async", "tokio UnixStream", |name| worker::be(asynchronous::Asynchronous, name)),
];

/// The size in `winpipe:BYTES`.
fn buffers(way: &str) -> Option<usize> {
    way.strip_prefix("winpipe:")?.parse().ok()
}

fn named(way: &str) -> Result<Way, &'static str> {
    let kind = buffers(way).map_or(way, |_| "winpipe");
    let (name, title, be) = WAYS.iter().find(|(name, ..)| *name == kind).ok_or("no such way")?;
    let title = way.replacen(':', ", buffers of ", 1).replacen(name, title, 1);
    Ok(Way { name: way.into(), title, be: *be })
}

fn main() -> io::Result<()> {
    let mut options = Options::parse();
    if let Some(way) = options.be {
        return (way.be)(&way.name);
    }
    let others = if options.way.is_empty() { WAYS } else { &WAYS[..1] };
    let mut ways: Vec<_> = others.iter().flat_map(|(name, ..)| named(name)).collect();
    options.way.retain(|way| way.name != ways[0].name);
    ways.append(&mut options.way);
    let cases = cases::all().into_iter().filter(|case| {
        let named = || options.case.iter().any(|part| case.name.contains(part));
        (case.in_matrix || !options.matrix)
            && if options.case.is_empty() { case.in_matrix == options.matrix } else { named() }
    });
    if options.list {
        cases.for_each(|case| println!("{}", case.name));
        ways.iter().for_each(|way| println!("--way {}: {}", way.name, way.title));
        return Ok(());
    }
    let mut workers: Vec<_> = ways.iter().map(|way| Running::new(&way.name)).collect();
    if options.count {
        // One that fails has no costs.
        let costs = workers.iter_mut().map(|it| it.ask(&Task::Count).unwrap_or_default());
        print!("{}", report::counted(&ways, costs.collect(), options.json));
        return Ok(());
    }

    let (rounds, time, connections) = if options.quick { (3, 15, 40) } else { (21, 40, 2000) };
    let time = Duration::from_millis(time);
    let rounds = options.rounds.unwrap_or(rounds).max(1);
    let mut rows = Vec::new();
    for case in cases {
        eprint!("{} ", case.name);
        let start = Instant::now();
        let mut row = Row::new(&case.name, ways.len());
        let task = Task::Sample { case, time, connections };
        for round in 0..rounds {
            // None is always the first.
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                if !row.is_done(way) {
                    let start = Instant::now();
                    let result = workers[way].ask(&task);
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
        std::fs::write(file, report::plot(&ways, rounds, &rows))?;
    }
    Ok(())
}
