//! What is published: what is in the package, which versions and licences it builds on, and what of
//! the last release it changes.

use crate::setup::{Platform, TARGET};
use crate::{is_there, rustup_run, say};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use xshell::cmd;

/// A package of this crate is for reading, too: no more than a browser loads at once.
const MOST_BYTES: u64 = 400 * 1024;

/// What the package must have for those who read it, and for its own tests.
const NEEDED: [&str; 9] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "examples/daemon.rs",
    "tests/conformance.rs",
];

/// Makes all the checks, and returns what they found.
pub fn check(platform: &Platform) -> Vec<String> {
    let checks = [package, dependencies, promises];
    let found = checks.iter().filter_map(|check| check(platform).err());
    found.map(|error| format!("{error:#}")).collect()
}

/// Packs the crate, and builds what was packed: first as cargo does, then with the oldest versions of
/// its dependencies that Cargo.toml allows.
fn package(platform: &Platform) -> Result<()> {
    let sh = &platform.sh;
    // What isn't committed yet is checked, too.
    let package = ["--package", "winpipe", "--allow-dirty"];
    let list = platform.native("package").args(package).arg("--list").read()?;
    let list: Vec<_> = list.lines().map(|path| path.replace('\\', "/")).collect();
    let readme = fs::read_to_string(sh.current_dir().join("README.md"))?;
    // Where else would a link lead from the registry's page?
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let links = links.filter(|link| !link.is_empty() && !link.contains(':'));
    for file in NEEDED.into_iter().chain(links) {
        let is_there = list.iter().any(|path| path == file || path.starts_with(file));
        ensure!(is_there, "the package lacks {file}: `include` in Cargo.toml");
    }
    let stray = list.iter().find(|path| {
        ["benches/", "xtask/", ".github/"].iter().any(|other| path.starts_with(other))
    });
    ensure!(stray.is_none(), "{stray:?} doesn't belong in the package");

    platform.native("package").args(package).run()?;
    let id = cmd!(sh, "cargo pkgid").quiet().read()?;
    let version = id.rsplit(['#', '@']).next().context("no version")?;
    let packed = platform.target_dir.join(format!("package/winpipe-{version}"));
    let size = fs::metadata(PathBuf::from(format!("{}.crate", packed.display())))?.len();
    ensure!(size <= MOST_BYTES, "the package has {size} bytes, more than {MOST_BYTES}");
    say(&format!("the package has {} files and {size} bytes", list.len()));

    if !is_there(rustup_run(sh, "nightly", "cargo").arg("--version")) {
        say("SKIPPED: `rustup toolchain install nightly` brings the choice of minimal versions");
        return Ok(());
    }
    let manifest = packed.join("Cargo.toml");
    // What cargo unpacked lies in this workspace, and is none of it.
    fs::write(&manifest, fs::read_to_string(&manifest)? + "\n[workspace]\n")?;
    let at = ["--manifest-path", manifest.to_str().context("the path isn't UTF-8")?];
    rustup_run(sh, "nightly", "cargo")
        .args(["update", "-Zdirect-minimal-versions"])
        .args(at)
        .run()?;
    let check = ["--locked", "--all-targets", "--all-features"];
    platform.native("check").args(at).args(check).run()?;
    if cfg!(not(windows)) {
        platform.cargo_for(TARGET, "check").args(at).args(check).run()?;
    }
    Ok(())
}

/// Licences, duplicates and sources of what the crate depends on, and known vulnerabilities; deny.toml
/// says what is allowed.
fn dependencies(platform: &Platform) -> Result<()> {
    if !is_there(platform.native("deny").arg("--version")) {
        say(
            "SKIPPED: `cargo install --locked cargo-deny` brings the check of licences and sources",
        );
        return Ok(());
    }
    platform.native("deny").args(["check", "licenses", "bans", "sources"]).run()?;
    if is_there(platform.native("deny").args(["fetch", "db"])) {
        platform.native("deny").args(["--offline", "check", "advisories"]).run()?;
    } else {
        say("SKIPPED: known vulnerabilities: their database can't be fetched here");
    }
    Ok(())
}

/// What a program that was written for the last release must change; Cargo.toml says what is intended.
fn promises(platform: &Platform) -> Result<()> {
    if !is_there(platform.native("semver-checks").arg("--version")) {
        say(
            "SKIPPED: `cargo install --locked cargo-semver-checks` brings the comparison with 0.1.1",
        );
        return Ok(());
    }
    // That release is empty but on Windows.
    let compare = ["--package", "winpipe", "--baseline-version", "0.1.1", "--target", TARGET];
    platform.native("semver-checks").args(compare).args(["--release-type", "minor"]).run()?;
    Ok(())
}
