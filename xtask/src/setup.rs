//! What building and running Windows programs takes on this machine, and how the missing parts of
//! it are made: [`Platform`] first, then the set-up, part by part. Nothing of it is needed on
//! Windows.

use crate::{Result, cargo, output, root, run, say, succeeds, target_dir};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

/// The target that tests run for.
pub const TARGET: &str = "x86_64-pc-windows-gnu";

/// How programs for Windows are built and run here. On Windows there is nothing special about it.
#[derive(Default)]
pub struct Platform {
    /// What starts a Windows program.
    runner: Option<PathBuf>,
    /// This project's own Wine prefix; none if `WINE` names the runner.
    prefix: Option<PathBuf>,
    /// What keeps Wine running in that prefix.
    _wine: Option<Child>,
    /// The sources of std, if std must be built from them.
    pub std_source: Option<PathBuf>,
}

impl Platform {
    /// Makes what is missing, so that Windows programs can be built and run.
    pub fn set_up() -> Result<Platform> {
        if cfg!(windows) {
            return Ok(Platform::default());
        }
        let Some(wine) = env::var_os("WINE").map(PathBuf::from) else {
            install_packages(&[WINE, MINGW])?;
            let std_source = install_target()?;
            let prefix = make_prefix()?;
            return Ok(Platform {
                runner: Some("wine".into()),
                _wine: keep_running(&prefix),
                prefix: Some(prefix),
                std_source,
            });
        };
        install_packages(&[MINGW])?;
        let std_source = install_target()?;
        // A plain name is looked up on PATH; a path must hold in every folder that cargo works in.
        let runner = if wine.components().count() == 1 {
            wine
        } else {
            wine.canonicalize()
                .map_err(|e| format!("WINE={}: {e}", wine.display()))?
        };
        Ok(Platform {
            runner: Some(runner),
            std_source,
            ..Platform::default()
        })
    }

    /// Makes what is missing, so that Windows programs can be checked.
    pub fn set_up_to_check() -> Result<Platform> {
        let std_source = if cfg!(windows) {
            None
        } else {
            install_target()?
        };
        if std_source.is_some() {
            // Building std takes the import libraries that MinGW's dlltool makes.
            install_packages(&[MINGW])?;
        }
        Ok(Platform {
            std_source,
            ..Platform::default()
        })
    }

    /// A `cargo SUBCOMMAND` that builds for Windows and runs there what it built.
    pub fn cargo(&self, subcommand: &str) -> Command {
        if cfg!(windows) {
            return cargo(subcommand);
        }
        let mut command = self.cargo_for(TARGET, subcommand);
        command.env(
            "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER",
            "x86_64-w64-mingw32-gcc",
        );
        if let Some(runner) = &self.runner {
            command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", runner);
        }
        self.with_wine(command)
    }

    /// A `cargo SUBCOMMAND` for another target.
    pub fn cargo_for(&self, target: &str, subcommand: &str) -> Command {
        let mut command = cargo(subcommand);
        command.args(["--target", target]);
        if let Some(source) = self.std_source.as_ref().filter(|_| !has_target(target)) {
            // No stable cargo builds std; these two are how the stable one is brought to do it.
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("__CARGO_TESTS_ONLY_SRC_ROOT", source);
            command.arg("-Zbuild-std=std,panic_unwind,proc_macro,test");
            // The one for 64 bits makes both kinds of import libraries.
            let dlltool = "-Cdlltool=x86_64-w64-mingw32-dlltool";
            command.env("CARGO_TARGET_I686_PC_WINDOWS_GNU_RUSTFLAGS", dlltool);
        }
        command
    }

    /// Starts an example that `cargo build --examples` has built.
    pub fn example(&self, name: &str) -> Command {
        let program = self.example_path(name);
        let mut command = Command::new(self.runner.as_ref().unwrap_or(&program));
        if self.runner.is_some() {
            command.arg(&program);
        }
        command.current_dir(root());
        self.with_wine(command)
    }

    pub fn example_path(&self, name: &str) -> PathBuf {
        let folder = if cfg!(windows) {
            target_dir()
        } else {
            target_dir().join(TARGET)
        };
        folder
            .join("debug/examples")
            .join(name)
            .with_extension("exe")
    }

    fn with_wine(&self, mut command: Command) -> Command {
        if env::var_os("WINEDEBUG").is_none() {
            command.env("WINEDEBUG", "-all");
        }
        if let Some(prefix) = &self.prefix {
            command.env("WINEPREFIX", prefix);
        }
        command
    }
}

// -------------------------------------------------------------------------------------------------
// Set-up, part 1: Wine and the MinGW linker, from the system's packages

/// What Debian and Ubuntu have in a package.
struct Program {
    command: &'static str,
    packages: &'static [&'static str],
    by_hand: &'static str,
}

const WINE: Program = Program {
    command: "wine",
    packages: &["wine", "wine64"],
    by_hand: "Wine 8 or newer for 64-bit programs (the command `wine`)",
};

