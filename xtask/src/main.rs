//! `cargo xtask`: sets up what the project needs, then runs, tests or lints it. On Linux the
//! Windows programs run under Wine.
//!
//! Here are the commands, and below them how child processes are run; `setup` makes what is
//! missing, `tidy` knows the rules of the house.

mod setup;
mod tidy;

use setup::{Platform, TARGET, add_target, has_target};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  run           sends this repository's files through a named pipe to another process, which
                answers with their digests, and compares
  run echo      sends what you type through a named pipe and shows what comes back
  test [ARGS]   runs all tests; on Linux natively, and then as Windows programs under Wine;
                ARGS go to `cargo test`, for example: --test conformance -- shutdown
  bench [ARGS]  times the crate beside the raw calls and other crates; ARGS go to the benchmark,
                for example: --quick, --count, --case ping, --json, --plot FILE.svg
  lint          rustfmt, clippy, docs, the other Windows targets, and the rules of the house

What is missing (on Linux Wine, MinGW, the Rust target, Samba's access check) is set up first.
WINE names another program to run Windows programs with, such as WINE=/opt/wine/bin/wine.
";

/// The targets that are only checked.
const OTHER_TARGETS: [&str; 3] = [
    "x86_64-pc-windows-msvc",
    "i686-pc-windows-gnu",
    "aarch64-pc-windows-msvc",
];
/// What is tested: all but the benchmark, whose dependencies take long to build.
const PACKAGES: [&str; 4] = ["--package", "winpipe", "--package", "xtask"];
/// The `rust-version` of Cargo.toml.
const OLDEST_RUST: &str = "1.85";

/// A server that takes longer to listen, or a client that takes longer to end, hangs.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);

/// An error says in one line what went wrong, with the command that failed.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["run"] => run_digest(),
        ["run", "echo"] => run_echo(),
        ["test", rest @ ..] => test(rest),
        ["lint"] => lint(),
        ["bench", rest @ ..] => bench(rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [] => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
        _ => {
            eprint!("xtask: no such command: {}\n\n{USAGE}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

// -------------------------------------------------------------------------------------------------
// The commands

/// Runs every test; with `args`, only the tests that they choose.
fn test(args: &[&str]) -> Result<()> {
    let windows = Platform::set_up()?;
    let mut skipped = 0;
    if cfg!(not(windows)) {
        if args.is_empty() {
            setup::install_samba();
        }
        skipped += count_skipped(cargo("test").args(PACKAGES).args(args))?;
    }
    let package = if cfg!(windows) {
        &PACKAGES
    } else {
        &PACKAGES[..2]
    };
    let skipped_on_windows = count_skipped(windows.cargo("test").args(package).args(args))?;
    if args.is_empty() {
        // What the default features hide must compile without them too.
        let rest = ["--tests", "--no-default-features"];
        run(windows.cargo("check").args(package).args(rest))?;
        if cfg!(not(windows)) {
            run(cargo("check").args(PACKAGES).args(rest))?;
        }
    }

    let place = if cfg!(windows) {
        "on Windows"
    } else {
        "under Wine"
    };
    let mut summary = format!("tests passed; {skipped_on_windows} skipped {place}");
    if skipped > 0 {
        summary += &format!(", {skipped} skipped natively");
    }
    if skipped + skipped_on_windows > 0 {
        summary += " (the lines above that begin with SKIPPED say why)";
    }
    say(&summary);
    Ok(())
}

/// Runs a test command and counts the lines with which its tests say that they skip.
fn count_skipped(command: &mut Command) -> Result<usize> {
    say(&describe(command));
    if io::stderr().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let skipped = Arc::new(AtomicUsize::new(0));
    let counter = skipped.clone();
    let tests = Running::start(command, move |line| {
        counter.fetch_add(usize::from(line.starts_with("SKIPPED")), Ordering::Relaxed);
    })?;
    tests.finish(None)?;
    Ok(skipped.load(Ordering::Relaxed))
}

/// Runs the benchmark for Windows; where that is under Wine, then std's Unix sockets natively, as the
/// reference that their users come from.
fn bench(args: &[&str]) -> Result<()> {
    let windows = Platform::set_up()?;
    let bench = ["--release", "--quiet", "--package", "winpipe-bench", "--"];
    run(windows.cargo("run").args(bench).args(args))?;
    let is_table = !args
        .iter()
        .any(|arg| matches!(*arg, "--json" | "--plot" | "--count" | "--list"));
    if cfg!(not(windows)) && is_table {
        say("the same natively, with std's Unix sockets");
        // The ways are other ones there.
        run(cargo("run").args(bench).args(args))?;
    }
    Ok(())
}

/// Checks everything that can be checked without running the crate; all of it, then reports.
fn lint() -> Result<()> {
    let windows = Platform::set_up_to_check()?;
    let mut failed = Vec::new();
    let mut step = |outcome: Result<()>| failed.extend(outcome.err());

    step(run(cargo("fmt").args(["--all", "--check"])));
    step(tidy());

    let deny = ["--", "-D", "warnings"];
    for features in [[].as_slice(), &["--no-default-features"]] {
        let all = ["--workspace", "--all-targets"];
        step(run(cargo("clippy").args(all).args(features).args(deny)));
        if cfg!(not(windows)) {
            let all = ["--package", "winpipe", "--all-targets"];
            let mut clippy = windows.cargo("clippy");
            clippy.args(all).args(features).args(deny);
            if windows.std_source.is_some() {
                // Clippy misjudges `const { }` in a `thread_local!` of a std that is built here.
                clippy.args(["-A", "clippy::missing_const_for_thread_local"]);
            }
            step(run(&mut clippy));
        }
    }
    let doc = ["--no-deps", "--package", "winpipe"];
    step(run(cargo("doc")
        .args(doc)
        .env("RUSTDOCFLAGS", "-D warnings")));
    if cfg!(not(windows)) {
        step(run(windows
            .cargo("doc")
            .args(doc)
            .env("RUSTDOCFLAGS", "-D warnings")));
    }

    for target in OTHER_TARGETS {
        // With the sources of std at hand it is known already that rustup can't add a target.
        if has_target(target) || windows.std_source.is_some() || add_target(target) {
            let mut check = windows.cargo_for(target, "check");
            step(run(check.args(["--package", "winpipe", "--all-targets"])));
        } else {
            eprintln!("SKIPPED: {target}: rustup can't add it here");
        }
    }
    step(check_oldest_rust());

    if failed.is_empty() {
        say("lint found nothing");
        return Ok(());
    }
    Err(format!("lint failed:\n  {}", failed.join("\n  ")))
}

/// Checks the library with the oldest Rust that Cargo.toml promises, if that is installed.
fn check_oldest_rust() -> Result<()> {
    let toolchains = output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let Some(oldest) = toolchains
        .split_whitespace()
        .find(|name| name.starts_with(OLDEST_RUST))
    else {
        eprintln!("SKIPPED: Rust {OLDEST_RUST}: that toolchain is not installed");
        return Ok(());
    };
    let old = |program: &str| {
        let mut command = Command::new("rustup");
        command.args(["run", oldest, program]).current_dir(root());
        command
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO")
            .env_remove("RUSTC");
        command
    };
    for features in [[].as_slice(), &["--no-default-features"]] {
        run(old("cargo")
            .args(["check", "--package", "winpipe"])
            .args(features))?;
        let libdir = output(old("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
        if Path::new(libdir.trim()).exists() {
            run(old("cargo")
                .args(["check", "--package", "winpipe", "--target", TARGET])
                .args(features))?;
        } else {
            eprintln!("SKIPPED: Rust {OLDEST_RUST} for {TARGET}: that target is not installed");
        }
    }
    Ok(())
}

/// Checks the rules of the house in all of `src/`.
fn tidy() -> Result<()> {
    say("tidy: unsafe, windows_sys, imports, public API");
    let read =
        |file: &Path| fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()));
    let homes = tidy::homes(&read(&root().join("src/lib.rs"))?);
    let mut found = Vec::new();
    for file in files_below(&root().join("src"))? {
        let path = file
            .strip_prefix(root())
            .expect("below root")
            .to_string_lossy()
            .replace('\\', "/");
        found.extend(tidy::check(&path, &read(&file)?, &homes));
    }
    if found.is_empty() {
        return Ok(());
    }
    eprintln!("{}", found.join("\n"));
    Err(format!(
        "tidy found {} breaches of the rules in ARCHITECTURE.md",
        found.len()
    ))
}

/// Sends this repository's files from one process to another, which answers with their digests.
fn run_digest() -> Result<()> {
    let windows = Platform::set_up()?;
    run(windows
        .cargo("build")
        .args(["--package", "winpipe", "--examples"]))?;
    let name = format!("winpipe-digest-{}", std::process::id());
    let _server = start_server(windows.example("digest_server").arg(&name))?;

    let mut client = windows.example("digest_client");
    let mut client = Running::start(client.arg(&name), |_| {})?;
    let mut files = repository_files()?;
    // And something larger than any pipe's buffer: the client itself.
    files.push(windows.example_path("digest_client").display().to_string());
    client.feed(io::Cursor::new(files.join("\n")));
    client.finish(Some(LIMIT))
}

/// Sends back what a person types.
fn run_echo() -> Result<()> {
    let windows = Platform::set_up()?;
    run(windows
        .cargo("build")
        .args(["--package", "winpipe", "--examples"]))?;
    let name = format!("winpipe-echo-{}", std::process::id());
    let _server = start_server(windows.example("echo_server").arg(&name))?;

    let mut client = windows.example("echo_client");
    let mut client = Running::start(client.arg(&name), |_| {})?;
    if io::stdin().is_terminal() {
        let end = if cfg!(windows) {
            "Ctrl-Z, Enter"
        } else {
            "Ctrl-D"
        };
        say(&format!(
            "what you type comes back through the pipe; end with {end}"
        ));
    }
    let input = client.feed(io::stdin());
    while !input.is_finished() && client.is_running()? {
        thread::sleep(POLL);
    }
    client.finish(Some(LIMIT))
}

/// Starts a server and waits until it says that it listens.
fn start_server(command: &mut Command) -> Result<Running> {
    let (ready, is_ready) = mpsc::channel();
    let server = Running::start(command, move |line| {
        if line.starts_with("listening") {
            let _ = ready.send(());
        }
    })?;
    match is_ready.recv_timeout(LIMIT) {
        Ok(()) => Ok(server),
        Err(_) => Err(format!("`{}` did not say that it listens", server.name)),
    }
}

/// The files of this repository as paths relative to its top folder.
fn repository_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root());
    let names: Vec<String> = match output(&mut git) {
        Ok(list) => list.lines().map(str::to_owned).collect(),
        // Not a clone, or no git: then what lies there, but not what was built.
        Err(_) => files_below(root())?
            .iter()
            .map(|file| {
                file.strip_prefix(root())
                    .expect("below root")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect(),
    };
    Ok(names
        .into_iter()
        .filter(|name| root().join(name).is_file())
        .collect())
}

/// All files in a folder and the folders in it, sorted; without `target` and hidden folders.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: io::Error| format!("can't read {}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(files_below(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

// -------------------------------------------------------------------------------------------------
// Cargo, natively and for Windows

/// A native `cargo SUBCOMMAND` in the repository's top folder.
fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg(subcommand)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target_dir());
    command
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the repository")
}

/// Where cargo puts what it builds; everything that the set-up makes lies there too.
fn target_dir() -> PathBuf {
    // A relative one starts where cargo was started, and so were we.
    let chosen = env::var_os("CARGO_TARGET_DIR").and_then(|dir| std::path::absolute(dir).ok());
    chosen.unwrap_or_else(|| root().join("target"))
}

// -------------------------------------------------------------------------------------------------
// Child processes

fn say(message: &str) {
    eprintln!("xtask: {message}");
}

/// Runs a command to its end; what it prints goes where ours goes.
fn run(command: &mut Command) -> Result<()> {
    say(&describe(command));
    let name = describe(command);
    let status = command
        .status()
        .map_err(|e| format!("can't start `{name}`: {e}"))?;
    judge(&name, status)
}

/// Runs a command and gives back what it printed to stdout.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("can't start `{}`: {e}", describe(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!(
            "`{}` failed ({}) {reason}",
            describe(command),
            output.status
        ))
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn judge(name: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{name}` failed ({status})"))
    }
}

/// The command as a person would type it.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = [program].into_iter().chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A child that doesn't outlive us. What it prints comes through us: Wine must not see a terminal,
/// which it would take over and fill with escape sequences.
struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    copies: [thread::JoinHandle<()>; 2],
}

impl Running {
    /// Starts the command; `on_line` sees each line that it prints.
    fn start(
        command: &mut Command,
        on_line: impl FnMut(&str) + Clone + Send + 'static,
    ) -> Result<Running> {
        let name = describe(command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|e| format!("can't start `{name}`: {e}"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let copies = [
            pass_on(stdout, io::stdout(), on_line.clone()),
            pass_on(stderr, io::stderr(), on_line),
        ];
        Ok(Running {
            name,
            stdin: child.stdin.take(),
            child,
            copies,
        })
    }

    /// Gives the child its input, in a thread that ends with the input.
    fn feed(&mut self, mut input: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let mut stdin = self.stdin.take().expect("fed only once");
        thread::spawn(move || {
            // A child that has ended takes no more; its exit code says whether that was right.
            let _ = io::copy(&mut input, &mut stdin);
        })
    }

    fn is_running(&mut self) -> Result<bool> {
        let state = self
            .child
            .try_wait()
            .map_err(|e| format!("lost `{}`: {e}", self.name))?;
        Ok(state.is_none())
    }

    /// Waits for the child's end, and for no longer than `limit`. Without [`feed`](Self::feed) its
    /// input is empty.
    fn finish(mut self, limit: Option<Duration>) -> Result<()> {
        drop(self.stdin.take());
        let start = Instant::now();
        while self.is_running()? {
            if let Some(limit) = limit.filter(|limit| start.elapsed() > *limit) {
                return Err(format!("`{}` did not end within {limit:?}", self.name));
            }
            thread::sleep(POLL);
        }
        // A background process of Wine may keep its end of the pipe for longer than this.
        let end = Instant::now();
        while self.copies.iter().any(|copy| !copy.is_finished()) && end.elapsed().as_secs() < 2 {
            thread::sleep(POLL);
        }
        let status = self
            .child
            .wait()
            .map_err(|e| format!("lost `{}`: {e}", self.name))?;
        judge(&self.name, status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only for a child that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies line by line, as the lines come, so that the two streams of a child don't cut into each
/// other's lines; and shows each line to `on_line`.
fn pass_on(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    mut on_line: impl FnMut(&str) + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            if to.write_all(&line).and_then(|()| to.flush()).is_err() {
                return;
            }
            on_line(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
