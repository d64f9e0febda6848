//! Child processes at the other end of `ipc::pair_for_child`: in Rust, in C and in JavaScript. The
//! same source on every platform.
//!
//! The environment names what isn't everywhere: `WINPIPE_C_CHILD` is tests/child.c, compiled, and
//! `WINPIPE_NODE` is Node's program. Elsewhere a compiler and `node` are looked for.

#![cfg(not(winpipe_sim))]

mod common;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use common::{LIMIT, skipped, text, within};
use winpipe::ipc::{self, Stream};

/// In the environment of this program as a child: what it does.
const ROLE: &str = "WINPIPE_CHILD_ROLE";

/// More than any buffer on the way.
const MUCH: usize = 1 << 20;

/// This program as a child, which does this.
fn this_program(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "a_child_that_is_a_rust_program_gets_and_sends_every_byte",
        ])
        .args(["--nocapture", "--quiet"])
        .env(ROLE, role);
    command
}

/// What this program does as a child; then it ends.
fn play(role: &str) -> ! {
    let (mut stdin, mut stdout) = (io::stdin(), io::stdout());
    match role {
        "echo" => {
            // The test runner has printed something.
            stdout.write_all(b"\0").unwrap();
            stdout.flush().unwrap();
            io::copy(&mut stdin, &mut stdout).unwrap();
        }
        // Writes while another thread waits in a read.
        "both at once" => {
            let reader = thread::spawn(move || stdin.read(&mut [0; 8]));
            thread::sleep(Duration::from_millis(200));
            stdout.write_all(b"\0written").unwrap();
            stdout.flush().unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 3);
        }
        // Neither reads nor writes, until its own stdin, which isn't the stream, ends.
        _ => drop(stdin.read(&mut [0])),
    }
    stdout.flush().unwrap();
    process::exit(0);
}

fn spawn(mut command: Command) -> (Stream, Child) {
    let (stream, end) = ipc::pair_for_child().unwrap();
    let command = command.stdin(end.stdin).stdout(end.stdout);
    let child = command.spawn().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    (stream, child)
}

/// Reads past what the test runner prints.
fn skip_to_zero(mut stream: &Stream) {
    let mut byte = [1];
    while byte != [0] {
        stream.read_exact(&mut byte).unwrap();
    }
}

fn assert_echo(stream: &Stream, mut child: Child) {
    let sent = text(0, MUCH);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = stream;
            writer.write_all(&sent).unwrap();
            writer.flush().unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut echoed = Vec::new();
        let mut reader = stream;
        reader.read_to_end(&mut echoed).unwrap();
        assert!(echoed == sent, "{} of {MUCH} bytes", echoed.len());
    });
    assert!(child.wait().unwrap().success());
    let error = (&*stream).write(b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_child_that_is_a_rust_program_gets_and_sends_every_byte() {
    if let Ok(role) = env::var(ROLE) {
        play(&role);
    }
    within(LIMIT, || {
        let (stream, child) = spawn(this_program("echo"));
        skip_to_zero(&stream);
        assert_echo(&stream, child);
    });
}

#[test]
fn a_child_that_is_a_c_program_gets_and_sends_every_byte() {
    let Some(program) = c_child() else {
        return skipped(
            "children",
            "there is no compiler, and WINPIPE_C_CHILD isn't set",
        );
    };
    within(LIMIT, || {
        let (stream, child) = spawn(Command::new(program));
        assert_echo(&stream, child);
    });
}

#[test]
fn a_child_that_is_node_gets_and_sends_every_byte() {
    let node = env::var_os("WINPIPE_NODE");
    if node.is_none() && !(cfg!(unix) && runs("node")) {
        return skipped(
            "children",
            "there is no Node here, and WINPIPE_NODE isn't set",
        );
    }
    within(LIMIT * 2, || {
        let mut command = Command::new(node.unwrap_or_else(|| OsString::from("node")));
        command
            .args(["-e", "process.stdin.pipe(process.stdout)"])
            // Under Wine, which says that it's Windows 7; and Node can't open its stderr there, if
            // that is a pipe of the system below.
            .env("NODE_SKIP_PLATFORM_CHECK", "1")
            .stderr(Stdio::null());
        let (stream, child) = spawn(command);
        assert_echo(&stream, child);
    });
}

#[test]
fn a_child_can_write_while_it_waits_in_a_read() {
    within(LIMIT, || {
        let (stream, mut child) = spawn(this_program("both at once"));
        skip_to_zero(&stream);
        let mut written = [0; 7];
        (&stream).read_exact(&mut written).unwrap();
        assert_eq!(&written, b"written");
        (&stream).write_all(b"end").unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn calls_to_a_child_that_does_nothing_time_out() {
    within(LIMIT, || {
        const SHORT: Duration = Duration::from_millis(50);
        let (stream, end) = ipc::pair_for_child().unwrap();
        let mut child = this_program("wait")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        stream.set_write_timeout(Some(SHORT)).unwrap();
        let start = Instant::now();
        let error = (&stream).read(&mut [0; 8]).unwrap_err();
        assert!(ipc::is_timeout(&error), "{error}");
        let bytes = vec![0; MUCH];
        let error = loop {
            match (&stream).write(&bytes) {
                Ok(count) => assert!(count > 0),
                Err(error) => break error,
            }
        };
        assert!(ipc::is_timeout(&error), "{error}");
        assert!(start.elapsed() >= 2 * SHORT);
        // A clone has the same end of input.
        stream
            .try_clone()
            .unwrap()
            .shutdown(Shutdown::Write)
            .unwrap();
        let error = (&stream).write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        drop(end);
        // The end, or on Linux that the child has read nothing.
        let read = (&stream).read(&mut [0; 8]);
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        assert!(!read.is_err_and(|error| ipc::is_timeout(&error)));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn no_other_child_gets_an_end() {
    within(LIMIT, || {
        let (stream, end) = ipc::pair_for_child().unwrap();
        // One that is started while the ends are open, and one after a child got them.
        let bystander = || {
            let mut command = this_program("wait");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
        };
        let mut before = bystander().unwrap();
        let mut child = this_program("echo")
            .stdin(end.stdin)
            .stdout(end.stdout)
            .spawn()
            .unwrap();
        let mut after = bystander().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // With the child, both ends are gone.
        (&stream).read_to_end(&mut Vec::new()).unwrap();
        let error = (&stream).write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        for bystander in [&mut before, &mut after] {
            assert!(bystander.try_wait().unwrap().is_none());
            drop(bystander.stdin.take());
            assert!(bystander.wait().unwrap().success());
        }
    });
}

/// tests/child.c as a program, if there is a compiler.
fn c_child() -> Option<PathBuf> {
    if let Some(program) = env::var_os("WINPIPE_C_CHILD") {
        return Some(program.into());
    }
    if !runs("cc") {
        return None;
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/child.c");
    let program = env::current_exe().unwrap().with_extension("child");
    let mut compiler = Command::new("cc");
    let compiled = compiler
        .args(["-o".as_ref(), program.as_os_str()])
        .arg(source);
    assert!(compiled.status().unwrap().success());
    Some(program)
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.arg("--version").stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok()
}
