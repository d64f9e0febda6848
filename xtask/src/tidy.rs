//! The rules of the house that no compiler checks: ARCHITECTURE.md's invariants about `unsafe`,
//! `windows_sys`, the direction of imports, and the public API.

/// The modules, each of which may import those before it: so what comes before `sys` is std only. `sys`
/// itself imports nothing but std and windows-sys.
const ORDER: [&str; 14] = [
    "protocol", "input", "addr", "sid", "access", "sys", "account", "options", "stream",
    "listener", "peer", "handoff", "pipes", "ipc",
];

/// The traits whose implementation takes `unsafe` code outside of `src/sys/` too.
const UNSAFE_TRAITS: [&str; 3] = ["FromRawHandle", "FromRawFd", "FromRawSocket"];

/// Types of windows-sys that a signature could name.
const WINDOWS_TYPES: [&str; 13] = [
    "ACL",
    "BOOL",
    "HANDLE",
    "NTSTATUS",
    "OVERLAPPED",
    "PCWSTR",
    "PSECURITY_DESCRIPTOR",
    "PSID",
    "PWSTR",
    "SECURITY_ATTRIBUTES",
    "SECURITY_DESCRIPTOR",
    "SID",
    "WIN32_ERROR",
];

/// Checks one file of `src/`. `path` is relative to the repository and has `/` as its separator;
/// `homes` is what [`homes`] found in lib.rs.
pub fn check(path: &str, source: &str, homes: &[(String, String)]) -> Vec<String> {
    let code = without_comments_and_strings(source);
    let module = path
        .trim_start_matches("src/")
        .split(['/', '.'])
        .next()
        .unwrap_or_default();
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| found.push(format!("{path}:{line}: {what}"));

    for (line, name) in unfinished(&code) {
        report(line, format!("`{name}!` must not stay"));
    }
    if module != "lib" {
        for (line, what) in wrong_imports(module, &code, homes) {
            report(line, what);
        }
    }
    if module != "sys" {
        for line in unsafe_code(&code) {
            report(line, "`unsafe` belongs in src/sys/".into());
        }
        for line in lines_with(&code, "windows_sys") {
            report(line, "`windows_sys` belongs in src/sys/".into());
        }
        for (line, what) in leaks(&code) {
            report(line, what);
        }
    }
    found
}

/// Finds `unsafe` outside of an implementation of an unsafe trait.
fn unsafe_code(code: &str) -> Vec<usize> {
    let mut excused = false;
    let mut found = Vec::new();
    for (number, line) in numbered(code) {
        // rustfmt puts what belongs to the file into the first column, the closing brace too.
        if line.starts_with("impl") || line.starts_with("unsafe impl") {
            excused = line.starts_with("unsafe impl")
                || UNSAFE_TRAITS.iter().any(|name| has_word(line, name));
        }
        if has_word(line, "unsafe") && !excused {
            found.push(number);
        }
        if line.starts_with('}') || (line.starts_with("unsafe impl") && line.ends_with('}')) {
            excused = false;
        }
    }
    found
}

/// Tells from lib.rs which module each re-exported name comes from: `pub use MODULE::{NAME, NAME}`.
pub fn homes(lib: &str) -> Vec<(String, String)> {
    let code = without_comments_and_strings(lib);
    let words = words(&code);
    let mut homes = Vec::new();
    for (i, window) in words.windows(4).enumerate() {
        let [(_, "pub"), (_, "use"), (_, module), (_, "::")] = window else {
            continue;
        };
        let names = words[i + 4..]
            .iter()
            .map(|(_, word)| *word)
            .take_while(|word| *word != ";");
        homes.extend(
            names
                .filter(|word| is_word(word))
                .map(|name| (name.into(), module.to_string())),
        );
    }
    homes
}

/// Finds imports against the direction: `crate::X` and `crate::{X, Y}`.
fn wrong_imports(module: &str, code: &str, homes: &[(String, String)]) -> Vec<(usize, String)> {
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let own = match (module, place(module)) {
        ("sys" | "protocol", _) => 0,
        (_, Some(own)) => own,
        (_, None) => {
            let message = format!("`{module}` has no place yet in the order of imports in xtask");
            return vec![(1, message)];
        }
    };
    let words = words(code);
    let mut found = Vec::new();
    for (i, (line, _)) in words
        .iter()
        .enumerate()
        .filter(|(_, (_, word))| *word == "crate")
    {
        for name in imported(&words[i + 1..]) {
            let home = homes
                .iter()
                .find(|(of, _)| of == name)
                .map_or(name, |(_, home)| home);
            if home != module && place(home).is_some_and(|other| other >= own) {
                found.push((*line, format!("`{module}` must not import `crate::{name}`")));
            }
        }
    }
    found
}