const MINGW: Program = Program {
    command: "x86_64-w64-mingw32-gcc",
    packages: &["gcc-mingw-w64-x86-64-posix"],
    by_hand: "MinGW-w64's gcc for x86_64 (the command `x86_64-w64-mingw32-gcc`)",
};

fn install_packages(wanted: &[Program]) -> Result<()> {
    let missing: Vec<&Program> = wanted
        .iter()
        .filter(|program| !on_path(program.command))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|program| program.packages)
        .copied()
        .collect();
    let by_hand = missing
        .iter()
        .map(|program| program.by_hand)
        .collect::<Vec<_>>()
        .join(" and ");
    let Some(apt_get) = apt_get() else {
        return Err(format!(
            "please install {by_hand}, then try again; \
             xtask can't do it here: that takes apt-get, and root or a sudo without password"
        ));
    };
    let packages_named = packages.join(", ");
    say(&format!(
        "installing {packages_named} with apt-get: some 200 MB, a minute or two"
    ));
    install_with(apt_get, &packages)
        .map_err(|e| format!("{e}; please install {by_hand} by hand, then try again"))
}

/// Installs Samba's access check, which one test asks. That test says that it's skipped where this
/// can't be had, so nothing fails here.
pub fn install_samba() {
    let mut asks = Command::new("/usr/bin/python3");
    asks.args(["-c", "import samba.security"]);
    if cfg!(windows) || succeeds(asks.stdin(Stdio::null()).stderr(Stdio::null())) {
        return;
    }
    let installed = match apt_get() {
        None => Err("that takes apt-get, and root or a sudo without password".into()),
        Some(apt_get) => {
            say("installing python3-samba with apt-get: some 10 MB, half a minute");
            install_with(apt_get, &["python3-samba"])
        }
    };
    if let Err(reason) = installed {
        say(&format!("python3-samba can't be installed here: {reason}"));
    }
}

fn install_with(apt_get: impl Fn(&str) -> Command, packages: &[&str]) -> Result<()> {
    let install = ["-q", "-y", "--no-install-recommends"];
    run(apt_get("update").arg("-q"))?;
    run(apt_get("install").args(install).args(packages))
}

/// A function that makes an `apt-get` command with the rights to install, if we can have them here.
fn apt_get() -> Option<impl Fn(&str) -> Command> {
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !on_path("apt-get") || !(root || succeeds(Command::new("sudo").args(["-n", "true"]))) {
        return None;
    }
    Some(move |subcommand: &str| {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        if !root {
            command.args(["-n", "env"]);
        }
        command
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", subcommand])
            .stdin(Stdio::null());
        command
    })
}

// -------------------------------------------------------------------------------------------------
// Set-up, part 2: Rust's standard library for Windows

/// Makes sure that std can be had for [`TARGET`]. Gives back its sources if cargo must build it.
fn install_target() -> Result<Option<PathBuf>> {
    if has_target(TARGET) {
        return Ok(None);
    }
    // What the rest of this function found the last time: the compiler's version and the place.
    let rustc = output(Command::new("rustc").arg("--version"))?;
    let note = target_dir().join("std-source");
    let known = fs::read_to_string(&note).unwrap_or_default();
    match known.strip_prefix(&rustc).map(PathBuf::from) {
        Some(known) if known.exists() => return Ok(Some(known)),
        _ => {}
    }
    say(&format!(
        "adding the Rust target {TARGET} with rustup: some 30 MB"
    ));
    if add_target(TARGET) {
        return Ok(None);
    }
    say("rustup can't add it here, so std is built from its sources: a minute, once");
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let in_sysroot = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    let found = if in_sysroot.exists()
        || (rustup(&["component", "add", "rust-src"]) && in_sysroot.exists())
    {
        in_sysroot
    } else {
        let version = rustc.split_whitespace().nth(1).unwrap_or_default();
        debian_std_source(version).map_err(|reason| {
            format!(
                "the Rust target {TARGET} is missing; please run `rustup target add {TARGET}` \
                 where rustup can download, or install the sources of std (`rustup component add \
                 rust-src`), then try again; xtask tried both, and Debian's rust-src: {reason}"
            )
        })?
    };
    write(&note, &format!("{rustc}{}", found.display()))?;
    Ok(Some(found))
}

pub fn has_target(target: &str) -> bool {
    output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))
        .is_ok_and(|dir| Path::new(dir.trim()).exists())
}

pub fn add_target(target: &str) -> bool {
    rustup(&["target", "add", target]) && has_target(target)
}

fn rustup(args: &[&str]) -> bool {
    succeeds(Command::new("rustup").args(args).stdin(Stdio::null()))
}

