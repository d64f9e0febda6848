//! ARCHITECTURE.md's one direction of imports, in all of `src/`: modules import those below them, by the
//! names of the files where things live, in no circle; and `windows_sys` stays in `sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};

/// From the top. What is deeper in the tree is where its parent is, unless it's named itself.
const LAYERS: [&[&str]; 7] = [
    &["ipc"],
    &["tokio"],
    &[
        "child", "connect", "listener", "handle", "handoff", "peer", "pipes",
    ],
    &["stream"],
    &["account"],
    &[
        "protocol",
        "wait",
        "tokio::accept",
        "tokio::port",
        "tokio::readiness",
    ],
    &["sys"],
];
/// Imported by all but `sys`; they import std and each other.
const WORDS: &[&str] = &["addr", "sid", "access", "options", "input", "lock"];

/// Words that `::` joins: a path in the source, or a module without `crate`.
type Names = Vec<String>;

/// Collects the paths in `tokens`, which begin with `start` where they stand in braces, as absolute
/// ones. `at` is the module.
fn collect(tokens: TokenStream, start: &[String], at: &[String], paths: &mut BTreeSet<Names>) {
    let (mut path, mut colons, mut inner) = (start.to_vec(), 0, None);
    let end = TokenTree::from(proc_macro2::Literal::u8_suffixed(0));
    for token in tokens.into_iter().chain([end]) {
        let is_joined = colons == 2 || (path == start && !path.is_empty());
        match token {
            TokenTree::Punct(sign) if sign.as_char() == ':' => {
                colons += 1;
                continue;
            }
            TokenTree::Ident(name) if is_joined => path.push(name.to_string()),
            TokenTree::Group(group) if is_joined => collect(group.stream(), &path, at, paths),
            other => {
                if path.len() > 1 || colons == 2 {
                    let up = path.iter().take_while(|name| *name == "super").count();
                    let from = match path.first().map_or("", |first| first) {
                        "super" => &at[..at.len().saturating_sub(up)],
                        "self" => at,
                        _ => &[],
                    };
                    let skip = up.max(usize::from(
                        path.first().is_some_and(|first| first == "self"),
                    ));
                    let crate_ = (skip > 0).then(|| "crate".to_owned());
                    paths.insert(
                        crate_
                            .iter()
                            .chain(from)
                            .chain(&path[skip..])
                            .cloned()
                            .collect(),
                    );
                }
                let before = std::mem::replace(&mut path, start.to_vec());
                match other {
                    TokenTree::Ident(name) => {
                        if before == ["mod"] {
                            inner = Some([at, &[name.to_string()]].concat());
                        }
                        path.push(name.to_string());
                    }
                    TokenTree::Group(group) => {
                        collect(
                            group.stream(),
                            &[],
                            inner.take().as_deref().unwrap_or(at),
                            paths,
                        );
                    }
                    _ => inner = None,
                }
            }
        }
        colons = 0;
    }
}

/// Checks the files of a crate, each with its path below `src`; returns what is wrong.
fn check(files: &[(String, String)]) -> Vec<String> {
    let module = |path: &str| -> Names {
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/')
            .filter(|name| *name != "lib")
            .map(str::to_owned)
            .collect()
    };
    let modules: BTreeSet<Names> = files.iter().map(|(path, _)| module(path)).collect();
    let (mut found, mut uses) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for (path, source) in files {
        let (at, mut paths) = (module(path), BTreeSet::new());
        let name = at.join("::");
        if at.is_empty() {
            continue;
        }
        if layer(&name).is_none() {
            found.insert(format!("{name}: not in LAYERS"));
        }
        collect(source.parse().expect("it's Rust"), &[], &at, &mut paths);
        for path in paths {
            let child = [&at[..], &path[..1]].concat();
            let path = match &*path[0] {
                "crate" => path[1..].to_vec(),
                _ if modules.contains(&child) => [&at[..], &path].concat(),
                "windows_sys" if at[0] != "sys" => {
                    found.insert(format!("{name}: windows_sys"));
                    continue;
                }
                _ => continue,
            };
            match (1..=path.len())
                .rev()
                .find(|len| modules.contains(&path[..*len]))
            {
                None => drop(found.insert(format!("{name}: an import by lib.rs"))),
                Some(len) if path[..len] == at => {}
                Some(len) => {
                    uses.entry(name.clone())
                        .or_default()
                        .insert(path[..len].join("::"));
                }
            }
        }
    }
    for (from, to) in uses
        .iter()
        .flat_map(|(from, all)| all.iter().map(move |to| (from, to)))
    {
        match (layer(from), layer(to)) {
            (Some(from_layer), Some(to_layer)) if !may_import(from_layer, to_layer) => {
                found.insert(format!("{from} -> {to}: the wrong way"));
            }
            _ if leads(&uses, to, from, &mut BTreeSet::new()) => {
                found.insert(format!("{from} -> {to}: a circle"));
            }
            _ => {}
        }
    }
    found.into_iter().collect()
}

