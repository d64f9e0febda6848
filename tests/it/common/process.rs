//! Processes of their own: children that a test can kill, and tests that must be alone.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use winpipe::{WinListener, WinStream};

use super::{LIMIT, fresh_path, within};

/// Starts the ignored test `child_process` of a module as a process of its own, and returns when it
/// has said that it's ready. The task is `module::task`.
pub fn spawn_child(task: &str, path: &Path) -> Child {
    let (module, task) = task.split_once("::").unwrap();
    let path = path.to_str().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            &format!("{module}::child_process"),
            "--nocapture",
        ])
        .env("WINPIPE_TEST_CHILD", format!("{task} {path}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let ready = lines
        .map_while(Result::ok)
        .any(|line| line.contains("ready"));
    assert!(ready, "the child ended early");
    child
}

/// Starts a child as [`spawn_child`] does, one that connects. Returns it with the listener and the
/// stream that was accepted for it.
pub fn connected_child(task: &str) -> (Child, WinListener, WinStream) {
    let path = fresh_path();
    let listener = WinListener::bind(&path).unwrap();
    let child = spawn_child(task, &path);
    let (stream, _) = listener.accept().unwrap();
    (child, listener, stream)
}

/// Ends the child at once, wherever it is.
pub fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Does what the test that started this process says: a task, and the path of a pipe.
pub fn be_child(tasks: impl FnOnce(&str, &Path)) {
    let task = std::env::var("WINPIPE_TEST_CHILD").expect("only other tests start this one");
    let (task, path) = task.split_once(' ').unwrap();
    tasks(task, Path::new(path));
}

/// What a child says when its test may go on.
pub fn ready() {
    println!("ready");
    io::stdout().flush().unwrap();
}

/// Whether this is a process of its own for the test of this full name, where no other test makes
/// handles or traces. If not, the test has been run in one, and has passed.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os("WINPIPE_TEST_ALONE").is_some() {
        return true;
    }
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", test]).env("WINPIPE_TEST_ALONE", "1");
    let output = within(LIMIT * 3, move || alone.output().unwrap());
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(
        output.status.success() && passed,
        "{test} in a process of its own: {output:?}"
    );
    false
}
