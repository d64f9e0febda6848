//! The processes that work, one for each way. A worker reads questions from standard input, and answers
//! each on standard output; so does the other process of a worker, its server. All of it is JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cases::{self, Case};
use crate::count;
use crate::way::{Place, Way};

/// How long a sample may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Why there is no time: the way has no such thing, or it failed for this reason.
pub type Failure = Option<String>;

/// What a worker is to do: the case, how long, how many connections at the same time.
pub type Question<'a> = (&'a str, Duration, u64);

/// Is a worker, its server, or prints what the way costs; until standard input ends.
pub fn be<W: Way>(way: W, name: &str, role: &str) -> io::Result<()> {
    let cases = cases::all();
    let find = |name: &str| {
        let case = cases.iter().find(|case| case.name == name);
        case.ok_or_else(|| io::Error::other("no such case"))
    };
    match role {
        "counter" => println!("{}", json!(count::run(way)?)),
        "server" => {
            for task in io::stdin().lines() {
                let (case, path, count): (String, _, _) = serde_json::from_str(&task?)?;
                let case = find(&case)?.clone();
                // It may wait for ever, if the worker has ended.
                thread::spawn(move || {
                    if let Err(error) = serve(way, &case, path, count, || println!("null")) {
                        eprintln!("{}: {error}", case.name);
                        std::process::exit(1);
                    }
                });
            }
        }
        _ => {
            let mut server = Running::new(name, "server");
            for question in io::stdin().lines() {
                let question = question?;
                let (case, time, connections): Question = serde_json::from_str(&question)?;
                let case = find(case)?;
                let run = |count| run(way, case, count, &mut server);
                answer(case.sample::<W>(time, connections, run));
            }
        }
    }
    Ok(())
}

/// Answers with a sample's result. One that failed ends the process: threads may be left that wait.
fn answer(result: io::Result<f64>) {
    let failed = result.is_err();
    let has_it = |error: &io::Error| error.kind() != io::ErrorKind::Unsupported;
    let result: Result<_, Failure> =
        result.map_err(|error| has_it(&error).then(|| error.to_string()));
    println!("{}", json!(result));
    if failed {
        std::process::exit(1);
    }
}

/// Does so many pieces, here and on another thread or in another process.
fn run<W: Way>(way: W, case: &Case, count: u64, server: &mut Running) -> io::Result<Duration> {
    let place = Place::fresh(case.buffer);
    let path = place.path.clone();
    let mut thread = None;
    if case.processes {
        server.ask::<()>(&json!((&case.name, path, count)).to_string())?;
    } else {
        let (case, (tell, bound)) = (case.clone(), mpsc::channel::<()>());
        thread = Some(thread::spawn(move || {
            // The client might wait for ever.
            if let Err(error) = serve(way, &case, path, count, move || drop(tell)) {
                answer(Err(error));
            }
        }));
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

fn serve<W: Way>(
    way: W,
    case: &Case,
    path: String,
    count: u64,
    bound: impl FnOnce(),
) -> io::Result<()> {
    let place = Place { path, buffer: case.buffer };
    let listener = way.bind(&place)?;
    bound();
    case.server(way, &listener, count)
}

/// A process of this program, which is started when it's first needed.
pub struct Running {
    way: String,
    role: &'static str,
    process: Option<(Child, Receiver<String>)>,
}

impl Running {
    /// A process that is to have this role for the way.
    pub fn new(way: &str, role: &'static str) -> Running {
        Running { way: way.into(), role, process: None }
    }

    /// Has the case done once. A worker that fails or doesn't answer is ended.
    pub fn sample(&mut self, question: Question) -> Result<f64, Failure> {
        let answer = self.ask(&json!(question).to_string());
        let answer = answer.unwrap_or_else(|error| Err(Some(error.to_string())));
        if answer.is_err() {
            self.end();
        }
        answer
    }

    /// Sends a line, and returns the next that the process prints.
    pub fn ask<T: DeserializeOwned>(&mut self, question: &str) -> io::Result<T> {
        let (process, answers) = match &mut self.process {
            Some(process) => process,
            none => none.insert(start(&self.way, self.role)?),
        };
        let mut input = process.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{question}")?;
        match answers.recv_timeout(LIMIT) {
            Ok(answer) => Ok(serde_json::from_str(&answer)?),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its process ended")),
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::other(format!("hangs: no end after {LIMIT:?}")))
            }
        }
    }

    fn end(&mut self) {
        if let Some((mut process, _)) = self.process.take() {
            // It may hang.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(way: &str, role: &str) -> io::Result<(Child, Receiver<String>)> {
    let mut process = Command::new(std::env::current_exe()?);
    process.args([role, way]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = process.spawn()?;
    let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (tell, answers) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.try_for_each(|line| tell.send(line))
    });
    Ok((process, answers))
}
