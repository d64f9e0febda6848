//! The facade, `winpipe::ipc`: the same source on every platform, with the same outcome.

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, panic, process, thread};

use common::{LIMIT, within};
use winpipe::ipc::unix::UnixListener;
use winpipe::ipc::{self, Access, ConnectOrBind, ListenOptions, Listener, Stream, User};

/// How long a thing that's said to happen at once may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How long to let another thread get to where it waits. Where it's late the test tells less, and
/// still passes.
const A_WHILE: Duration = Duration::from_millis(50);

/// A safe path that nobody else uses.
fn safe_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ipc::path(&format!("winpipe-portable-{}-{number}", process::id())).unwrap()
}

fn assert_free(path: &PathBuf) {
    assert!(!ipc::exists(path).unwrap());
    assert_eq!(
        ipc::connect(path).unwrap_err().kind(),
        ErrorKind::NotFound,
        "{path:?}"
    );
}

#[test]
fn shutdown_ends_every_accept_and_frees_the_path() {
    within(LIMIT, || {
        for round in 0..50 {
            let path = safe_path();
            let listener = ipc::bind(&path).unwrap();
            let waiting = ipc::connect(&path).unwrap();
            thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        let clone = listener.try_clone().unwrap();
                        scope.spawn(move || {
                            let accepted = clone.incoming().filter(Result::is_ok).count();
                            let error = clone.accept().unwrap_err();
                            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                            accepted
                        })
                    })
                    .collect();
                if round == 0 {
                    thread::sleep(A_WHILE);
                }
                listener.shutdown().unwrap();
                let accepted: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
                assert!(accepted <= 1);
            });
            drop(waiting);
            assert_free(&path);
            listener.shutdown().unwrap();
            let again = ipc::bind(&path).unwrap();
            drop(listener);
            // It's another's path now.
            ipc::connect(&path).unwrap();
            drop(again);
            assert_free(&path);
        }
    });
}

#[test]
fn a_client_that_nobody_accepts_is_refused_when_the_listener_ends() {
    within(LIMIT, || {
        for by_drop in [false, true] {
            let path = safe_path();
            let listener = ipc::bind(&path).unwrap();
            let mut client = ipc::connect(&path).unwrap();
            let _kept = match by_drop {
                true => {
                    drop(listener);
                    None
                }
                false => Some(listener).inspect(|listener| listener.shutdown().unwrap()),
            };
            // It's the end, or an error that says so.
            client.set_read_timeout(Some(AT_ONCE)).unwrap();
            let read = client.read(&mut [0; 8]);
            let is_end = match &read {
                Ok(count) => *count == 0,
                Err(error) => !ipc::is_timeout(error),
            };
            assert!(is_end, "by_drop: {by_drop}, {read:?}");
        }
    });
}

