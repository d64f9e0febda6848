//! One API on every platform: Unix sockets on Unix, named pipes on Windows.
//!
//! On Unix the types here *are* std's, so a program written for this module pays nothing there and
//! needs no `cfg`. What all platforms share is the API of `std::os::unix::net`.
//!
//! # Which process is at the other end
//! [`connect`] checks that the server belongs to the current user, and [`bind`] that the clients
//! do, on every platform. The types' own `Stream::connect` and `Listener::bind` are what std's are
//! on Unix: a connection to any process that has created that socket or pipe. On Windows that can
//! be a process of any user of the computer. It only has to be the first to use the name, because
//! no directory protects the names in `\\.\pipe\`. It then receives what the client sends, and
//! learns the client's identity.
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
#[cfg(all(unix, not(winpipe_sim)))]
pub type Stream = std::os::unix::net::UnixStream;
/// A listener: `std::os::unix::net::UnixListener`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type Listener = std::os::unix::net::UnixListener;
/// The address of one end: `std::os::unix::net::SocketAddr`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type SocketAddr = std::os::unix::net::SocketAddr;
/// An endless iterator over the clients of a listener: `std::os::unix::net::Incoming`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type Incoming<'a> = std::os::unix::net::Incoming<'a>;

/// A connection: [`WinStream`](crate::WinStream).
#[cfg(any(windows, winpipe_sim))]
pub type Stream = crate::stream::WinStream;
/// A listener: [`WinListener`](crate::WinListener).
#[cfg(any(windows, winpipe_sim))]
pub type Listener = crate::listener::WinListener;
/// The address of one end: [`WinPipeSocketAddr`](crate::WinPipeSocketAddr).
#[cfg(any(windows, winpipe_sim))]
pub type SocketAddr = crate::addr::WinPipeSocketAddr;
/// An endless iterator over the clients of a listener: [`WinIncoming`](crate::WinIncoming).
#[cfg(any(windows, winpipe_sim))]
pub type Incoming<'a> = crate::listener::WinIncoming<'a>;

/// Returns the current user's path for a plain name, such as `"my-app"`.
///
/// Two programs of the same user get the same path for the same name; another user gets another
/// path. On Windows it's the pipe `\\.\pipe\my-app-SID`, where SID is the user's security
/// identifier. On Unix it's the socket `my-app.sock` in `$XDG_RUNTIME_DIR`. If that isn't set, the
/// socket is in the subdirectory `winpipe-UID` of the temporary directory, which is created if
/// necessary and belongs to this user alone.
///
/// On Windows the path is only a name: another user can create a pipe of that name first. Then
/// [`bind`] fails with [`AddrInUse`](io::ErrorKind::AddrInUse), and [`connect`] with
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
///
/// This function doesn't bind anything. On Unix a socket's file outlives its listener, and a new
/// `bind` fails with [`AddrInUse`](io::ErrorKind::AddrInUse) until the file is removed. On Windows
/// a pipe is gone when its last handle is closed.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the name is empty, is `.` or `..`, or contains
///   a `/`, a `\` or a NUL; or the path would be longer than the system allows (256 UTF-16 units on
///   Windows, 107 bytes on Unix).
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: the subdirectory of the
///   temporary directory belongs to another user, or other users have access to it.
/// - Any error from creating that subdirectory, or from asking Windows for the current user.
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
            "{} isn't a plain name: use one without `/`, `\\` or NUL, such as \"my-app\"",
            quote(name)
        )));
    }
    place(name)
}

/// Connects to the current user's server at the given path, and to no other user's.
///
/// On Unix only this user and root may be able to create a socket there: other users must not have
/// write access to the path's directory, nor to any directory above it, unless it's sticky, as
/// `/tmp` is. A directory that belongs to another user isn't accepted either. On Windows this
/// checks which user created the pipe, before any byte is sent, as `ConnectOptions::expect_server`
/// does for `Server::CurrentUser`.
///
/// # Errors
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): another user created the pipe, or could
///   have created the socket.
/// - Those of `Stream::connect`, such as [`NotFound`](io::ErrorKind::NotFound) if there is no
///   server.
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

