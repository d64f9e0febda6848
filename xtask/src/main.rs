//! `cargo xtask`: sets up what the project needs, then runs, tests or lints it. On Linux the
//! Windows programs run under Wine.

mod package;
mod setup;

use anyhow::{Context, Result, ensure};
use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use setup::{Platform, TARGET, add_target, has_target, install_samba, is_elevated, is_root};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xshell::{Cmd, Shell, cmd};

/// Sets up what winpipe needs, then runs, tests or lints it
///
/// What is missing (on Linux Wine, MinGW, the Rust target) is installed first. WINE names another
/// program to run Windows programs with, such as WINE=/opt/wine/bin/wine.
#[derive(Parser)]
#[command(name = "cargo xtask", subcommand_required = true)]
struct Options {
    /// Let it use sudo to install packages
    #[arg(long, env = "WINPIPE_XTASK_SUDO", value_parser = BoolishValueParser::new())]
    sudo: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Sends this repository's files through a named pipe to another process, which answers with
    /// their digests, and compares; `run echo` sends what you type and shows what comes back
    Run {
        #[arg(value_parser = ["digest", "echo"], default_value = "digest")]
        what: String,
    },
    /// Runs all tests; on Linux natively, and then as Windows programs under Wine
    Test {
        /// For `cargo test`, for example: --test conformance -- shutdown
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Times the crate beside the raw calls and other crates
    Bench {
        /// For the benchmark, for example: --quick, --count, --case ping, --json, --plot FILE.svg
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// rustfmt, clippy, docs, the other Windows targets, the oldest Rust, Miri; and what would be
    /// published: the package, minimal versions, licences, what changes since the last release
    Lint,
}

/// The targets that are only checked.
const OTHER_TARGETS: [&str; 3] =
    ["x86_64-pc-windows-msvc", "i686-pc-windows-gnu", "aarch64-pc-windows-msvc"];

/// The `rust-version` of Cargo.toml.
const OLDEST_RUST: &str = "1.85";

/// A server that takes longer to listen hangs.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let options = Options::parse();
    // As it was typed: clap drops a `--` that comes first.
    let is_task = |arg: &String| ["test", "bench"].contains(&&**arg);
    let rest: Vec<_> = std::env::args().skip_while(|arg| !is_task(arg)).skip(1).collect();
    let done = match options.task {
        Task::Lint => Platform::set_up_to_check(options.sudo).and_then(|here| lint(&here)),
        task => Platform::set_up(options.sudo).and_then(|here| match task {
            Task::Test { .. } => test(&here, &rest, options.sudo),
            Task::Bench { .. } => bench(&here, &rest),
            Task::Run { what } => run(&here, &what),
            Task::Lint => unreachable!("that's above"),
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The library, with what its tests need. One build of it serves them all.
const LIBRARY: [&str; 4] = ["--package", "winpipe", "--features", "tokio"];

/// Runs every test; with `args`, only the tests that they choose.
fn test(platform: &Platform, args: &[String], sudo: bool) -> Result<()> {
    let pass = |test: Cmd| Running::start(test, |_| {})?.finish(io::empty());
    let native = || platform.native("test").args(LIBRARY);
    if cfg!(not(windows)) {
        pass(native().args(args))?;
    }
    pass(platform.cargo("test").args(LIBRARY).args(args))?;
    if !args.is_empty() {
        return Ok(());
    }
    if cfg!(not(windows)) && install_samba(&platform.sh, sudo) {
        let test = "access::table::who_may_do_what_is_as_security_md_says";
        run_ignored(native().arg("--lib"), test)?;
    }
    if cfg!(target_os = "linux") && is_root(&platform.sh)? {
        for (program, test) in [
            ("private_socket", "another_user_can_never_connect_whatever_the_umask_is"),
            ("examples", "the_service_answers_everybody_and_ends_for_its_own_user"),
        ] {
            run_ignored(native().args(["--test", program]), test)?;
        }
    }
    if cfg!(windows) && is_elevated(&platform.sh)? {
        let test = "identity::a_service_of_the_system_may_belong_to_the_administrators";
        run_ignored(platform.cargo("test").args(LIBRARY).args(["--test", "it"]), test)?;
    }
    children(platform)?;
    // Above the seam of `sys`, on another kernel.
    let simulated = native().args(["--test", "conformance"]);
    pass(simulated.env("RUSTFLAGS", "--cfg winpipe_sim"))?;
    // The programs of docs/PORTING.md, which come from other crates; and those on frameworks.
    for others in [["winpipe-bench", "--doc"], ["winpipe-frameworks", "--tests"]] {
        pass(platform.native("test").arg("--package").args(others))?;
        if cfg!(not(windows)) {
            pass(platform.cargo("test").arg("--package").args(others))?;
        }
    }
    // What the default features hide must compile without them too.
    let rest = ["--tests", "--no-default-features"];
    platform.native("check").args(LIBRARY).args(rest).run()?;
    platform.cargo("check").args(LIBRARY).args(rest).run()?;
    Ok(())
}

/// Runs the tests with children in other languages, where their programs can be had.
fn children(platform: &Platform) -> Result<()> {
    let kinds = [false, true].into_iter().filter(|is_native| !is_native || cfg!(not(windows)));
    for is_native in kinds {
        let programs = [
            ("WINPIPE_C_CHILD", platform.c_child(is_native)?, "a_c_program"),
            ("WINPIPE_NODE", platform.node(is_native)?, "node"),
        ];
        for (variable, program, kind) in programs {
            let Some(program) = program else {
                say(&format!("SKIPPED: a child that is {kind}: it can't be had here"));
                continue;
            };
            let cargo = match is_native {
                true => platform.native("test"),
                false => platform.cargo("test"),
            };
            let command = cargo.args(LIBRARY).args(["--test", "children"]);
            let test = format!("a_child_that_is_{kind}_gets_and_sends_every_byte");
            run_ignored(command.env(variable, program), &test)?;
        }
    }
    Ok(())
}

/// Runs one test that is ignored otherwise, as it needs what not every computer has.
fn run_ignored(command: Cmd, test: &str) -> Result<()> {
    let (passed, has_passed) = mpsc::channel();
    Running::start(command.args(["--", "--ignored", "--exact", test]), move |line| {
        if line.contains("1 passed") {
            let _ = passed.send(());
        }
    })?
    .finish(io::empty())?;
    // No test of that name passes, too.
    has_passed.try_recv().with_context(|| format!("there is no test {test}"))
}

/// Runs the benchmark for Windows; where that is under Wine, then std's Unix sockets natively, as the
/// reference that their users come from.
fn bench(platform: &Platform, args: &[String]) -> Result<()> {
    let bench = ["--release", "--quiet", "--package", "winpipe-bench", "--"];
    platform.cargo("run").args(bench).args(args).run()?;
    let other = ["--way", "--json", "--plot", "--count", "--list", "--help"];
    if cfg!(not(windows)) && !args.iter().any(|arg| other.contains(&&**arg)) {
        say("the same natively, with std's Unix sockets");
        platform.native("run").args(bench).args(args).run()?;
    }
    Ok(())
}

/// Checks everything that can be checked without running the crate; all of it, then reports.
fn lint(platform: &Platform) -> Result<()> {
    let mut failed = Vec::new();
    let mut step = |command: Cmd| {
        if let Err(error) = command.run() {
            failed.push(error.to_string());
        }
    };
    step(platform.native("fmt").args(["--all", "--check"]));
    let winpipe = ["--package", "winpipe", "--all-targets"];
    let deny = ["--", "-D", "warnings"];
    let features: [&[&str]; 3] =
        [&[], &["--no-default-features"], &["--features", "winpipe/tokio"]];
    for features in features {
        let all = ["--workspace", "--all-targets"];
        step(platform.native("clippy").args(all).args(features).args(deny));
        if cfg!(not(windows)) {
            let clippy = platform.cargo("clippy").args(winpipe).args(features).args(deny);
            // It misjudges `const { }` in a `thread_local!` of a std that is built here.
            let excused = ["-A", "clippy::missing_const_for_thread_local"];
            step(if platform.std_source.is_some() { clippy.args(excused) } else { clippy });
        }
    }
    // The examples need a system with processes.
    let simulated = ["--package", "winpipe", "--lib", "--tests"];
    let clippy = platform.native("clippy").args(simulated).args(deny);
    step(clippy.env("RUSTFLAGS", "--cfg winpipe_sim"));
    let doc = ["--no-deps", "--package", "winpipe", "--all-features"];
    step(platform.native("doc").args(doc).env("RUSTDOCFLAGS", "-D warnings"));
    if cfg!(not(windows)) {
        step(platform.cargo("doc").args(doc).env("RUSTDOCFLAGS", "-D warnings"));
    }
    for target in OTHER_TARGETS {
        // With the sources of std at hand it is known already that rustup can't add a target.
        let sh = &platform.sh;
        if has_target(sh, target) || platform.std_source.is_some() || add_target(sh, target) {
            step(platform.cargo_for(target, "check").args(winpipe).arg("--all-features"));
        } else {
            say(&format!("SKIPPED: {target}: rustup can't add it here"));
        }
    }

    let sh = &platform.sh;
    if is_there(rustup_run(sh, OLDEST_RUST, "rustc").arg("--version")) {
        let add = cmd!(sh, "rustup target add --toolchain {OLDEST_RUST} {TARGET}");
        let targets: &[&[&str]] =
            if is_there(add) { &[&[], &["--target", TARGET]] } else { &[&[]] };
        for target in targets {
            for features in features {
                let check =
                    rustup_run(sh, OLDEST_RUST, "cargo").args(["check", "--package", "winpipe"]);
                step(check.args(*target).args(features));
            }
        }
    } else {
        say(&format!("SKIPPED: `rustup toolchain install {OLDEST_RUST}` brings the oldest Rust"));
    }
    if is_there(rustup_run(sh, "nightly", "cargo").args(["miri", "--version"])) {
        let miri = |arguments: &[&str]| {
            rustup_run(sh, "nightly", "cargo").args(["miri", "test"]).args(arguments)
        };
        step(miri(&["--lib", "protocol::"]));
        // Calls that race, on the simulated kernel. All of that is safe code, so only races, deadlocks
        // and leaks are looked for, which is quicker.
        let flags =
            "-Zmiri-disable-isolation -Zmiri-disable-validation -Zmiri-disable-stacked-borrows";
        let shutdown = miri(&["--test", "conformance", "shutdown"]).env("MIRIFLAGS", flags);
        step(shutdown.env("RUSTFLAGS", "--cfg winpipe_sim"));
    } else {
        say("SKIPPED: `rustup toolchain install nightly -c miri,rust-src` brings Miri");
    }
    failed.extend(package::check(platform));
    ensure!(failed.is_empty(), "lint failed:\n  {}", failed.join("\n  "));
    say("lint found nothing");
    Ok(())
}

/// A program of another toolchain, which isn't confused by the one that runs us.
fn rustup_run<'a>(sh: &'a Shell, toolchain: &str, program: &str) -> Cmd<'a> {
    let command = cmd!(sh, "rustup run {toolchain} {program}");
    command.env_remove("CARGO").env_remove("RUSTC")
}

/// Whether the command succeeds.
fn is_there(command: Cmd) -> bool {
    command.quiet().ignore_stderr().read().is_ok()
}

/// Runs a server and a client of the examples, in two processes.
fn run(platform: &Platform, what: &str) -> Result<()> {
    platform.cargo("build").args(["--package", "winpipe", "--examples"]).run()?;
    let name = format!("winpipe-{what}-{}", std::process::id());
    let (ready, is_ready) = mpsc::channel();
    let server = platform.example(&format!("{what}_server")).arg(&name);
    let _server = Running::start(server, move |line| {
        if line.starts_with("listening") {
            let _ = ready.send(());
        }
    })?;
    is_ready.recv_timeout(LIMIT).context("the server did not say that it listens")?;

    let client = Running::start(platform.example(&format!("{what}_client")).arg(&name), |_| {})?;
    if what == "echo" {
        if io::stdin().is_terminal() {
            let end = if cfg!(windows) { "Ctrl-Z, Enter" } else { "Ctrl-D" };
            say(&format!("what you type comes back through the pipe; end with {end}"));
        }
        return client.finish(io::stdin());
    }
    let files = cmd!(platform.sh, "git ls-files --cached --others --exclude-standard").quiet();
    // Where it's not a clone, or there is no git, a few will do.
    let files = files.ignore_stderr().read().unwrap_or("Cargo.toml\nREADME.md\nsrc/lib.rs".into());
    // And something larger than any pipe's buffer: the client itself.
    let client_itself = platform.example_path("digest_client");
    client.finish(io::Cursor::new(format!("{files}\n{}\n", client_itself.display())))
}

fn say(message: &str) {
    eprintln!("xtask: {message}");
}

/// A child that doesn't outlive us. What it prints comes through us: Wine must not see a terminal,
/// which it would take over and fill with escape sequences.
struct Running(String, Child, [JoinHandle<()>; 2]);

impl Running {
    /// Starts the command; `on_line` sees each line that it prints.
    fn start(command: Cmd, on_line: impl Fn(&str) + Clone + Send + 'static) -> Result<Running> {
        let name = command.to_string();
        eprintln!("$ {name}");
        let mut command = Command::from(command);
        if io::stderr().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't start `{name}`"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let copies = [
            pass_on(stdout, io::stdout(), on_line.clone()),
            pass_on(stderr, io::stderr(), on_line),
        ];
        Ok(Running(name, child, copies))
    }

    /// Gives the child its input, and waits for its end.
    fn finish(mut self, mut input: impl Read + Send + 'static) -> Result<()> {
        let mut stdin = self.1.stdin.take().context("stdin is piped")?;
        // A child that has ended takes no more.
        thread::spawn(move || io::copy(&mut input, &mut stdin));
        let status = self.1.wait()?;
        // A background process of Wine may keep its end of the pipe for longer than this.
        let end = Instant::now();
        while !self.2.iter().all(JoinHandle::is_finished) && end.elapsed().as_secs() < 2 {
            thread::sleep(Duration::from_millis(5));
        }
        ensure!(status.success(), "`{}` failed ({status})", self.0);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only for a child that has ended.
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

/// Copies line by line, as the lines come, so that the two streams of a child don't cut into each
/// other's lines; and shows each line to `on_line`.
fn pass_on(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    on_line: impl Fn(&str) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let _ = writeln!(to, "{line}");
            on_line(&line);
        }
    })
}