#[test]
fn accept_timeout_ends_in_time_also_while_others_wait_and_gets_clients() {
    within(LIMIT, || {
        let path = safe_path();
        let listener = ipc::bind(&path).unwrap();
        let time_out = |timeout| {
            let start = Instant::now();
            let error = listener.accept_timeout(timeout).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(ipc::is_timeout(&error));
            assert!(start.elapsed() >= timeout);
            assert!(start.elapsed() < timeout + AT_ONCE);
        };
        time_out(Duration::ZERO);
        time_out(A_WHILE);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| listener.accept().map(drop));
            thread::sleep(A_WHILE);
            time_out(A_WHILE);
            time_out(Duration::ZERO);
            let client = ipc::connect(&path).unwrap();
            waiting.join().unwrap().unwrap();
            drop(client);
        });
        let mut client = ipc::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        let (mut server, _) = listener.accept_timeout(Duration::ZERO).unwrap();
        // The accepted stream waits, whatever the listener does.
        server.read_exact(&mut [0]).unwrap();
        thread::scope(|scope| {
            let accepted = scope.spawn(|| listener.accept_timeout(Duration::MAX).map(drop));
            thread::sleep(A_WHILE);
            ipc::connect(&path).unwrap();
            accepted.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_nonblocking_listener_and_its_clones_never_wait() {
    within(LIMIT, || {
        let path = safe_path();
        let listener = ipc::bind(&path).unwrap();
        let clone = listener.try_clone().unwrap();
        listener.set_nonblocking(true).unwrap();
        for listener in [&listener, &clone] {
            let error = listener.accept().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let error = listener.accept_timeout(LIMIT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        let client = thread::spawn(move || {
            let mut client = ipc::connect(path).unwrap();
            thread::sleep(A_WHILE);
            client.write_all(b"x").unwrap();
        });
        let mut server = loop {
            match clone.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            thread::yield_now();
        };
        server.read_exact(&mut [0]).unwrap();
        client.join().unwrap();
        listener.set_nonblocking(false).unwrap();
        let error = clone.accept_timeout(A_WHILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn connect_timeout_waits_for_the_server_to_appear() {
    within(LIMIT, || {
        let path = safe_path();
        let start = Instant::now();
        let error = ipc::connect_timeout(&path, A_WHILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= A_WHILE);
        let error = ipc::connect_timeout(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        thread::scope(|scope| {
            let client = scope.spawn(|| ipc::connect_timeout(&path, LIMIT));
            thread::sleep(A_WHILE);
            let listener = ipc::bind(&path).unwrap();
            let mut client = client.join().unwrap().unwrap();
            let (mut server, _) = listener.accept().unwrap();
            // No time-out is left behind.
            assert_eq!(client.write_timeout().unwrap(), None);
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
        });
        let error = ipc::connect_timeout("/no\0path", LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn connect_timeout_waits_for_a_full_backlog() {
    within(LIMIT, || {
        let path = safe_path();
        let listener = ListenOptions::new().backlog(1).bind(&path).unwrap();
        let mut clients = Vec::new();
        let error = loop {
            match ipc::connect_timeout(&path, A_WHILE) {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
            assert!(clients.len() < 10, "the backlog is never full");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(ipc::exists(&path).unwrap(), "it's only busy");
        thread::scope(|scope| {
            let late = scope.spawn(|| ipc::connect_timeout(&path, LIMIT));
            thread::sleep(A_WHILE);
            for _ in 0..=clients.len() {
                listener.accept().unwrap();
            }
            late.join().unwrap().unwrap();
        });
    });
}

#[test]
fn asking_whether_a_server_exists_leaves_no_trace() {
    within(LIMIT, || {
        let path = safe_path();
        assert!(!ipc::exists(&path).unwrap());
        let listener = ListenOptions::new().backlog(2).bind(&path).unwrap();
        for _ in 0..50 {
            assert!(ipc::exists(&path).unwrap());
        }
        let error = listener.accept_timeout(A_WHILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "a client that left");
        let client = ipc::connect(&path).unwrap();
        listener.accept_timeout(LIMIT).unwrap();
        drop((client, listener));
        assert_free(&path);
    });
}

#[test]
fn nothing_is_left_of_a_listener_also_after_a_panic() {
    within(LIMIT, || {
        let path = safe_path();
        for _ in 0..20 {
            drop(ipc::bind(&path).unwrap());
            assert_free(&path);
        }
        let listener = ipc::bind(&path).unwrap();
        drop(listener.try_clone().unwrap());
        assert!(ipc::exists(&path).unwrap(), "a clone isn't the last");
        let unwound = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let _listener = listener;
            panic::resume_unwind(Box::new("a panic"));
        }));
        assert!(unwound.is_err());
        assert_free(&path);
        ipc::remove(&path).unwrap();
    });
}

#[test]
#[cfg_attr(
    wine = "8",
    ignore = "Wine 8 ignores FILE_CREATE, so a second server may use the name"
)]
fn a_live_server_keeps_its_path() {
    within(LIMIT, || {
        let path = safe_path();
        let listener = ipc::bind(&path).unwrap();
        assert_eq!(ipc::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(ipc::remove(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let error = listener.accept_timeout(A_WHILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "a client that left");
        ipc::connect(&path).unwrap();
    });
}

#[test]
fn stds_listener_goes_in_and_out() {
    within(LIMIT, || {
        let path = safe_path();
        let std = UnixListener::from(ipc::bind(&path).unwrap());
        let client = Stream::connect(&path).unwrap();
        std.accept().unwrap();
        drop(client);
        std.set_nonblocking(true).unwrap();
        let listener = Listener::from(std);
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "the flag goes along");
        listener.set_nonblocking(false).unwrap();
        let error = listener.accept_timeout(A_WHILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        listener.shutdown().unwrap();
        assert!(listener.incoming().next().is_none());
        drop(listener);
        // Where a file is left, it's a leftover.
        ipc::remove(&path).unwrap();
        assert_free(&path);
    });
}

#[test]
fn both_ends_know_each_other() {
    within(LIMIT, || {
        let path = safe_path();
        for access in [Access::CurrentUser, Access::Everyone] {
            let listener = ListenOptions::new().access(access).bind(&path).unwrap();
            let mut client = ipc::connect(&path).unwrap();
            client.write_all(b"x").unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.read_exact(&mut [0]).unwrap();
            let this = process::id();
            for stream in [&client, &server] {
                let peer = ipc::peer_cred(stream).unwrap();
                assert_eq!(peer.pid(), Some(this));
                assert_eq!(peer.user(), Some(User::current().unwrap()));
                assert!(peer.is_same_user());
                assert_eq!(peer, ipc::peer_cred(stream).unwrap());
                let user = User::current().unwrap();
                assert_eq!(peer.to_string(), format!("pid {this}, user {user}"));
            }
            let client = ipc::peer_cred(&server).unwrap();
            assert_eq!(client.authenticated(), client.user());
        }
    });
}

#[test]
fn bad_input_is_said_to_be_bad() {
    for name in ["", "..", "a/b", r"a\b", "a\0b"] {
        for error in [ipc::path(name), ipc::system_path(name)] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
    for backlog in [0, 5000] {
        let mut options = ListenOptions::new();
        options.backlog(backlog);
        let error = options.bind(safe_path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = options.connect_or_bind(safe_path()).unwrap_err();
        assert!(error.to_string().contains("1 to 4096"), "{error}");
    }
    assert_eq!(
        ipc::exists("/no\0path").unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

/// In the environment of a process that is one of many: where all of them meet.
const ONE_OF_MANY: &str = "WINPIPE_ONE_OF_MANY";

/// How often to start all of them, if it's set.
const ROUNDS: &str = "WINPIPE_ROUNDS";

/// Processes that wait for the word, and then all start at once.
#[test]
#[cfg_attr(
    wine = "8",
    ignore = "Wine 8 ignores FILE_CREATE, so several may be bound at once"
)]
#[cfg_attr(winpipe_sim, ignore = "the simulated kernel has one process")]
fn exactly_one_of_many_that_start_at_once_is_bound() {
    if let Ok(name) = env::var(ONE_OF_MANY) {
        return be_one_of_many(&name);
    }
    const MANY: usize = 100;
    let rounds: u32 = env::var(ROUNDS).map_or(10, |rounds| rounds.parse().unwrap());
    within(LIMIT + Duration::from_millis(500) * rounds, move || {
        let name = format!("winpipe-many-{}", process::id());
        let mut all: Vec<(Child, mpsc::Receiver<String>)> = (0..MANY)
            .map(|_| {
                let mut child = Command::new(env::current_exe().unwrap())
                    .args(["--exact", "exactly_one_of_many_that_start_at_once_is_bound"])
                    .arg("--nocapture")
                    .env(ONE_OF_MANY, &name)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let lines = BufReader::new(child.stderr.take().unwrap()).lines();
                let (to, from) = mpsc::channel();
                thread::spawn(move || lines.map_while(Result::ok).try_for_each(|l| to.send(l)));
                (child, from)
            })
            .collect();
        let mut say_to_all = |word: &str| -> Vec<String> {
            for (child, _) in &mut all {
                let stdin = child.stdin.as_mut().unwrap();
                stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
            }
            let answers = all.iter().map(|(_, answers)| answers.recv().unwrap());
            answers.collect()
        };
        assert_eq!(say_to_all("ready"), vec!["ready"; MANY]);
        for round in 0..rounds {
            let answers = say_to_all("start");
            let count = |outcome| answers.iter().filter(|answer| **answer == outcome).count();
            assert_eq!(
                (count("bound"), count("connected")),
                (1, MANY - 1),
                "round {round}: {answers:?}"
            );
            assert_eq!(say_to_all("end"), vec!["ended"; MANY]);
        }
        for (mut child, _) in all {
            drop(child.stdin.take());
            assert!(child.wait().unwrap().success());
        }
        assert_free(&ipc::path(&name).unwrap());
    });
}

fn be_one_of_many(name: &str) {
    let path = ipc::path(name).unwrap();
    let mut outcome = None;
    for word in std::io::stdin().lines() {
        let answer = match &*word.unwrap() {
            "start" => match outcome.insert(ipc::connect_or_bind(&path)) {
                Ok(ConnectOrBind::Bound(_)) => "bound",
                Ok(ConnectOrBind::Connected(_)) => "connected",
                Err(error) => &error.to_string(),
            },
            "end" => {
                outcome = None;
                "ended"
            }
            _ => "ready",
        };
        eprintln!("{answer}");
    }
}
