//! The same program on every platform: Unix sockets on Unix, named pipes on Windows.
//!
//! On Unix the types here *are* std's, so a program that is written on this module pays nothing
//! there, and holds no `cfg`. What they share is the API of `std::os::unix::net`.
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use winpipe::ipc;
//!
//! # let name = format!("winpipe-doc-{}", std::process::id());
//! let path = ipc::path(&name)?;
//! let listener = ipc::Listener::bind(&path)?;
//! let mut client = ipc::Stream::connect(&path)?;
//! client.write_all(b"hello")?;
//! drop(client);
//!
//! let mut text = String::new();
//! listener.accept()?.0.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # #[cfg(unix)] std::fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::path::PathBuf;

/// A connection: `std::os::unix::net::UnixStream`.
#[cfg(unix)]
pub type Stream = std::os::unix::net::UnixStream;
/// What clients connect to: `std::os::unix::net::UnixListener`.
#[cfg(unix)]
pub type Listener = std::os::unix::net::UnixListener;
/// The address of an end: `std::os::unix::net::SocketAddr`.
#[cfg(unix)]
pub type SocketAddr = std::os::unix::net::SocketAddr;
/// An endless iterator over the clients of a listener: `std::os::unix::net::Incoming`.
#[cfg(unix)]
pub type Incoming<'a> = std::os::unix::net::Incoming<'a>;

/// A connection: [`WinStream`](crate::WinStream).
#[cfg(windows)]
pub type Stream = crate::WinStream;
/// What clients connect to: [`WinListener`](crate::WinListener).
#[cfg(windows)]
pub type Listener = crate::WinListener;
/// The address of an end: [`WinPipeSocketAddr`](crate::WinPipeSocketAddr).
#[cfg(windows)]
pub type SocketAddr = crate::WinPipeSocketAddr;
/// An endless iterator over the clients of a listener: [`WinIncoming`](crate::WinIncoming).
#[cfg(windows)]
pub type Incoming<'a> = crate::WinIncoming<'a>;

/// Turns a plain name, such as `"my-app"`, into this user's place for it.
///
/// Two programs of the same user that give the same name get the same place; another user gets
/// another one. On Windows it is the pipe `\\.\pipe\my-app-SID`, with the user's security
/// identifier. On Unix it is the socket `my-app.sock` in `$XDG_RUNTIME_DIR`; where that isn't set,
/// in the folder `winpipe-UID` of the temporary directory, which is made if need be and belongs to
/// this user alone.
///
/// Nothing is bound yet. On Unix a socket's file outlives its listener, and a new `bind` fails with
/// [`AddrInUse`](io::ErrorKind::AddrInUse) until somebody removes it; on Windows a pipe goes with
/// its last handle.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the name is empty, is `.` or `..`, holds a `/`,
///   a `\` or a NUL, or the path would be longer than the system takes (256 UTF-16 units on
///   Windows, 107 bytes on Unix).
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: the folder in the temporary
///   directory belongs to somebody else, or others may enter it.
/// - Any error of making that folder, or of asking Windows who the user is.
///
/// # Examples
/// ```
/// let place = winpipe::ipc::path("my-app")?;
/// assert!(place.to_string_lossy().contains("my-app"));
/// assert!(winpipe::ipc::path("my/app").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn path(name: &str) -> io::Result<PathBuf> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(invalid(format!(
            "{name:?} is not a plain name: give one without `/`, `\\` or NUL, such as \"my-app\""
        )));
    }
    place(name)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(windows)]
fn place(name: &str) -> io::Result<PathBuf> {
    let sid = crate::Sid::current_user()?;
    let path = PathBuf::from(format!(r"\\.\pipe\{name}-{sid}"));
    SocketAddr::from_pathname(&path)?;
    Ok(path)
}

#[cfg(unix)]
fn place(name: &str) -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = match runtime.filter(|folder| folder.is_absolute()) {
        Some(folder) => folder,
        None => private_folder(&std::env::temp_dir())?,
    };
    let path = folder.join(format!("{name}.sock"));
    SocketAddr::from_pathname(&path)
        .map_err(|error| invalid(format!("{path:?} can't be a socket's path: {error}")))?;
    Ok(path)
}

/// Makes the folder `winpipe-UID` in a directory that everybody may write to, or makes sure that
/// the one that is there is this user's own.
#[cfg(unix)]
fn private_folder(shared: &std::path::Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    let user = crate::sys::unix::effective_user_id();
    let folder = shared.join(format!("winpipe-{user}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Not `metadata`: a symbolic link leads to a folder that somebody else chose.
    let found = std::fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{folder:?} is not a folder of this user's alone: remove it, or set XDG_RUNTIME_DIR"
            ),
        ));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_a_place_that_can_be_bound() {
        let name = format!("winpipe-place-{}", std::process::id());
        let place = path(&name).unwrap();
        assert_eq!(place, path(&name).unwrap());
        assert_ne!(place, path(&format!("{name}x")).unwrap());
        let listener = Listener::bind(&place).unwrap();
        Stream::connect(&place).unwrap();
        drop(listener);
        #[cfg(unix)]
        std::fs::remove_file(&place).unwrap();
    }

    #[test]
    fn what_is_not_a_plain_name_is_refused() {
        let long = "x".repeat(300);
        for name in ["", ".", "..", "a/b", r"a\b", "a\0b", "../x", &long] {
            let error = path(name).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidInput,
                "{name:?}: {error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_in_the_temporary_directory_is_this_users_alone() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;

        let shared = std::env::temp_dir().join(format!("winpipe-test-{}", std::process::id()));
        fs::create_dir(&shared).unwrap();
        let folder = private_folder(&shared).unwrap();
        assert_eq!(folder, private_folder(&shared).unwrap());
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );

        let refused = || private_folder(&shared).unwrap_err().kind();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            refused(),
            io::ErrorKind::PermissionDenied,
            "others may look into it"
        );

        fs::remove_dir(&folder).unwrap();
        let elsewhere = shared.join("elsewhere");
        fs::DirBuilder::new().create(&elsewhere).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
        assert_eq!(refused(), io::ErrorKind::PermissionDenied, "it is a link");
        fs::remove_dir_all(&shared).unwrap();
    }
}
