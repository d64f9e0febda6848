//! The processes that work: one for each way, so that none disturbs another and one that hangs can be
//! ended.
//!
//! A worker reads lines from standard input, `CASE MILLISECONDS CONNECTIONS`, and answers each on
//! standard output: `ok NANOSECONDS`, `none` where the way has no such thing, or `failed REASON`.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::cases::{self, Size};
use crate::count;
use crate::ways::{self, Way};

/// How long a sample may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Why there is no time.
#[derive(Clone)]
pub enum Failure {
    /// The way has no such thing.
    None,
    /// It has, but it didn't work.
    Failed(String),
}

/// What workers are started for.
pub struct Kind {
    /// On the command line.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    serve: fn() -> io::Result<()>,
    echo: fn() -> io::Result<()>,
    count: fn() -> io::Result<()>,
}

const fn kind<W: Way>(name: &'static str, title: &'static str) -> Kind {
    Kind {
        name,
        title,
        serve: serve::<W>,
        echo: cases::be_the_peer::<W>,
        count: count::run::<W>,
    }
}

/// All ways; the first is the one that the others are compared to.
#[cfg(windows)]
pub const KINDS: &[Kind] = &[
    kind::<ways::raw::Raw>("raw", "raw"),
    kind::<ways::libraries::Winpipe>("winpipe", "winpipe"),
    kind::<ways::libraries::Old>("old", "winpipe 0.1.1"),
    kind::<ways::libraries::Interprocess>("interprocess", "interprocess 2.4"),
    kind::<ways::tokio::Tokio>("tokio", "tokio 1"),
    kind::<ways::raw::Bare>("bare", "raw, bare"),
];

/// All ways; the first is the one that the others are compared to.
#[cfg(unix)]
pub const KINDS: &[Kind] = &[kind::<ways::unix::Std>("std", "std UnixStream")];

impl Kind {
    /// Finds the way of that name.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Is a worker, until standard input ends.
    pub fn be_a_worker(&self) -> io::Result<()> {
        (self.serve)()
    }

    /// Is the other process of a worker.
    pub fn be_a_peer(&self) -> io::Result<()> {
        (self.echo)()
    }

    /// Prints what this way costs.
    pub fn count(&self) -> io::Result<()> {
        (self.count)()
    }
}

/// The way that this process was started for.
pub fn name_of_this_way() -> String {
    std::env::args().nth(2).unwrap_or_default()
}

fn serve<W: Way>() -> io::Result<()> {
    let cases = cases::all();
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(io::stdin()).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
        // Nobody waits for an answer any more, even where the work hangs.
        std::process::exit(0);
    });
    for line in lines {
        let numbers: Option<Vec<usize>> = line.split(' ').map(|word| word.parse().ok()).collect();
        let Some(&[case, milliseconds, connections]) = numbers.as_deref() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let size = Size {
            time: Duration::from_millis(milliseconds as u64),
            connections,
        };
        match cases::sample::<W>(cases[case].work, size) {
            Ok(nanoseconds) => answer(&format!("ok {nanoseconds}")),
            Err(error) => fail(&error),
        }
    }
    Ok(())
}

/// Answers that it didn't work, and ends the process: threads may be left that wait.
pub fn fail(error: &io::Error) -> ! {
    if error.kind() == io::ErrorKind::Unsupported {
        answer("none");
    } else {
        answer(&format!("failed {error}").replace(['\r', '\n'], " "));
    }
    std::process::exit(1)
}

fn answer(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A worker, seen from the process that started it.
pub struct Worker {
    kind: &'static Kind,
    running: Option<Running>,
}

struct Running {
    process: Child,
    answers: Receiver<String>,
}

impl Worker {
    /// A worker for `kind`, which is started when it's first needed.
    pub fn new(kind: &'static Kind) -> Worker {
        Worker {
            kind,
            running: None,
        }
    }

    /// Has the case done once. A worker that fails or doesn't answer is ended.
    pub fn sample(&mut self, case: usize, size: Size) -> Result<f64, Failure> {
        let failed = |reason: String| Err(Failure::Failed(reason));
        let running = match &mut self.running {
            Some(running) => running,
            none => match Running::start(self.kind) {
                Ok(running) => none.insert(running),
                Err(error) => return failed(error.to_string()),
            },
        };
        let answer = running.ask(&format!(
            "{case} {} {}",
            size.time.as_millis(),
            size.connections
        ));
        if let Some(Ok(time)) = answer.strip_prefix("ok ").map(str::parse) {
            return Ok(time);
        }
        self.running = None;
        match answer.strip_prefix("failed ") {
            _ if answer == "none" => Err(Failure::None),
            Some(reason) => failed(reason.into()),
            None => failed(answer),
        }
    }
}

impl Running {
    fn start(kind: &Kind) -> io::Result<Running> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--worker", kind.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = tell.send(line.trim_end().to_owned());
            }
        });
        Ok(Running { process, answers })
    }

    fn ask(&mut self, question: &str) -> String {
        let asked = match &mut self.process.stdin {
            Some(input) => writeln!(input, "{question}").and_then(|()| input.flush()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        if let Err(error) = asked {
            return error.to_string();
        }
        match self.answers.recv_timeout(LIMIT) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => format!("hangs: no end after {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => "its process ended".into(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may hang.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
