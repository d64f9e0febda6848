//! Runs each program as a server and a client, in two processes, and compares what the client prints. A
//! server that is told to end leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use winpipe::ipc;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A process that doesn't outlive the test.
struct Running(Child);

impl Running {
    fn start(program: &str, side: &str, name: &str) -> Running {
        let mut command = Command::new(program);
        command.args([side, name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Running(command.spawn().unwrap())
    }

    /// The lines that it prints, as they come.
    fn lines(&mut self) -> mpsc::Receiver<String> {
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(self.0.stdout.take().unwrap());
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check(program: &str, expected: &[&str]) {
    let stem = std::path::Path::new(program).file_stem().unwrap().to_str().unwrap();
    let name = format!("{stem}-{}", std::process::id());
    let mut server = Running::start(program, "server", &name);
    let said = server.lines();
    let line = said.recv_timeout(LIMIT).expect("the server says that it listens");
    assert!(line.starts_with("listening"), "{line}");

    // Twice, as a server has more than one client.
    for _ in 0..2 {
        let mut client = Running::start(program, "client", &name);
        let lines = client.lines();
        let mut printed = Vec::new();
        loop {
            match lines.recv_timeout(LIMIT) {
                Ok(line) => printed.push(line.trim_end().to_owned()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the client hangs: {printed:?}"),
            }
        }
        assert_eq!(printed, expected);
        assert!(client.0.wait().unwrap().success());
    }

    drop(server.0.stdin.take());
    assert_eq!(said.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    assert!(server.0.wait().unwrap().success());
    assert!(!ipc::exists(ipc::path(&name).unwrap()).unwrap(), "the server leaves its name");
}

#[test]
fn axum_serves_http_and_knows_its_client() {
    check(env!("CARGO_BIN_EXE_axum_http"), &["the sum is 42"]);
}

#[test]
fn framed_lines_reach_every_client() {
    let line = "is anybody there?";
    check(env!("CARGO_BIN_EXE_framed_lines"), &["welcome", "welcome", line, line]);
}

#[test]
fn hyper_serves_and_asks() {
    check(env!("CARGO_BIN_EXE_hyper_http"), &["pipe", "socket"]);
}

#[test]
fn a_language_server_and_its_editor_ask_each_other() {
    check(env!("CARGO_BIN_EXE_language_server"), &["greetings from line 7"]);
}

#[test]
fn the_end_passes_through_a_proxy() {
    check(env!("CARGO_BIN_EXE_proxy"), &["THE ANSWER COMES AFTER THE END"]);
}

#[test]
fn tonic_streams_in_both_directions() {
    check(env!("CARGO_BIN_EXE_tonic_chat"), &["3", "2", "1", "0", "HELLO", "GOODBYE"]);
}
