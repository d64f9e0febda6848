//! The same program on every platform: Unix sockets on Unix, named pipes on Windows.
//!
//! On Unix the types here *are* std's, so a program that is written on this module pays nothing
//! there, and holds no `cfg`. What they share is the API of `std::os::unix::net`.
//!
//! # Who is at the other end
//! [`connect`] makes sure that the server is this user's, and [`bind`] that the clients are, on every
//! platform. The types' own `Stream::connect` and `Listener::bind` are what std's are on Unix: a
//! connection to whoever has made that socket or pipe. On Windows that can be any user of the computer,
//! who only has to be first to use the name: no folder keeps others out of `\\.\pipe\`. That program
//! gets what the client sends, and learns who the client is.
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use winpipe::ipc;
//!
//! # let name = format!("winpipe-doc-{}", std::process::id());
//! let path = ipc::path(&name)?;
//! let listener = ipc::bind(&path)?;
//! let mut client = ipc::connect(&path)?;
//! client.write_all(b"hello")?;
//! drop(client);
//!
//! let mut text = String::new();
//! listener.accept()?.0.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # #[cfg(unix)] std::fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```

// Each type is there on every platform, although each definition is for one.
#![cfg_attr(docsrs, doc(auto_cfg = false))]

use std::io;
use std::path::{Path, PathBuf};

use crate::input::{invalid, quote};

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
/// On Windows it's a name and no more: another user can make a pipe of that name first. Then [`bind`]
/// fails with [`AddrInUse`](io::ErrorKind::AddrInUse), and [`connect`] with
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
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
            "{} is not a plain name: give one without `/`, `\\` or NUL, such as \"my-app\"",
            quote(name)
        )));
    }
    place(name)
}

/// Connects to this user's server at this path, and to nobody else's.
///
/// On Unix nobody but this user and root may be able to put a socket there: neither the path's folder
/// may be writable for others, nor a folder above it, unless it's sticky as `/tmp` is. A folder of
/// another user's isn't accepted either. On Windows the pipe is asked who made it, before a byte is
/// sent: it's what `ConnectOptions::expect_server` does for `Server::CurrentUser`.
///
/// # Errors
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): somebody else has made the pipe, or could
///   have made the socket.
/// - Those of `Stream::connect`, such as [`NotFound`](io::ErrorKind::NotFound) if nobody listens there.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-connect-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = ipc::bind(&path)?;
/// let stream = ipc::connect(&path)?;
/// # #[cfg(unix)] std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<Stream> {
    connect_to_own(path.as_ref())
}

/// Listens at this path for this user's clients, and nobody else's.
///
/// On Unix the folder is looked at as by [`connect`], and the socket's file can be used by nobody else,
/// but for root, whatever the umask. On Windows this is `Listener::bind`, whose pipe is this user's.
///
/// # Errors
/// - [`AddrInUse`](io::ErrorKind::AddrInUse): the path is taken. On Unix that may be by the file of a
///   server that has ended.
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: others could put a socket there.
/// - Those of `Listener::bind`.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-bind-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = ipc::bind(&path)?;
/// # #[cfg(unix)] std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Listener> {
    bind_as_own(path.as_ref())
}

#[cfg(windows)]
fn connect_to_own(path: &Path) -> io::Result<Stream> {
    let mut options = crate::options::ConnectOptions::new();
    options
        .expect_server(crate::access::Server::CurrentUser)
        .connect(path)
}

#[cfg(windows)]
fn bind_as_own(path: &Path) -> io::Result<Listener> {
    Listener::bind(path)
}

#[cfg(unix)]
fn connect_to_own(path: &Path) -> io::Result<Stream> {
    check_folder(path, crate::sys::unix::effective_user_id())?;
    Stream::connect(path)
}

#[cfg(unix)]
fn bind_as_own(path: &Path) -> io::Result<Listener> {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    check_folder(path, crate::sys::unix::effective_user_id())?;
    let listener = Listener::bind(path)?;
    // Connecting takes the right to write to the file.
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(listener)
}

