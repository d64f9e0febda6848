//! The examples, as the processes that users run. `cargo test` builds them; with `--test examples`
//! alone, run `cargo build --examples` before.

#![cfg(not(winpipe_sim))]

#[allow(unused_imports, reason = "the platforms need different parts")]
mod common;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{LIMIT, within};

/// A name that nobody else uses.
fn fresh_name(example: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("winpipe-{example}-{}-{number}", std::process::id())
}

/// What an example prints, when it has ended well.
fn output(example: &str, args: &[&str]) -> String {
    let output = Command::new(common::example(example))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{example} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

/// An example that runs until this is dropped.
struct Running(Child, Lines<BufReader<ChildStdout>>);

impl Running {
    fn start(example: &str, args: &[&str]) -> Running {
        let mut command = Command::new(common::example(example));
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running(child, lines)
    }

    /// A server, when clients can connect.
    fn serve(example: &str, name: &str) -> Running {
        let mut server = Running::start(example, &[name, "serve"]);
        let line = server.line();
        assert!(line.starts_with("listening on "), "{line}");
        server
    }

    fn line(&mut self) -> String {
        self.1.next().expect("it has ended").unwrap()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes its stdin, and waits for its end.
    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn in_the_chat_what_one_says_all_others_read() {
    within(LIMIT, || {
        let name = fresh_name("chat");
        let _server = Running::serve("chat", &name);
        let mut ada = Running::start("chat", &[&name, "Ada"]);
        assert_eq!(ada.line(), "Ada has joined");
        let mut bob = Running::start("chat", &[&name, "Bob"]);
        assert_eq!(bob.line(), "Bob has joined");
        assert_eq!(ada.line(), "Bob has joined");
        let mut eve = Running::start("chat", &[&name, "Eve"]);
        for who in [&mut ada, &mut bob, &mut eve] {
            assert_eq!(who.line(), "Eve has joined");
        }
        bob.say("hello");
        assert_eq!(ada.line(), "Bob: hello");
        assert_eq!(eve.line(), "Bob: hello");
        ada.say("and you");
        // What he said himself he doesn't read.
        assert_eq!(bob.line(), "Ada: and you");
        assert_eq!(eve.line(), "Ada: and you");
        bob.end();
        assert_eq!(ada.line(), "Bob has left");
        // One that is killed has left, too.
        drop(ada);
        for who in ["Bob", "Ada"] {
            assert_eq!(eve.line(), format!("{who} has left"));
        }
        eve.end();
    });
}

#[test]
fn json_rpc_requests_are_answered() {
    within(LIMIT, || {
        let name = fresh_name("jsonrpc");
        let _server = Running::serve("jsonrpc", &name);
        assert_eq!(output("jsonrpc", &[&name, "add", "1", "2", "39"]), "42\n");
        assert_eq!(output("jsonrpc", &[&name, "add"]), "0\n");
        let answer = output("jsonrpc", &[&name, "multiply", "2"]);
        assert!(answer.contains("-32601"), "{answer}");
    });
}

#[test]
fn http_requests_are_answered() {
    within(LIMIT, || {
        let name = fresh_name("http");
        let _server = Running::serve("http", &name);
        assert_eq!(output("http", &[&name, "/hello"]), "200 Hello!\n");
        assert_eq!(output("http", &[&name, "/other"]), "404 Not here.\n");
        assert_eq!(
            output("http", &[&name, "/not a path"]),
            "400 That's no request.\n"
        );
    });
}

#[test]
#[cfg_attr(
    unix,
    ignore = "needs root, who can listen in /run; `cargo xtask test` runs it for root"
)]
fn the_service_answers_everybody_and_ends_for_its_own_user() {
    within(LIMIT, || {
        let name = fresh_name("service");
        let server = Running::serve("service", &name);
        let time = output("service", &[&name, "time"]);
        assert!(
            time.contains(" s, pid ") && time.contains(", user "),
            "{time}"
        );
        assert_eq!(output("service", &[&name, "dance"]), "no such request\n");
        assert_eq!(output("service", &[&name, "stop"]), "stopped\n");
        server.end();
    });
}

#[test]
fn a_child_is_talked_to_over_its_stdin_and_stdout_with_timeouts() {
    within(LIMIT, || {
        let said = output("child", &[]);
        let lines: Vec<_> = said.lines().collect();
        let [hello, thinking, think, end] = lines[..] else {
            panic!("{said}")
        };
        assert_eq!(hello, "the child says: HELLO");
        assert_eq!(thinking, "the child is thinking");
        assert_eq!(think, "the child says: THINK");
        assert!(
            end.starts_with("the child ended with exit") && end.ends_with(": 0"),
            "{end}"
        );
    });
}

#[test]
fn a_file_is_handed_to_another_process() {
    within(LIMIT, || {
        let said = output("send_handle", &[]);
        match cfg!(windows) {
            true => assert!(said.starts_with("the file begins with \"MZ\"\n"), "{said}"),
            false => assert_eq!(said, "send_handle is there on Windows only\n"),
        }
    });
}
