//! The address of a pipe: parsed once, never checked again.
//!
//! It uses only `std` and makes no system calls, so it's built and tested on every platform.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::input::{invalid, quote};

/// The longest name that Windows allows, in UTF-16 units, including its `\\.\pipe\` and without a
/// terminator.
const LONGEST: usize = 256;

/// The address of a named pipe, or of no pipe (*unnamed*).
///
/// This is for `WinStream` and `WinListener` what `std::os::unix::net::SocketAddr` is for the Unix
/// types. Every address is well formed: [`from_pathname`](Self::from_pathname) rejects a bad name,
/// with an error that says what is wrong with it.
///
/// # Examples
/// ```
/// use winpipe::WinPipeSocketAddr;
///
/// let addr = WinPipeSocketAddr::from_pathname(r"\\.\pipe\my-app")?;
/// assert_eq!(addr.as_pathname().unwrap().to_str(), Some(r"\\.\pipe\my-app"));
/// assert!(!addr.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct WinPipeSocketAddr(Option<Arc<Named>>);

/// The parts of a path.
struct Named {
    /// The path as it was given.
    given: PathBuf,
    /// The computer that it names; `None` for this one.
    host: Option<String>,
    /// What follows `pipe\`, as Windows resolves it.
    name: String,
}

impl WinPipeSocketAddr {
    /// Creates an address from the path of a pipe.
    ///
    /// A path is `\\.\pipe\NAME`, `\\?\pipe\NAME` or, for a pipe on another computer,
    /// `\\HOST\pipe\NAME`. `pipe` may be in any case, and every `\` may be a `/`. NAME may contain
    /// any character, including backslashes (`LOCAL\my-app`). Windows compares names without regard
    /// to case, and ignores some of their characters: dots and spaces at the end of NAME, one dot
    /// at the end of any other component, and all but one of several backslashes in a row. So
    /// `\\.\pipe\my-app.` is the pipe `my-app`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), with a message that says which rule was
    /// broken:
    /// - the path doesn't begin as described above;
    /// - NAME is empty or consists only of backslashes, is longer than 256 UTF-16 units including
    ///   its `\\.\pipe\`, contains a NUL, isn't valid Unicode, or has a component of only dots and
    ///   spaces, such as `..`, which Windows folds away;
    /// - NAME follows `\\?\pipe\`, where Windows takes it literally, and differs from what Windows
    ///   would make of it elsewhere.
    ///
    /// # On Unix
    /// std accepts any path. There a relative path is relative to the current directory; pipes have
    /// no directories, so here it's an error. There the empty path is an unnamed address; here it's
    /// an error.
    ///
    /// # Examples
    /// ```
    /// use winpipe::WinPipeSocketAddr;
    ///
    /// assert!(WinPipeSocketAddr::from_pathname("//./PIPE/my-app").is_ok());
    /// let error = WinPipeSocketAddr::from_pathname("my-app").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    pub fn from_pathname<P: AsRef<Path>>(path: P) -> io::Result<WinPipeSocketAddr> {
        let given = path.as_ref();
        let named = parse(given.as_os_str()).map_err(|wrong| {
            let given = quote(&given.to_string_lossy());
            invalid(format!("{given} isn't the path of a pipe: {wrong}"))
        })?;
        Ok(WinPipeSocketAddr(Some(Arc::new(named))))
    }

    /// Returns `true` if the address is unnamed: that of the client's end of a connection, or of
    /// either end of a pair.
    ///
    /// # Examples
    /// ```
    /// let addr = winpipe::WinPipeSocketAddr::from_pathname(r"\\.\pipe\my-app")?;
    /// assert_eq!(addr.is_unnamed(), false);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_unnamed(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the path that this address was created from, unchanged, or `None` if it's unnamed.
    ///
    /// # Examples
    /// ```
    /// use std::path::Path;
    ///
    /// let addr = winpipe::WinPipeSocketAddr::from_pathname("//./pipe/my-app")?;
    /// assert_eq!(addr.as_pathname(), Some(Path::new("//./pipe/my-app")));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn as_pathname(&self) -> Option<&Path> {
        self.0.as_ref().map(|named| named.given.as_path())
    }
}

#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "only the Windows part connects and binds")
)]
impl WinPipeSocketAddr {
    /// The unnamed address.
    pub(crate) const UNNAMED: WinPipeSocketAddr = WinPipeSocketAddr(None);