/// Fails if somebody else than this user and root could put a socket at this path.
#[cfg(unix)]
fn check_folder(path: &Path, user: u32) -> io::Result<()> {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    const STICKY: u32 = 0o1000;
    const WRITABLE_FOR_OTHERS: u32 = 0o022;

    let path = std::path::absolute(path)?;
    let folder = path
        .parent()
        .ok_or_else(|| invalid(format!("{} is a folder", quote(&path.to_string_lossy()))))?;
    let refused = |place: &Path, why: &str| {
        let place = quote(&place.to_string_lossy());
        let message = format!(
            "another user could put a socket there: {place} {why}; ipc::path has a place of this user's"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    };
    // In a container root is who owns the tree, by whatever number.
    let root = fs::metadata("/")?.uid();
    let is_trusted = |owner: u32| [user, 0, root].contains(&owner);
    // On the way, links are their owner's to change.
    for place in folder.ancestors() {
        if !is_trusted(fs::symlink_metadata(place)?.uid()) {
            return refused(place, "belongs to another user");
        }
    }
    for (above, place) in folder.canonicalize()?.ancestors().enumerate() {
        let found = fs::metadata(place)?;
        if !is_trusted(found.uid()) {
            return refused(place, "belongs to another user");
        }
        // In a sticky folder nobody changes what is somebody else's, but anybody can be first.
        let is_sticky = above > 0 && found.mode() & STICKY != 0;
        if found.mode() & WRITABLE_FOR_OTHERS != 0 && !is_sticky {
            return refused(place, "is writable for others");
        }
    }
    Ok(())
}

#[cfg(windows)]
fn place(name: &str) -> io::Result<PathBuf> {
    let sid = crate::sid::Sid::current_user()?;
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
    SocketAddr::from_pathname(&path).map_err(|error| {
        let path = quote(&path.to_string_lossy());
        invalid(format!("{path} can't be a socket's path: {error}"))
    })?;
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
                "{} is not a folder of this user's alone: remove it, or set XDG_RUNTIME_DIR",
                quote(&folder.to_string_lossy())
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
        let error = path(&"/".repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.chars().count() < 400, "{error}");
    }

    #[test]
    fn what_this_user_binds_this_user_can_connect_to() {
        let place = path(&format!("winpipe-own-{}", std::process::id())).unwrap();
        assert_eq!(connect(&place).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = bind(&place).unwrap();
        let _client = connect(&place).unwrap();
        listener.accept().unwrap();
        #[cfg(unix)]
        std::fs::remove_file(&place).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_this_users_alone() {
        use std::os::unix::fs::MetadataExt;

        let place = path(&format!("winpipe-mode-{}", std::process::id())).unwrap();
        let _listener = bind(&place).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
        std::fs::remove_file(&place).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        use std::fs;
        use std::os::unix::fs::{PermissionsExt, symlink};

        let user = crate::sys::unix::effective_user_id();
        // In a folder that is known to be good.
        let good = private_folder(&std::env::temp_dir()).unwrap();
        let top = good.join(format!("top-{}", std::process::id()));
        let folder = top.join("folder");
        let socket = folder.join("x.sock");
        fs::create_dir_all(&folder).unwrap();
        let mode = |place: &Path, mode: u32| {
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
        };
        let check = |path: &Path| check_folder(path, user).map_err(|error| error.kind());
        let refused = Err(io::ErrorKind::PermissionDenied);

        for (of_folder, of_top, expected) in [
            (0o700, 0o700, Ok(())),
            (0o755, 0o755, Ok(())),
            (0o750, 0o711, Ok(())),
            (0o775, 0o700, refused),
            (0o777, 0o700, refused),
            // Sticky protects what is there, and a socket isn't there yet.
            (0o1777, 0o700, refused),
            (0o700, 0o770, refused),
            (0o700, 0o702, refused),
            (0o700, 0o1777, Ok(())),
        ] {
            mode(&folder, of_folder);
            mode(&top, of_top);
            assert_eq!(check(&socket), expected, "{of_folder:o} in {of_top:o}");
        }
        mode(&top, 0o755);

        // What refuses is what `connect` and `bind` go by.
        mode(&folder, 0o777);
        let error = bind(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("writable for others"), "{error}");
        let _listener = Listener::bind(&socket).unwrap();
        let error = connect(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        mode(&folder, 0o755);
        connect(&socket).unwrap();

        // A link is as good as where it leads.
        let link = top.join("link");
        symlink(&folder, &link).unwrap();
        assert_eq!(check(&link.join("x.sock")), Ok(()));
        mode(&folder, 0o777);
        assert_eq!(check(&link.join("x.sock")), refused);
        mode(&folder, 0o755);

        // To another user this is somebody else's, unless it's root's.
        let root = fs::metadata("/").map(|root| std::os::unix::fs::MetadataExt::uid(&root));
        if user != 0 && user != root.unwrap() {
            let error = check_folder(&socket, user + 1).unwrap_err();
            assert!(error.to_string().contains("belongs to another"), "{error}");
        } else {
            std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
            assert_eq!(check(&socket), refused);
            assert_eq!(check_folder(&socket, 54_321).map_err(|e| e.kind()), Ok(()));
            std::os::unix::fs::chown(&folder, Some(user), None).unwrap();
            // And so is a link of somebody else's.
            std::os::unix::fs::lchown(&link, Some(54_321), None).unwrap();
            assert_eq!(check(&link.join("x.sock")), refused);
        }
        let missing = top.join("missing/x.sock");
        assert_eq!(check(&missing), Err(io::ErrorKind::NotFound));
        assert_eq!(check(Path::new("/")), Err(io::ErrorKind::InvalidInput));
        fs::remove_dir_all(&top).unwrap();
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
