//! Times winpipe against the raw calls, its predecessor and its neighbours, or counts what each costs.
//!
//! The same work is done by each way in turn, round after round. Each way has a process of its own,
//! which is ended if it hangs. Ratios are medians over the rounds, as the machine may be busy in one
//! round and not in the next.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cases::Size;
use report::{Report, Row};
use worker::{Failure, KINDS, Kind, Worker};

mod cases;
mod count;
mod report;
mod ways;
mod worker;

const USAGE: &str = "\
winpipe-bench [OPTIONS]

  --rounds N        how often each way does each case (21)
  --case SUBSTRING  only the cases whose name contains it; may be repeated
  --way NAME        only this way and the first, which others are compared to; may be repeated
  --quick           short rounds, and 3 of them: to try it out
  --list            print the names of cases and ways, and no more
  --json            print JSON instead of a table
  --plot FILE.svg   draw it, too
  --count           count system calls, kernel handles and allocations instead of timing
";

struct Options {
    rounds: Option<usize>,
    cases: Vec<String>,
    ways: Vec<String>,
    quick: bool,
    list: bool,
    json: bool,
    plot: Option<String>,
    count: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let result = match (args.next().as_deref(), args.next()) {
        (Some("--worker"), Some(way)) => named(&way).and_then(Kind::be_a_worker),
        (Some("--peer"), Some(way)) => named(&way).and_then(Kind::be_a_peer),
        (Some("--counter"), Some(way)) => named(&way).and_then(Kind::count),
        _ => parse(std::env::args().skip(1)).and_then(|options| run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("winpipe-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn named(way: &str) -> io::Result<&'static Kind> {
    Kind::named(way).ok_or_else(|| io::Error::other(format!("no way is named {way}")))
}

fn parse(mut args: impl Iterator<Item = String>) -> io::Result<Options> {
    let mut options = Options {
        rounds: None,
        cases: Vec::new(),
        ways: Vec::new(),
        quick: false,
        list: false,
        json: false,
        plot: None,
        count: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| usage(&arg));
        match &*arg {
            "--rounds" => options.rounds = Some(value()?.parse().map_err(|_| usage(&arg))?),
            "--case" => options.cases.push(value()?),
            "--way" => options.ways.push(named(&value()?)?.name.into()),
            "--quick" => options.quick = true,
            "--list" => options.list = true,
            "--json" => options.json = true,
            "--plot" => options.plot = Some(value()?),
            "--count" => options.count = true,
            _ => return Err(usage(&arg)),
        }
    }
    Ok(options)
}

fn usage(arg: &str) -> io::Error {
    io::Error::other(format!("{arg}?\n\n{USAGE}"))
}

fn run(options: &Options) -> io::Result<()> {
    let cases = cases::all();
    let kinds: Vec<_> = KINDS
        .iter()
        .enumerate()
        .filter(|(at, kind)| {
            *at == 0 || options.ways.is_empty() || options.ways.iter().any(|way| way == kind.name)
        })
        .map(|(_, kind)| kind)
        .collect();
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        KINDS
            .iter()
            .for_each(|kind| println!("--way {}: {}", kind.name, kind.title));
        return Ok(());
    }
    if options.count {
        return count::print(&kinds, options.json);
    }

    let (rounds, size) = if options.quick {
        (
            3,
            Size {
                time: Duration::from_millis(15),
                connections: 40,
            },
        )
    } else {
        (
            21,
            Size {
                time: Duration::from_millis(40),
                connections: 2000,
            },
        )
    };
    let rounds = options.rounds.unwrap_or(rounds).max(1);
    let mut workers: Vec<_> = kinds.iter().map(|kind| Worker::new(kind)).collect();
    let mut report = Report::new(&kinds, rounds);
    for (at, case) in cases.iter().enumerate() {
        let wanted = &options.cases;
        if !wanted.is_empty() && !wanted.iter().any(|part| case.name.contains(&**part)) {
            continue;
        }
        eprint!("{} ", case.name);
        let start = Instant::now();
        let mut row = Row::new(&case.name, kinds.len());
        for round in 0..rounds {
            // None is always the first.
            for turn in 0..workers.len() {
                let way = (round + turn) % workers.len();
                if row.is_done(way) {
                    continue;
                }
                let start = Instant::now();
                row.add(way, workers[way].sample(at, size), start.elapsed());
            }
            eprint!(".");
        }
        eprintln!(" {:.1?}", start.elapsed());
        report.rows.push(row);
    }
    if options.json {
        print!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    if let Some(file) = &options.plot {
        std::fs::write(file, report.plot())?;
    }
    Ok(())
}