/// The names directly below `crate` in what follows that word.
fn imported<'a>(words: &[(usize, &'a str)]) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut depth = 0;
    for pair in words.windows(2) {
        match pair[1].1 {
            _ if names.is_empty() && depth == 0 && pair[0].1 != "::" => break,
            "{" => depth += 1,
            "}" => depth -= 1,
            // `a` of `a::b`, not `b`; of a list only its own level.
            word if depth <= 1 && is_word(word) && (pair[0].1 != "::" || depth == 0) => {
                names.push(word);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Finds `pub` items that show a type of windows-sys, or the module `sys` itself.
fn leaks(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let words = words(code);
    for (i, (line, word)) in words.iter().enumerate() {
        if *word != "pub" || words.get(i + 1).is_some_and(|(_, next)| *next == "(") {
            continue;
        }
        // A `use` and a tuple have braces or parentheses of their own; the end is what ends it all.
        let ends: &[&str] = match words.get(i + 1) {
            Some((_, "use")) => &[";"],
            _ => &[";", "{", "="],
        };
        for (_, word) in words[i..]
            .iter()
            .take_while(|(_, word)| !ends.contains(word))
        {
            if WINDOWS_TYPES.contains(word) || *word == "sys" {
                found.push((*line, format!("the public API must not show `{word}`")));
            }
        }
    }
    found
}

fn unfinished(code: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for pair in words(code).windows(2) {
        for name in ["todo", "unimplemented", "dbg"] {
            if pair[0].1 == name && pair[1].1 == "!" {
                found.push((pair[0].0, name));
            }
        }
    }
    found
}

fn lines_with(code: &str, word: &str) -> Vec<usize> {
    numbered(code)
        .filter(|(_, line)| has_word(line, word))
        .map(|(number, _)| number)
        .collect()
}

fn numbered(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(i, line)| (i + 1, line))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !is_part_of_word(c)).any(|w| w == word)
}

fn is_word(text: &str) -> bool {
    text.starts_with(is_part_of_word)
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Splits code into words, `::`, and single signs, each with its line's number.
fn words(code: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    for (number, line) in numbered(code) {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                _ if is_part_of_word(first) => {
                    rest.find(|c| !is_part_of_word(c)).unwrap_or(rest.len())
                }
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            words.push((number, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    words
}

/// Replaces what is in comments and in string and character literals by nothing; lines stay lines.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(is_part_of_word);
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !after_word => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let taken = if skipped == 0 {
            first.len_utf8()
        } else {
            skipped
        };
        if skipped == 0 {
            code.push(first);
        } else {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        }
        rest = &rest[taken..];
    }
    code
}

/// The length of the comment that `text` begins with; such comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string literal that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string literal that `text` begins with, or 0 if it is none.
fn raw_string(text: &str) -> usize {
    let prefix = text
        .find(|c| !matches!(c, 'b' | 'c' | 'r'))
        .unwrap_or(text.len());
    let hashes = text[prefix..].find(|c| c != '#').unwrap_or(0);
    if !text[..prefix].ends_with('r') || !text[prefix + hashes..].starts_with('"') {
        return 0;
    }
    let open = prefix + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    text[open..]
        .find(&end)
        .map_or(text.len(), |close| open + close + end.len())
}

/// The length of the character literal that `text` begins with, or 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        // After the sign that is escaped, which may be a quote itself.
        (Some((_, '\\')), Some((i, c))) => {
            let from = i + c.len_utf8();
            text[from..]
                .find('\'')
                .map_or(text.len(), |close| from + close + 1)
        }
        (Some(_), Some((i, '\''))) => i + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, source: &str) -> Vec<String> {
        let lib = "pub use addr::WinPipeSocketAddr;\npub use stream::WinStream;\n\
                   pub use listener::{WinIncoming, WinListener};";
        check(path, source, &homes(lib))
    }

    fn is_red(path: &str, source: &str) -> bool {
        !findings(path, source).is_empty()
    }

    #[test]
    fn unsafe_is_only_in_sys() {
        assert!(is_red("src/stream.rs", "fn f() { unsafe { g() } }"));
        assert!(is_red("src/stream.rs", "pub unsafe fn f() {}"));
        assert!(is_red(
            "src/stream.rs",
            "impl A for B {\n    unsafe fn f() {}\n}"
        ));
        assert!(!is_red("src/sys/pipe.rs", "fn f() { unsafe { g() } }"));
        assert!(!is_red("src/stream.rs", "#![deny(unsafe_op_in_unsafe_fn)]"));
    }

    #[test]
    fn an_unsafe_trait_may_be_implemented_anywhere_but_excuses_nothing_below_it() {
        let excused = "impl FromRawHandle for S {\n    unsafe fn from_raw_handle(h: RawHandle) -> S {\n\
                       S(unsafe { OwnedHandle::from_raw_handle(h) })\n    }\n}\n";
        assert!(!is_red("src/stream.rs", excused));
        assert!(!is_red("src/stream.rs", "unsafe impl Send for S {}\n"));
        let below = "fn f() {\n    unsafe { g() }\n}\n";
        assert!(is_red("src/stream.rs", &format!("{excused}{below}")));
        assert!(is_red(
            "src/stream.rs",
            &format!("unsafe impl Send for S {{}}\n{below}")
        ));
    }

    #[test]
    fn windows_sys_is_only_in_sys() {
        assert!(is_red(
            "src/stream.rs",
            "use windows_sys::Win32::Foundation::HANDLE;"
        ));
        assert!(is_red("src/lib.rs", "pub use windows_sys;"));
        assert!(!is_red(
            "src/sys/mod.rs",
            "use windows_sys::Win32::Foundation::HANDLE;"
        ));
    }

    #[test]
    fn imports_go_one_way() {
        for (path, source) in [
            ("src/sys/pipe.rs", "use crate::stream::WinStream;"),
            ("src/sys/pipe.rs", "use crate::WinStream;"),
            ("src/sys/mod.rs", "use crate::{sys::pipe, options};"),
            ("src/addr.rs", "use crate::sys::pipe;"),
            ("src/access.rs", "use crate::sys::security;"),
            ("src/access/table.rs", "use crate::account;"),
            ("src/sys/error.rs", "use crate::input::invalid;"),
            ("src/stream.rs", "use crate::listener::WinListener;"),
            (
                "src/stream.rs",
                "use crate::{addr::WinPipeSocketAddr, listener::WinListener};",
            ),
            (
                "src/stream.rs",
                "use crate::{\n    sys::{pipe, error},\n    WinListener,\n};",
            ),
            ("src/listener.rs", "fn f() { crate::ipc::path(n) }"),
            ("src/peer.rs", "use crate::ipc;"),
            ("src/addr.rs", "use crate::stream;"),
            ("src/unheard_of.rs", "use std::io;"),
        ] {
            assert!(is_red(path, source), "{path}: {source}");
        }
        for (path, source) in [
            ("src/sys/pipe.rs", "use crate::sys::error::stream;"),
            (
                "src/listener.rs",
                "use crate::{stream::WinStream, addr, sys::{pipe, ipc}};",
            ),
            (
                "src/stream.rs",
                "pub(crate) fn f(a: &crate::WinPipeSocketAddr) {}",
            ),
            ("src/ipc.rs", "pub type Stream = crate::WinStream;"),
            ("src/lib.rs", "pub use crate::ipc;"),
        ] {
            assert_eq!(findings(path, source), [""; 0], "{path}: {source}");
        }
    }

    #[test]
    fn the_public_api_shows_no_windows_type() {
        assert!(is_red("src/stream.rs", "pub fn handle(&self) -> HANDLE {"));
        assert!(is_red(
            "src/stream.rs",
            "pub fn f(\n    &self,\n    sd: *const SECURITY_ATTRIBUTES,\n) {"
        ));
        assert!(is_red("src/lib.rs", "pub use sys::pipe::Pipe;"));
        assert!(is_red("src/lib.rs", "pub mod sys;"));
        assert!(!is_red(
            "src/stream.rs",
            "pub fn f(&self) -> RawHandle { HANDLE }"
        ));
        assert!(!is_red(
            "src/stream.rs",
            "pub(crate) fn handle(&self) -> HANDLE {"
        ));
    }

    #[test]
    fn nothing_unfinished_stays() {
        for name in ["todo", "unimplemented", "dbg"] {
            assert!(is_red(
                "src/sys/pipe.rs",
                &format!("fn f() {{ {name}!() }}")
            ));
        }
        assert!(!is_red("src/stream.rs", "let todo = 1;"));
    }

    #[test]
    fn comments_and_literals_break_no_rule() {
        for source in [
            "// unsafe",
            "/// `windows_sys` is for src/sys",
            "/* unsafe /* windows_sys */ todo!() */",
            "let s = \"unsafe \\\" unsafe\";",
            "let s = r#\"unsafe \" unsafe\"#;",
            "let s = br\"\\\"; // unsafe",
            "let c = '\"'; // unsafe \"",
            "let c = '\\''; // unsafe",
            "let c = '\\u{41}';",
        ] {
            assert_eq!(findings("src/stream.rs", source), [""; 0], "{source}");
        }
        // And what comes after them still does.
        for source in [
            "let c = '\"'; unsafe {}",
            "fn f<'a>(s: &'a str) { unsafe {} }",
            "/* */ unsafe {}",
        ] {
            assert!(is_red("src/stream.rs", source), "{source}");
        }
        assert_eq!(
            findings("src/stream.rs", "let s = \"\n\";\nunsafe {}").len(),
            1
        );
        assert!(
            findings("src/stream.rs", "let s = \"\n\";\nunsafe {}")[0]
                .starts_with("src/stream.rs:3:")
        );
    }
}
