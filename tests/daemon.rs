//! The example `daemon` as its users see it: processes, their output, their exit codes, and what
//! stays on the disk. The same source on every platform.

#![cfg(not(winpipe_sim))]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use common::{LIMIT, example, within};
use winpipe::ipc;

/// A name, and a directory for its files, that nobody else uses.
struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("winpipe-daemon-{}-{number}", process::id());
        // The directory of sockets, which is safe. On Windows pipes aren't in it.
        let sockets = ipc::path(&name).unwrap();
        let folder = match sockets.starts_with(r"\\.\pipe") {
            true => env::temp_dir().join(&name),
            false => sockets.with_file_name(&name),
        };
        make_private(&folder);
        Place { name, folder }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(example("daemon"));
        command
            .arg(&self.name)
            .args(args)
            .env("XDG_RUNTIME_DIR", &self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    /// Runs one to its end; returns its exit code and what it printed.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap_or(-1), text.replace('\r', ""))
    }

    fn serve(&self, args: &[&str]) -> Daemon {
        let mut child = self.command(args).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Daemon { child, out }
    }

    /// Serves, and returns when clients can connect.
    fn serving(&self, args: &[&str]) -> Daemon {
        let mut daemon = self.serve(args);
        let line = daemon.line();
        assert!(line.starts_with("listening on "), "{line:?}");
        daemon
    }

    fn assert_nothing_is_left(&self) {
        let left: Vec<_> = fs::read_dir(&self.folder).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Daemon {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Daemon {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; returns its exit code and what it has printed since.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
fn make_private(folder: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
}

#[cfg(windows)]
fn make_private(folder: &Path) {
    fs::create_dir(folder).unwrap();
}

#[test]
fn it_answers_tells_who_it_is_and_stops() {
    within(LIMIT, || {
        let place = Place::new();
        for command in [&["send", "x"][..], &["status"], &["stop"]] {
            let (code, text) = place.run(command);
            assert_eq!(code, 4, "{command:?}");
            assert!(text.is_empty() || text == "not running\n", "{text:?}");
        }
        let mut daemon = place.serving(&["serve"]);
        let (code, answers) = place.run(&["send", "hello there", "stop", "", "grüße"]);
        assert_eq!((code, &*answers), (0, "HELLO THERE\nSTOP\n\nGRÜSSE\n"));
        let user = ipc::User::current().unwrap();
        let client = daemon.line();
        assert!(client.starts_with("client: pid "), "{client:?}");
        assert!(client.ends_with(&format!(", user {user}")), "{client:?}");

        let (code, text) = place.run(&["status"]);
        assert_eq!(code, 0);
        assert!(text.starts_with("running: pid "), "{text:?}");
        assert!(text.ends_with(&format!(", user {user}\n")), "{text:?}");
        assert_eq!(place.run(&["send", "two\nlines"]).0, 2);
        assert_eq!(place.run(&["dance"]).0, 2);

        assert_eq!(place.run(&["stop"]), (0, String::new()));
        place.assert_nothing_is_left();
        // The name is free.
        let next = place.serving(&["serve"]);
        assert_eq!(daemon.end().0, Some(0));
        assert_eq!(place.run(&["stop"]).0, 0);
        assert_eq!(next.end().0, Some(0));
        assert_eq!(place.run(&["status"]), (4, "not running\n".to_owned()));
        place.assert_nothing_is_left();
    });
}

#[test]
#[cfg_attr(
    wine = "8",
    ignore = "Wine 8 ignores FILE_CREATE, so a second server may use the name"
)]
fn of_fifty_that_start_at_once_one_lives() {
    within(LIMIT * 2, || {
        let place = Place::new();
        let mut all: Vec<_> = (0..50).map(|_| place.serve(&["serve"])).collect();
        let listening: Vec<_> = all
            .iter_mut()
            .map(|daemon| daemon.line().starts_with("listening on "))
            .collect();
        assert_eq!(listening.iter().filter(|is| **is).count(), 1);
        assert_eq!(place.run(&["send", "x"]), (0, "X\n".to_owned()));
        for (daemon, listens) in all.into_iter().zip(listening) {
            if listens {
                assert_eq!(place.run(&["stop"]).0, 0);
                assert_eq!(daemon.end().0, Some(0));
            } else {
                assert_eq!(daemon.end().0, Some(3));
            }
        }
        place.assert_nothing_is_left();
    });
}

#[test]
#[cfg_attr(
    wine = "8",
    ignore = "Wine 8 ignores FILE_CREATE, so several may become the daemon"
)]
fn of_fifty_that_need_a_daemon_one_becomes_it_and_the_others_are_answered() {
    within(LIMIT * 2, || {
        let place = Place::new();
        let texts: Vec<_> = (0..50).map(|number| format!("text {number}")).collect();
        let mut all: Vec<_> = texts.iter().map(|t| place.serve(&["auto", t])).collect();
        let lines: Vec<_> = all.iter_mut().map(Daemon::line).collect();
        let became = |line: &&String| **line == "became the daemon";
        assert_eq!(lines.iter().filter(became).count(), 1, "{lines:?}");
        for (line, text) in lines.iter().zip(&texts) {
            assert!(became(&line) || *line == text.to_uppercase(), "{lines:?}");
        }
        assert_eq!(place.run(&["stop"]).0, 0);
        for daemon in all {
            assert_eq!(daemon.end().0, Some(0));
        }
        place.assert_nothing_is_left();
    });
}

