//! The processes that work, one for each way. A worker reads questions from standard input, the name of
//! a case and its size, and answers each on standard output; both are JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::cases::{self, Failure, Size};
use crate::count;
use crate::way::Way;
use crate::ways;

const LIMIT: Duration = Duration::from_secs(15);

/// A way, and what processes are started for it.
pub struct Kind {
    /// On the command line.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// The names of the cases.
    pub cases: fn() -> Vec<String>,
    /// Is a worker or the other process of one, until standard input ends, or prints what it costs.
    pub be: fn(role: &str) -> io::Result<()>,
}

const fn kind<W: Way>() -> Kind {
    Kind {
        name: W::NAME,
        title: W::TITLE,
        cases: || cases::all::<W>().into_iter().map(|(name, _)| name).collect(),
        be: |role| match role {
            "worker" => work::<W>(),
            "peer" => cases::be_the_peer::<W>(),
            "counter" => count::run::<W>(),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        },
    }
}

/// All ways; the first is the one that the others are compared to.
#[cfg(windows)]
pub const KINDS: &[Kind] = &[
    kind::<ways::raw::Raw>(),
    kind::<ways::blocking::Winpipe>(),
    kind::<ways::blocking::Old>(),
    kind::<ways::blocking::Interprocess>(),
    kind::<ways::tokio::Tokio>(),
    kind::<ways::raw::Bare>(),
];

/// All ways; the first is the one that the others are compared to.
#[cfg(unix)]
pub const KINDS: &[Kind] = &[kind::<ways::blocking::Winpipe>()];

fn work<W: Way>() -> io::Result<()> {
    let cases = cases::all::<W>();
    for question in io::stdin().lines() {
        let (wanted, size): (String, Size) = serde_json::from_str(&question?)?;
        let case = cases.iter().find(|(name, _)| *name == wanted);
        let (_, sample) = case.ok_or_else(|| io::Error::other("no such case"))?;
        cases::answer(sample(size));
    }
    Ok(())
}

/// A worker, seen from the process that started it, which is when it's first needed.
pub struct Worker(&'static Kind, Option<Running>);

impl Worker {
    /// A worker for `kind`.
    pub fn new(kind: &'static Kind) -> Worker {
        Worker(kind, None)
    }

    /// Has the case done once. A worker that fails or doesn't answer is ended.
    pub fn sample(&mut self, case: &str, size: Size) -> Result<f64, Failure> {
        let Worker(kind, running) = self;
        let answer = match running {
            Some(running) => running.ask(case, size),
            none => Running::start(kind).and_then(|new| none.insert(new).ask(case, size)),
        };
        let answer = answer.unwrap_or_else(|error| Err(Some(error.to_string())));
        if answer.is_err() {
            self.1 = None;
        }
        answer
    }
}

struct Running {
    process: Child,
    answers: Receiver<String>,
}

impl Running {
    fn start(kind: &Kind) -> io::Result<Running> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["worker", kind.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Ok(Running { process, answers })
    }

    fn ask(&mut self, case: &str, size: Size) -> io::Result<Result<f64, Failure>> {
        let mut input = self.process.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{}", serde_json::json!((case, size)))?;
        match self.answers.recv_timeout(LIMIT) {
            Ok(answer) => Ok(serde_json::from_str(&answer)?),
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::other(format!("hangs: no end after {LIMIT:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its process ended")),
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

/// Counts what a way costs, in a process of its own.
pub fn counted(kind: &Kind) -> io::Result<count::Costs> {
    let mut process = Command::new(std::env::current_exe()?);
    let output = process.args(["counter", kind.name]).stderr(Stdio::inherit()).output()?;
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Ok(count::Costs::new()),
    }
}