/// Listens at the given path for the current user's clients, and no other user's.
///
/// On Unix this checks the directory as [`connect`] does, and only this user and root can use the
/// socket's file, whatever the umask is. On systems other than Linux, a client of another user that
/// connects at the very moment of this call can get in if the umask lets others write. On Windows
/// this is `Listener::bind`, whose pipe is for the current user.
///
/// # Errors
/// - [`AddrInUse`](io::ErrorKind::AddrInUse): the path is in use. On Unix that may be the file of a
///   server that has ended.
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: other users could create a
///   socket there.
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

#[cfg(any(windows, winpipe_sim))]
fn connect_to_own(path: &Path) -> io::Result<Stream> {
    let mut options = crate::options::ConnectOptions::new();
    options
        .expect_server(crate::access::Server::CurrentUser)
        .connect(path)
}

#[cfg(any(windows, winpipe_sim))]
fn bind_as_own(path: &Path) -> io::Result<Listener> {
    Listener::bind(path)
}

#[cfg(all(unix, not(winpipe_sim)))]
fn connect_to_own(path: &Path) -> io::Result<Stream> {
    check_folder(path, rustix::process::geteuid().as_raw())?;
    Stream::connect(path)
}

/// How many clients can connect before they are accepted, as std has it.
#[cfg(all(unix, not(winpipe_sim)))]
const BACKLOG: i32 = 128;

#[cfg(all(unix, not(winpipe_sim)))]
fn bind_as_own(path: &Path) -> io::Result<Listener> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    check_folder(path, rustix::process::geteuid().as_raw())?;
    // A path that is too long is the error that std makes of it.
    SocketAddr::from_pathname(path)?;
    let (family, stream) = (AddressFamily::UNIX, SocketType::STREAM);
    #[cfg(not(target_vendor = "apple"))]
    let socket = rustix::net::socket_with(family, stream, rustix::net::SocketFlags::CLOEXEC, None)?;
    #[cfg(target_vendor = "apple")]
    let socket = {
        let socket = rustix::net::socket(family, stream, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        socket
    };
    let mode = fs::Permissions::from_mode(0o600);
    // Linux creates the file with the mode of the socket, less the umask. Otherwise a `connect` could
    // look the file up before its mode is set below, and come to the socket when it listens.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let socket = {
        let file = fs::File::from(socket);
        file.set_permissions(mode.clone())?;
        std::os::fd::OwnedFd::from(file)
    };
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Connecting requires write access to the file, and is refused until the socket listens.
    let listens = fs::set_permissions(path, mode).and_then(|()| Ok(listen(&socket, BACKLOG)?));
    if let Err(error) = listens {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(Listener::from(socket))
}

/// Fails if a user other than this one and root could create a socket at this path.
#[cfg(all(unix, not(winpipe_sim)))]
fn check_folder(path: &Path, user: u32) -> io::Result<()> {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    const STICKY: u32 = 0o1000;
    const WRITABLE_FOR_OTHERS: u32 = 0o022;

    let path = std::path::absolute(path)?;
    let folder = path
        .parent()
        .ok_or_else(|| invalid(format!("{} is a directory", quote(&path.to_string_lossy()))))?;
    let refused = |place: &Path, why: &str| {
        let place = quote(&place.to_string_lossy());
        let message = format!(
            "another user could create a socket there: {place} {why}; ipc::path returns a safe path"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    };
    // In a container, root is the user that owns the tree, whatever its user id.
    let root = fs::metadata("/")?.uid();
    let is_trusted = |owner: u32| [user, 0, root].contains(&owner);
    // Symbolic links on the way can be changed by their owners.
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
        // In a sticky directory, users can't change each other's files, but any user can be first.
        let is_sticky = above > 0 && found.mode() & STICKY != 0;
        if found.mode() & WRITABLE_FOR_OTHERS != 0 && !is_sticky {
            return refused(place, "is writable for others");
        }
    }
    Ok(())
}