    /// The path for all Win32 calls, `\\.\pipe\NAME` or `\\HOST\pipe\NAME`.
    ///
    /// `CreateFileW` resolves a path; `WaitNamedPipeW` takes its name literally. This path means
    /// the same to both.
    ///
    /// Fails with `InvalidInput` if there is no name to connect to.
    pub(crate) fn win32_path(&self) -> io::Result<String> {
        let named = self.0.as_ref().ok_or_else(unnamed)?;
        Ok(named.win32_path())
    }

    /// Whether it names a computer, which may be this one.
    pub(crate) fn has_host(&self) -> bool {
        self.0.as_ref().is_some_and(|named| named.host.is_some())
    }

    /// The path for the kernel's native calls, `\??\pipe\NAME`, of a pipe to be created. That is
    /// only possible on this computer.
    pub(crate) fn nt_path(&self) -> io::Result<String> {
        let named = self.0.as_ref().ok_or_else(unnamed)?;
        match &named.host {
            None => Ok(format!(r"\??\pipe\{}", named.name)),
            Some(host) => Err(invalid(format!(
                r"a pipe can only be created on this computer: use \\.\pipe\NAME, without the host {}",
                quote(host)
            ))),
        }
    }
}

fn unnamed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "an unnamed address has no pipe: create an address with WinPipeSocketAddr::from_pathname",
    )
}

/// Prints what `std::os::unix::net::SocketAddr` prints: `(unnamed)` or `"path" (pathname)`.
impl fmt::Debug for WinPipeSocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_pathname() {
            None => f.write_str("(unnamed)"),
            Some(path) => write!(f, "{path:?} (pathname)"),
        }
    }
}

impl Named {
    fn win32_path(&self) -> String {
        format!(
            r"\\{}\pipe\{}",
            self.host.as_deref().unwrap_or("."),
            self.name
        )
    }
}