#[test]
fn after_one_was_killed_the_next_start_works() {
    within(LIMIT, || {
        let place = Place::new();
        for _ in 0..5 {
            let mut daemon = place.serving(&["serve"]);
            daemon.kill();
            assert_eq!(place.run(&["status"]), (4, "not running\n".to_owned()));
            assert_eq!(place.run(&["send", "x"]).0, 4);
            assert_eq!(place.run(&["stop"]).0, 4);
        }
        let daemon = place.serving(&["serve"]);
        assert_eq!(place.run(&["send", "x"]), (0, "X\n".to_owned()));
        assert_eq!(place.run(&["stop"]).0, 0);
        assert_eq!(daemon.end().0, Some(0));
        place.assert_nothing_is_left();
    });
}

#[test]
fn a_silent_client_is_dropped_and_others_are_served_meanwhile() {
    within(LIMIT, || {
        const IDLE: Duration = Duration::from_millis(1500);
        let place = Place::new();
        let mut daemon = place.serve(&["serve", "--idle-ms", "1500"]);
        let listening = daemon.line();
        let path = listening.strip_prefix("listening on ").unwrap();
        let start = Instant::now();
        let mut silent = ipc::connect(path).unwrap();
        silent.write_all(b"no end of li").unwrap();
        assert_eq!(place.run(&["send", "x"]), (0, "X\n".to_owned()));
        assert!(start.elapsed() < IDLE, "others don't wait for it");
        // It's dropped: the end, or an error that says so.
        let read = silent.read(&mut [0; 8]);
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        assert!(start.elapsed() >= IDLE, "{:?}", start.elapsed());
        assert_eq!(place.run(&["send", "x"]).0, 0);

        // A client that stays silent doesn't keep it from stopping.
        let _silent = ipc::connect(path).unwrap();
        assert_eq!(place.run(&["stop"]).0, 0);
        let (code, printed) = daemon.end();
        assert_eq!(code, Some(0));
        assert!(printed.contains("a silent client was dropped"), "{printed}");
        place.assert_nothing_is_left();
    });
}

#[test]
fn a_foreign_file_at_its_place_is_left_alone() {
    within(LIMIT, || {
        let place = Place::new();
        // Where its socket would be. On Windows that is no place for a pipe.
        let file = place.folder.join(format!("{}.sock", place.name));
        fs::write(&file, "mine").unwrap();
        if cfg!(unix) {
            for (command, expected) in [
                (&["serve"][..], 3),
                (&["auto", "x"], 3),
                (&["send", "x"], 4),
                (&["status"], 4),
                (&["stop"], 4),
            ] {
                assert_eq!(place.run(command).0, expected, "{command:?}");
            }
        } else {
            let daemon = place.serving(&["serve"]);
            assert_eq!(place.run(&["stop"]).0, 0);
            assert_eq!(daemon.end().0, Some(0));
        }
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        fs::remove_file(&file).unwrap();
        place.assert_nothing_is_left();
    });
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_it() {
    use rustix::process::{Pid, Signal, kill_process};

    within(LIMIT, || {
        for signal in [Signal::INT, Signal::TERM] {
            let place = Place::new();
            let daemon = place.serving(&["serve"]);
            // In its `accept`, most likely.
            std::thread::sleep(Duration::from_millis(20));
            kill_process(Pid::from_child(&daemon.child), signal).unwrap();
            assert_eq!(daemon.end().0, Some(0));
            place.assert_nothing_is_left();
        }
    });
}