/// Takes the sources of std from Debian's package of the same Rust. The machine's own apt is not
/// changed: this has a list of sources and a state of its own, all in the target folder.
fn debian_std_source(version: &str) -> Result<PathBuf> {
    let folder = target_dir().join("rust-src");
    let library = folder.join(format!("library-{version}"));
    if library.exists() {
        return Ok(library);
    }
    say(&format!(
        "fetching Debian's package rust-src {version}: 45 MB"
    ));
    let mut index_targets = Command::new("apt-get");
    index_targets.args(["indextargets", "--format", "$(SITE)", "Component: main"]);
    let sites = output(&mut index_targets)?;
    let site = sites.lines().next().ok_or("apt knows no mirror")?;

    // What an interrupted run left behind.
    let _ = fs::remove_dir_all(&folder);
    let apt = folder.join("apt");
    for part in ["lists/partial", "archives/partial", "preferences.d"] {
        fs::create_dir_all(apt.join(part)).map_err(|e| format!("{}: {e}", apt.display()))?;
    }
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let sources = format!("deb [signed-by={keys}] {site} trixie-backports main\n");
    write(&apt.join("sources.list"), &sources)?;
    write(&apt.join("status"), "")?;
    // Debian's apt would download as a user who may not be let into the target folder.
    let config = format!(
        "Dir::Etc \"{0}\"; Dir::Etc::SourceList \"sources.list\"; Dir::Etc::SourceParts \"none\";\n\
         Dir::State \"{0}\"; Dir::State::Lists \"lists\"; Dir::State::status \"{0}/status\";\n\
         Dir::Cache \"{0}\"; APT::Sandbox::User \"root\";\n",
        apt.display()
    );
    write(&apt.join("apt.conf"), &config)?;
    let private = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(["-c", "apt/apt.conf"])
            .args(args)
            .current_dir(&folder)
            .stdin(Stdio::null());
        command
    };
    run(&mut private("apt-get", &["update", "-q"]))?;
    // One line for each version: `rust-src | 1.95.0+dfsg1-2 | where from`.
    let offered = output(&mut private("apt-cache", &["madison", "rust-src"]))?;
    let package = offered
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|offer| offer.starts_with(&format!("{version}+")))
        .ok_or_else(|| format!("trixie-backports has no rust-src {version}"))?;
    run(&mut private(
        "apt-get",
        &["download", "-q", &format!("rust-src={package}")],
    ))?;

    let files = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for file in files.filter_map(|entry| Some(entry.ok()?.path())) {
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg")
                .arg("-x")
                .args([&file, &folder.join("unpacked")]))?;
            let _ = fs::remove_file(&file);
        }
    }
    // Moved into its place as the last step, so what is there is whole.
    let source = folder.join(format!("unpacked/usr/src/rustc-{version}/library"));
    fs::rename(&source, &library).map_err(|e| format!("{}: {e}", source.display()))?;
    let _ = fs::remove_dir_all(folder.join("unpacked"));
    Ok(library)
}

// -------------------------------------------------------------------------------------------------
// Set-up, part 3: a Wine prefix of our own, with the one DLL that Wine 8 lacks

/// Makes the prefix if it isn't there whole.
fn make_prefix() -> Result<PathBuf> {
    let prefix = target_dir().join("wine");
    // The marker is written last, so a prefix without it is half made. It names the Wine that made
    // the prefix.
    let marker = prefix.join("made-by");
    let version = output(
        Command::new("wine")
            .arg("--version")
            .env("WINEDEBUG", "-all"),
    )?;
    if fs::read_to_string(&marker).is_ok_and(|made_by| made_by == version) {
        return Ok(prefix);
    }
    say(&format!(
        "making a Wine prefix in {}: ten seconds or more",
        prefix.display()
    ));
    if prefix.exists() {
        succeeds(&mut in_prefix(&prefix, "wineserver", &["-k"]));
        fs::remove_dir_all(&prefix)
            .map_err(|e| format!("can't remove {}: {e}", prefix.display()))?;
    }
    fs::create_dir_all(&prefix).map_err(|e| format!("can't make {}: {e}", prefix.display()))?;
    run(&mut in_prefix(&prefix, "wine", &["wineboot", "-i"]))?;

    let dll = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
    if !dll.exists() {
        say("this Wine has no bcryptprimitives.dll, which Rust programs need: building it");
        let mut gcc = Command::new("x86_64-w64-mingw32-gcc");
        gcc.args(["-shared", "-O2", "-s", "-o"])
            .arg(&dll)
            .arg(root().join("xtask/bcryptprimitives.c"));
        run(gcc.arg("-ladvapi32"))?;
    }
    write(&marker, &version)?;
    Ok(prefix)
}

/// Starts Wine and keeps it running, so that not every test binary starts it anew. This lives as
/// long as we do, however we end: it is a command interpreter that waits for input from us.
fn keep_running(prefix: &Path) -> Option<Child> {
    let waiting = in_prefix(prefix, "wine", &["cmd", "/q", "/k"])
        .stdin(Stdio::piped())
        .spawn();
    succeeds(&mut in_prefix(prefix, "wine", &["cmd", "/c", "exit"]));
    // Without it all goes well, but slower.
    waiting.ok()
}

fn in_prefix(prefix: &Path, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("WINEPREFIX", prefix)
        .env("WINEDEBUG", "-all");
    // No window, and no dialog that offers to download Mono and Gecko.
    command
        .env_remove("DISPLAY")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=");
    // Wine's background processes keep what they inherit: give them nothing of ours.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("can't write {}: {e}", path.display()))
}