/// Splits a path into its parts, or says what is wrong with it.
fn parse(given: &OsStr) -> Result<Named, String> {
    let given_text = given.to_str().ok_or("it isn't valid Unicode")?;
    if given_text.contains('\0') {
        return Err("it contains a NUL character".into());
    }
    let text = given_text.replace('/', r"\");
    let form = r"use \\.\pipe\NAME, or \\HOST\pipe\NAME for another computer";

    let rest = text.strip_prefix(r"\\").ok_or(form)?;
    let (host, rest) = rest.split_once('\\').ok_or(form)?;
    let (pipe, name) = rest.split_once('\\').ok_or(form)?;
    if host.is_empty() || !pipe.eq_ignore_ascii_case("pipe") {
        return Err(form.into());
    }
    // Windows takes `\\.\pipe\..\C:\file` as `\\.\C:\file`, but a name must not lead to anything
    // other than a pipe.
    let vanishes = |component: &str| {
        !component.is_empty() && component.trim_end_matches(['.', ' ']).is_empty()
    };
    if name.split('\\').any(vanishes) {
        return Err(
            "a component consists only of dots and spaces, which Windows folds away".into(),
        );
    }

    let resolved = resolve(name);
    if resolved.is_empty() {
        return Err(r"nothing follows pipe\".into());
    }
    // Each `/` was replaced by one byte, so the name is at the same position.
    let given_name = &given_text[given_text.len() - name.len()..];
    if given_text.starts_with(r"\\?\") && given_name != resolved {
        return Err(format!(
            r"after \\?\ Windows takes a name literally, and can't reliably connect to this one: use \\.\pipe\{resolved}"
        ));
    }

    let named = Named {
        given: given.into(),
        host: (host != "." && host != "?").then(|| host.to_owned()),
        name: resolved,
    };
    let units = named.win32_path().encode_utf16().count();
    if units > LONGEST {
        return Err(format!(
            "it has {units} UTF-16 units, but Windows allows {LONGEST}"
        ));
    }
    Ok(named)
}

/// Resolves a name as Windows does when it resolves a path (`GetFullPathNameW` shows how). Of
/// several backslashes in a row, one stays. Dots and spaces at the end are dropped, and so is one
/// dot at the end of any earlier component; several dots stay there.
fn resolve(name: &str) -> String {
    let mut components: Vec<&str> = name.split('\\').collect();
    // If the name ends with a backslash, the last component is empty: there's nothing to shorten.
    let last = components
        .pop()
        .unwrap_or_default()
        .trim_end_matches(['.', ' ']);
    components.retain(|component| !component.is_empty());
    let mut resolved = String::with_capacity(name.len());
    for component in components {
        resolved += match component.strip_suffix('.') {
            Some(shorter) if !shorter.ends_with('.') => shorter,
            _ => component,
        };
        resolved.push('\\');
    }
    resolved + last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(path: &str) -> String {
        let error = WinPipeSocketAddr::from_pathname(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        error.to_string()
    }

    fn win32(path: &str) -> String {
        WinPipeSocketAddr::from_pathname(path)
            .unwrap()
            .win32_path()
            .unwrap()
    }

    #[test]
    fn every_spelling_of_a_local_pipe_is_the_same_pipe() {
        for path in [
            r"\\.\pipe\x",
            "//./pipe/x",
            r"\\?\pipe\x",
            r"\\.\PIPE\x",
            r"\/.\Pipe/x",
        ] {
            assert_eq!(win32(path), r"\\.\pipe\x", "{path:?}");
        }
    }

    #[test]
    fn a_name_may_hold_backslashes_and_any_character() {
        assert_eq!(win32(r"\\.\pipe\LOCAL\x"), r"\\.\pipe\LOCAL\x");
        assert_eq!(win32(r"\\.\pipe\a/b"), r"\\.\pipe\a\b");
        assert_eq!(
            win32(r#"\\.\pipe\<>*?|": ü 管 🦀"#),
            r#"\\.\pipe\<>*?|": ü 管 🦀"#
        );
        assert_eq!(win32(r"\\.\pipe\x\"), r"\\.\pipe\x\");
    }

    /// Windows drops these when it resolves a path for `CreateFileW`, but not for `WaitNamedPipeW`.
    #[test]
    fn what_windows_drops_from_a_name_is_dropped_for_every_call() {
        for (given, resolved) in [
            ("x.", "x"),
            ("x. . ...", "x"),
            ("x ", "x"),
            ("..x", "..x"),
            (". x", ". x"),
            (r"a.\b", r"a\b"),
            (r"a..\b", r"a..\b"),
            (r"a \b ", r"a \b"),
            (r"a. .\b", r"a. \b"),
            (r"..x\y..", r"..x\y"),
            (r"x.\", r"x\"),
            (r"x \", r"x \"),
            (r"\x", "x"),
            (r"\\a\\\b\\", r"a\b\"),
        ] {
            let path = format!(r"\\.\pipe\{given}");
            assert_eq!(win32(&path), format!(r"\\.\pipe\{resolved}"), "{given:?}");
            let addr = WinPipeSocketAddr::from_pathname(&path).unwrap();
            assert_eq!(addr.nt_path().unwrap(), format!(r"\??\pipe\{resolved}"));
            assert_eq!(addr.as_pathname(), Some(Path::new(&path)));
            assert_eq!(
                win32(&format!(r"\\server\pipe\{given}")),
                format!(r"\\server\pipe\{resolved}")
            );
        }
    }

    #[test]
    fn what_windows_would_take_literally_is_refused_unless_it_means_the_same() {
        assert_eq!(win32(r"\\?\PIPE\a\b.c"), r"\\.\pipe\a\b.c");
        for name in ["x.", "x ", r"a.\b", r"\x", "a/b"] {
            assert!(refused(&format!(r"\\?\pipe\{name}")).contains("literally"));
        }
        // This isn't the prefix, but another spelling of `\\.\`.
        assert_eq!(win32("//?/pipe/x."), r"\\.\pipe\x");
    }

    #[test]
    fn a_host_is_kept_for_connecting_and_refused_for_binding() {
        for host in ["server", "zürich", "10.0.0.1", "管"] {
            let path = format!(r"\\{host}\pipe\x");
            let addr = WinPipeSocketAddr::from_pathname(&path).unwrap();
            assert_eq!(addr.win32_path().unwrap(), path);
            let error = addr.nt_path().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(host), "{error}");
        }
    }

    #[test]
    fn what_names_no_pipe_is_refused_with_the_reason() {
        for path in [
            "",
            "x",
            "./x",
            r"pipe\x",
            r"C:\pipe\x",
            r"\pipe\x",
            r"\\.\x",
            r"\\.\pipes\x",
            r"\\\pipe\x",
            r"\\.\pipe",
            r"\\",
            "/tmp/x",
        ] {
            assert!(refused(path).contains(r"\\.\pipe\NAME"), "{path:?}");
        }
        for nothing in ["", r"\", r"\\\", "///"] {
            assert!(refused(&format!(r"\\.\pipe\{nothing}")).contains("nothing follows"));
        }
        assert!(refused("\\\\.\\pipe\\a\0b").contains("NUL"));
        assert!(refused(r"\\.\pipe\a\..\b").contains("fold"));
        assert!(refused(r"\\.\pipe\..").contains("fold"));
        assert!(refused("//./pipe/./b").contains("fold"));
        for folded in ["...", ".. ", "   ", r"a\.. ", r". .\a"] {
            assert!(refused(&format!(r"\\.\pipe\{folded}")).contains("fold"));
        }
    }

    #[test]
    fn a_long_path_is_quoted_by_its_beginning() {
        for path in [
            "x".repeat(1 << 20),
            format!(r"\\.\pipe\{}", "ü".repeat(1 << 20)),
        ] {
            let error = refused(&path);
            assert!(
                error.contains(&path[..8].escape_debug().to_string()),
                "{error}"
            );
            assert!(error.chars().count() < 400, "{error}");
        }
    }

    #[test]
    fn a_path_that_is_not_unicode_is_refused() {
        #[cfg(unix)]
        let path =
            <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\\\\.\\pipe\\\xff").to_owned();
        #[cfg(windows)]
        let path: std::ffi::OsString = std::os::windows::ffi::OsStringExt::from_wide(
            &r"\\.\pipe\"
                .encode_utf16()
                .chain([0xd800])
                .collect::<Vec<_>>(),
        );
        let error = WinPipeSocketAddr::from_pathname(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("Unicode"), "{error}");
    }

    #[test]
    fn the_longest_name_is_256_units_with_its_prefix() {
        let path = |units: usize| format!(r"\\.\pipe\{}", "x".repeat(units - 9));
        assert!(WinPipeSocketAddr::from_pathname(path(256)).is_ok());
        assert!(refused(&path(257)).contains("257"));
        // A crab is two units, and four bytes.
        let crabs = format!(r"\\.\pipe\{}", "🦀".repeat(123));
        assert!(WinPipeSocketAddr::from_pathname(&crabs).is_ok());
        refused(&(crabs + "🦀"));
    }

    #[test]
    fn debug_prints_what_std_prints() {
        let addr = WinPipeSocketAddr::from_pathname("//./pipe/x").unwrap();
        assert_eq!(format!("{addr:?}"), r#""//./pipe/x" (pathname)"#);
        assert_eq!(format!("{:?}", WinPipeSocketAddr::UNNAMED), "(unnamed)");
        assert!(WinPipeSocketAddr::UNNAMED.is_unnamed());
        assert_eq!(WinPipeSocketAddr::UNNAMED.as_pathname(), None);
        let error = WinPipeSocketAddr::UNNAMED.win32_path().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_never_panics(path in r"([\\/]{2}[.?a-zü]{0,3}[\\/])?(?i:pipe)?[\\/]?\PC{0,300}") {
            match WinPipeSocketAddr::from_pathname(&path) {
                Ok(addr) => {
                    prop_assert_eq!(addr.as_pathname(), Some(Path::new(&path)));
                    // The normal form is the name of the same pipe, and its own normal form.
                    let normal = addr.win32_path().unwrap();
                    prop_assert!(normal.starts_with(r"\\") && normal.encode_utf16().count() <= LONGEST);
                    let again = WinPipeSocketAddr::from_pathname(&normal).unwrap();
                    prop_assert_eq!(again.win32_path().unwrap(), normal);
                }
                Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
            }
        }

        #[test]
        fn any_plain_name_is_a_pipe(name in r"[^\\/\x00. ][^\\/\x00]{0,99}") {
            let resolved = name.trim_end_matches(['.', ' ']);
            prop_assert_eq!(win32(&format!("//./pipe/{name}")), format!(r"\\.\pipe\{resolved}"));
        }
    }
}
