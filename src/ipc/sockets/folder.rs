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
fn private_folder(shared: &Path) -> io::Result<PathBuf> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::ipc::binding::{Attempt, Wanted};
    use crate::ipc::sockets::accept::Listening;
    use crate::ipc::sockets::connect::connect;

    fn bind(path: &Path) -> io::Result<Attempt<Listening>> {
        let wanted = Wanted {
            everyone: false,
            backlog: 1,
        };
        Listening::bind(path, wanted)
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
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
        let check = |path: &Path| super::check(path, user).map_err(|error| error.kind());
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
        let error = bind(&socket).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("writable for others"), "{error}");
        let _listener = UnixListener::bind(&socket).unwrap();
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
            let error = super::check(&socket, user + 1).unwrap_err();
            assert!(error.to_string().contains("belongs to another"), "{error}");
        } else {
            std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
            assert_eq!(check(&socket), refused);
            assert_eq!(super::check(&socket, 54_321).map_err(|e| e.kind()), Ok(()));
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

    #[test]
    fn the_folder_in_the_temporary_directory_is_this_users_alone() {
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
