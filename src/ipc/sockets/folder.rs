//! Where sockets are, and whether only this user and root can put one there.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::SocketAddr;
use std::path::{self, Path, PathBuf};

use crate::input::{invalid, quote};

/// Returns the current user's path for a plain name.
pub(crate) fn path(name: &str) -> io::Result<PathBuf> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = match runtime.filter(|folder| folder.is_absolute()) {
        Some(folder) => folder,
        None => private_folder(&env::temp_dir())?,
    };
    socket_in(&folder, name)
}

/// Returns the machine's path for a plain name.
pub(crate) fn system_path(name: &str) -> io::Result<PathBuf> {
    let run = Path::new("/run");
    match run.is_dir() {
        true => socket_in(run, name),
        false => socket_in(Path::new("/var/run"), name),
    }
}

fn socket_in(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(format!("{name}.sock"));
    SocketAddr::from_pathname(&path).map_err(|error| {
        let path = quote(&path.to_string_lossy());
        invalid(format!("{path} can't be the path of a socket: {error}"))
    })?;
    Ok(path)
}

/// Creates the directory `winpipe-UID` in a directory that all users can write to, or checks that
/// the existing one belongs to this user alone.
pub(super) fn private_folder(shared: &Path) -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let folder = shared.join(private_name(user));
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Not `metadata`: a symbolic link leads to a directory that another user may have chosen.
    let found = fs::symlink_metadata(&folder)?;
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

fn private_name(user: u32) -> String {
    format!("winpipe-{user}")
}

/// Whether this is a socket in the directory that [`path`] makes. That directory is there for
/// sockets alone.
pub(super) fn is_private(socket: &Path) -> bool {
    let private = env::temp_dir().join(private_name(rustix::process::geteuid().as_raw()));
    of(socket).is_some_and(|folder| folder == private)
}

/// The directory of a socket.
pub(super) fn of(socket: &Path) -> Option<PathBuf> {
    socket.parent().map(Path::to_owned)
}

/// Makes the directory of a socket, if it's missing. Returns whether it did.
pub(super) fn make(socket: &Path, mode: u32) -> io::Result<bool> {
    let Some(folder) = socket.parent() else {
        return Ok(false);
    };
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => return Ok(false),
    }
    match DirBuilder::new().mode(mode).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    // Nothing is left behind where no socket may be.
    let checked = check(socket, rustix::process::geteuid().as_raw());
    if checked.is_err() {
        let _ = fs::remove_dir(folder);
    }
    checked.map(|()| true)
}

/// Fails if a user other than this one and root could create a socket at this path.
pub(super) fn check(path: &Path, user: u32) -> io::Result<()> {
    const STICKY: u32 = 0o1000;
    const WRITABLE_FOR_OTHERS: u32 = 0o022;

    let path = path::absolute(path)?;
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