#[cfg(any(windows, winpipe_sim))]
fn place(name: &str) -> io::Result<PathBuf> {
    let sid = crate::sid::Sid::current_user()?;
    let path = PathBuf::from(format!(r"\\.\pipe\{name}-{sid}"));
    SocketAddr::from_pathname(&path)?;
    Ok(path)
}

#[cfg(all(unix, not(winpipe_sim)))]
fn place(name: &str) -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = match runtime.filter(|folder| folder.is_absolute()) {
        Some(folder) => folder,
        None => private_folder(&std::env::temp_dir())?,
    };
    let path = folder.join(format!("{name}.sock"));
    SocketAddr::from_pathname(&path).map_err(|error| {
        let path = quote(&path.to_string_lossy());
        invalid(format!("{path} can't be the path of a socket: {error}"))
    })?;
    Ok(path)
}

/// Creates the directory `winpipe-UID` in a directory that all users can write to, or checks that
/// the existing one belongs to this user alone.
#[cfg(all(unix, not(winpipe_sim)))]
fn private_folder(shared: &std::path::Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    let user = rustix::process::geteuid().as_raw();
    let folder = shared.join(format!("winpipe-{user}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Not `metadata`: a symbolic link leads to a directory that another user may have chosen.
    let found = std::fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} isn't a directory that belongs to this user alone: remove it, or set \
                 XDG_RUNTIME_DIR",
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
        #[cfg(all(unix, not(winpipe_sim)))]
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
        #[cfg(all(unix, not(winpipe_sim)))]
        std::fs::remove_file(&place).unwrap();
    }

    #[cfg(all(unix, not(winpipe_sim)))]
    #[test]
    fn a_socket_is_this_users_alone() {
        use std::os::unix::fs::MetadataExt;

        let place = path(&format!("winpipe-mode-{}", std::process::id())).unwrap();
        let _listener = bind(&place).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
        std::fs::remove_file(&place).unwrap();
    }

    #[cfg(all(unix, not(winpipe_sim)))]
    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        use std::fs;
        use std::os::unix::fs::{PermissionsExt, symlink};

        let user = rustix::process::geteuid().as_raw();
        // In a directory that is known to be safe.
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
            // The sticky bit protects existing files, and the socket doesn't exist yet.
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

        // `connect` and `bind` make this check.
        mode(&folder, 0o777);
        let error = bind(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("writable for others"), "{error}");
        let _listener = Listener::bind(&socket).unwrap();
        let error = connect(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        mode(&folder, 0o755);
        connect(&socket).unwrap();

        // A link is judged by its target.
        let link = top.join("link");
        symlink(&folder, &link).unwrap();
        assert_eq!(check(&link.join("x.sock")), Ok(()));
        mode(&folder, 0o777);
        assert_eq!(check(&link.join("x.sock")), refused);
        mode(&folder, 0o755);

        // For another user this directory is foreign, unless it's root's.
        let root = fs::metadata("/").map(|root| std::os::unix::fs::MetadataExt::uid(&root));
        if user != 0 && user != root.unwrap() {
            let error = check_folder(&socket, user + 1).unwrap_err();
            assert!(error.to_string().contains("belongs to another"), "{error}");
        } else {
            std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
            assert_eq!(check(&socket), refused);
            assert_eq!(check_folder(&socket, 54_321).map_err(|e| e.kind()), Ok(()));
            std::os::unix::fs::chown(&folder, Some(user), None).unwrap();
            // A link that belongs to another user is refused, too.
            std::os::unix::fs::lchown(&link, Some(54_321), None).unwrap();
            assert_eq!(check(&link.join("x.sock")), refused);
        }
        let missing = top.join("missing/x.sock");
        assert_eq!(check(&missing), Err(io::ErrorKind::NotFound));
        assert_eq!(check(Path::new("/")), Err(io::ErrorKind::InvalidInput));
        fs::remove_dir_all(&top).unwrap();
    }

    #[cfg(all(unix, not(winpipe_sim)))]
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
            "other users can list it"
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