/// Which of [`LAYERS`] and [`WORDS`] a module belongs to, by its longest part that is named there.
fn layer(module: &str) -> Option<usize> {
    let named = LAYERS
        .iter()
        .chain([&WORDS])
        .position(|names| names.contains(&module));
    named.or_else(|| layer(module.rsplit_once("::")?.0))
}

fn may_import(from: usize, to: usize) -> bool {
    from == to || (from < to && from + 1 != LAYERS.len())
}

fn leads<'a>(
    uses: &'a BTreeMap<String, BTreeSet<String>>,
    from: &'a String,
    to: &String,
    seen: &mut BTreeSet<&'a String>,
) -> bool {
    let mut next = uses.get(from).into_iter().flatten();
    from == to || (seen.insert(from) && next.any(|next| leads(uses, next, to, seen)))
}

fn read(folder: &Path, below: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => read(&path, &format!("{name}/"), files),
            false => files.push((name, fs::read_to_string(&path).unwrap())),
        }
    }
}

#[test]
fn imports_go_one_way() {
    let mut files = Vec::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "",
        &mut files,
    );
    assert_eq!(check(&files), [""; 0]);
}

#[test]
fn breaches_are_found_and_nothing_else() {
    let right = [
        ("lib.rs", "pub use stream::WinStream; mod stream;"),
        (
            "addr.rs",
            "use std::io; pub(super) fn f() {} mod tests { use super::*; }",
        ),
        ("ipc.rs", "use crate::stream::WinStream;"),
        (
            "stream.rs",
            "use crate::{addr::Addr, sys::pipe::{self, read}}; fn f() { pipe::g() }",
        ),
        (
            "listener.rs",
            "use crate::stream::X; // crate::ipc\n const S: &str = \"crate::ipc\";",
        ),
        (
            "sys/mod.rs",
            "pub mod pipe; pub mod error; trait T { const C: usize; }",
        ),
        (
            "sys/pipe.rs",
            "use super::error::Code; use windows_sys::Win32; use log::trace;",
        ),
        ("sys/error.rs", ""),
    ];
    let found = |changed: &str, source: &str| {
        let kept = right.into_iter().filter(|(path, _)| *path != changed);
        let files = kept.chain([(changed, source)]);
        check(
            &files
                .map(|(path, source)| (path.into(), source.into()))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(found("sys/error.rs", ""), [""; 0]);
    for (path, source, breach) in [
        (
            "stream.rs",
            "use crate::ipc::path;",
            "stream -> ipc: the wrong way",
        ),
        (
            "sys/pipe.rs",
            "fn f() { crate::stream::g() }",
            "sys::pipe -> stream: the wrong way",
        ),
        (
            "sys/pipe.rs",
            "x!(1, [{ crate::addr::g() }]);",
            "sys::pipe -> addr: the wrong way",
        ),
        (
            "addr.rs",
            "mod m { use super::super::stream; }",
            "addr -> stream: the wrong way",
        ),
        (
            "stream.rs",
            "type X = crate::listener::Y;",
            "stream -> listener: the wrong way",
        ),
        ("peer.rs", "use crate::listener::Y; ", ""),
        (
            "sys/error.rs",
            "use crate::sys::{trace, pipe::x};",
            "sys::error -> sys::pipe: a circle",
        ),
        (
            "sys/error.rs",
            "use super::*; use super::pipe;",
            "sys::pipe -> sys::error: a circle",
        ),
        ("sys/mod.rs", "use self::pipe::x; use error::y;", ""),
        (
            "stream.rs",
            "use crate::{WinListener, addr};",
            "stream: an import by lib.rs",
        ),
        (
            "stream.rs",
            "use windows_sys::Win32;",
            "stream: windows_sys",
        ),
        ("helpers.rs", "", "helpers: not in LAYERS"),
    ] {
        let found = found(path, source);
        assert!(
            found.iter().any(|line| line == breach) || (breach.is_empty() && found.is_empty()),
            "{breach}: {found:?}"
        );
    }
}
