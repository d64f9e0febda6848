//! Times winpipe against the raw calls, its predecessor and its neighbours, or counts what each costs.
//!
//! Each way does the same work, round after round, in a process of its own, which is ended if it hangs.
//! Ratios are medians over the rounds, as the machine may be busy in one round and not in the next.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cases::Size;
use clap::Parser;
use report::Row;
use worker::{KINDS, Kind, Worker};

mod cases;
mod count;
mod report;
mod way;
mod ways {
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
    /// Only the cases whose name contains it; may be repeated
    #[arg(long, value_name = "SUBSTRING")]
    case: Vec<String>,
    /// Only this way and the first, which others are compared to; may be repeated
    #[arg(long, value_name = "NAME", value_parser = named)]
    way: Vec<&'static Kind>,
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
    with: Option<&'static Kind>,
}

fn named(way: &str) -> Result<&'static Kind, String> {
    let found = KINDS.iter().find(|kind| kind.name == way);
    found.ok_or_else(|| format!("no way is named {way}"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    match (&options.role, options.with) {
        (Some(role), Some(way)) => Ok((way.be)(role)?),
        _ => run(&options),
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let wanted = |(at, kind): &(usize, &Kind)| {
        let chosen = |way: &&Kind| way.name == kind.name;
        *at == 0 || options.way.is_empty() || options.way.iter().any(chosen)
    };
    let kinds: Vec<_> = KINDS.iter().enumerate().filter(wanted).map(|(_, kind)| kind).collect();
    let cases = (KINDS[0].cases)();
    if options.list {
        cases.iter().for_each(|case| println!("{case}"));
        KINDS.iter().for_each(|kind| println!("--way {}: {}", kind.name, kind.title));
        return Ok(());
    }
    if options.count {
        let costs = kinds.iter().map(|kind| worker::counted(kind));
        let costs = costs.collect::<Result<Vec<_>, _>>()?;
        print!("{}", report::counted(&kinds, &costs, options.json));
        return Ok(());
    }

    let (rounds, milliseconds, connections) =
        if options.quick { (3, 15, 40) } else { (21, 40, 2000) };
    let size = Size { time: Duration::from_millis(milliseconds), connections };
    let rounds = options.rounds.unwrap_or(rounds).max(1);
    let mut workers: Vec<_> = kinds.iter().map(|kind| Worker::new(kind)).collect();
    let mut rows = Vec::new();
    for case in &cases {
        let wanted = &options.case;
        if !wanted.is_empty() && !wanted.iter().any(|part| case.contains(&**part)) {
            continue;
        }
        eprint!("{case} ");
        let start = Instant::now();
        let mut row = Row::new(case, kinds.len());
        for round in 0..rounds {
            // None is always the first.
            for turn in 0..workers.len() {
                let way = (round + turn) % workers.len();
                if !row.is_done(way) {
                    let start = Instant::now();
                    row.add(way, workers[way].sample(case, size), start.elapsed());
                }
            }
            eprint!(".");
        }
        eprintln!(" {:.1?}", start.elapsed());
        rows.push(row);
    }
    print!("{}", report::measured(&kinds, rounds, &rows, options.json));
    if let Some(file) = &options.plot {
        std::fs::write(file, report::plot(&kinds, rounds, &rows)?)?;
    }
    Ok(())
}
