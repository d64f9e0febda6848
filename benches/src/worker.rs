//! The processes that work, one for each way. A worker reads tasks from standard input, and answers
//! each on standard output; so does the other process of a worker, its server. All of it is JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Deserializer, json};

use crate::cases::Case;
use crate::count;
use crate::way::{Place, Way, unsupported};

/// How long a task may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Why there is no answer: the way has no such thing, or it failed for this reason.
pub type Failure = Option<String>;

/// What a process is to do.
#[derive(Deserialize, Serialize)]
pub enum Task {
    /// Do the case for about that time, or with so many connections at once; return nanoseconds.
    Sample { case: Case, time: Duration, connections: u64 },
    /// Serve so many pieces of the case at that path.
    Serve { case: Case, path: String, count: u64 },
    /// Count what the way costs.
    Count,
}

/// Does tasks until standard input ends.
pub fn be<W: Way>(way: W, name: &str) -> io::Result<()> {
    let mut server = Running::new(name);
    for task in Deserializer::from_reader(io::stdin().lock()).into_iter() {
        match task? {
            Task::Sample { case, time, connections } => {
                answer(case.sample::<W>(time, connections, |n| run(way, &case, n, &mut server)));
            }
            Task::Serve { case, path, count } => {
                // It may wait for ever, if the worker has ended.
                thread::spawn(move || serve(way, &case, path, count, || answer(Ok(()))));
            }
            Task::Count => answer(count::run(way)),
        }
    }
    Ok(())
}

/// Answers a task. One that failed ends the process: threads may be left that wait.
fn answer(result: io::Result<impl Serialize>) {
    let has_it = |error: &io::Error| error.kind() != io::ErrorKind::Unsupported;
    let result = result.map_err(|error| has_it(&error).then(|| error.to_string()));
    // Nobody may be left to read it.
    let _ = writeln!(io::stdout(), "{}", json!(result));
    if result.is_err() {
        std::process::exit(1);
    }
}

/// Does so many pieces, here and on another thread or in another process.
fn run<W: Way>(way: W, case: &Case, count: u64, server: &mut Running) -> io::Result<Duration> {
    let place = Place::fresh(case.buffer);
    let (served, path) = (case.clone(), place.path.clone());
    let mut thread = None;
    if case.processes {
        let bound: Result<(), Failure> = server.ask(&Task::Serve { case: served, path, count });
        bound
            .or_else(|failure| failure.map_or_else(unsupported, |it| Err(io::Error::other(it))))?;
    } else {
        let (tell, bound) = mpsc::channel::<()>();
        thread = Some(thread::spawn(move || serve(way, &served, path, count, || drop(tell))));
        let _ = bound.recv();
    }
    if !W::HAS_BACKLOG {
        // It makes a pipe only in `accept`, and what comes before that sleeps for 200 ms.
        thread::sleep(Duration::from_millis(2));
    }
    let took = case.client(way, &place, count)?;
    thread.map(thread::JoinHandle::join);
    Ok(took)
}

/// Does the server's part, and tells when clients can connect. They might wait for ever if it fails.
fn serve<W: Way>(way: W, case: &Case, path: String, count: u64, bound: impl FnOnce()) {
    let place = Place { path, buffer: case.buffer };
    let served = way.bind(&place).and_then(|listener| {
        bound();
        case.server(way, &listener, count)
    });
    if let Err(error) = served {
        if error.kind() != io::ErrorKind::Unsupported {
            eprintln!("{}, server: {error}", case.name);
        }
        answer(io::Result::<()>::Err(error));
    }
}

/// A process of this program for a way, which is started when it's first needed.
pub struct Running {
    way: String,
    process: Option<Process>,
}

struct Process(Child, Receiver<String>);

impl Drop for Process {
    fn drop(&mut self) {
        // It may hang.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub fn new(way: &str) -> Running {
        Running { way: way.into(), process: None }
    }

    /// Has a task done. A process that fails or doesn't answer is ended.
    pub fn ask<T: DeserializeOwned>(&mut self, task: &Task) -> Result<T, Failure> {
        let answer = self.answer(task).unwrap_or_else(|error| Err(Some(error.to_string())));
        if answer.is_err() {
            self.process = None;
        }
        answer
    }

    fn answer<T: DeserializeOwned>(&mut self, task: &Task) -> io::Result<T> {
        let Process(process, answers) = match &mut self.process {
            Some(process) => process,
            none => none.insert(start(&self.way)?),
        };
        let mut input = process.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{}", json!(task))?;
        match answers.recv_timeout(LIMIT) {
            Ok(answer) => Ok(serde_json::from_str(&answer)?),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its process ended")),
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::other(format!("hangs: no end after {LIMIT:?}")))
            }
        }
    }
}

fn start(way: &str) -> io::Result<Process> {
    let mut process = Command::new(std::env::current_exe()?);
    let process = process.args(["--be", way]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = process.spawn()?;
    let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (tell, answers) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.try_for_each(|line| tell.send(line))
    });
    Ok(Process(process, answers))
}
