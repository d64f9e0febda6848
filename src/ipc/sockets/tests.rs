//! Tests of what the modules do together.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::bind::{exists, remove};
use super::folder::{self, private_folder};
use super::lock::Lock;
use std::os::unix::net::UnixListener;

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
    let check = |path: &Path| folder::check(path, user).map_err(|error| error.kind());
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
        let error = folder::check(&socket, user + 1).unwrap_err();
        assert!(error.to_string().contains("belongs to another"), "{error}");
    } else {
        std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
        assert_eq!(check(&socket), refused);
        assert_eq!(folder::check(&socket, 54_321).map_err(|e| e.kind()), Ok(()));
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

/// A directory in which this test can do what it likes.
fn fresh_folder(name: &str) -> std::path::PathBuf {
    let good = private_folder(&std::env::temp_dir()).unwrap();
    let folder = good.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn what_a_killed_server_left_is_taken_over_and_nothing_else_is() {
    let folder = fresh_folder("leftover");
    let path = folder.join("x.sock");
    // Std's listener leaves its file, as a killed one does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(!exists(&path).unwrap());
    // The lock's file of one that was killed while it had the lock.
    File::create(folder.join("x.sock.winpipe-lock")).unwrap();
    let Attempt::Bound(listening) = bind(&path).unwrap() else {
        panic!("a leftover is no server");
    };
    assert!(exists(&path).unwrap());
    assert_eq!(names_in(&folder), ["x.sock"]);
    assert!(matches!(bind(&path).unwrap(), Attempt::Taken(_)));
    assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(listening);
    assert_eq!(names_in(&folder), [""; 0]);

    // A socket that another program has bound, and that doesn't listen yet.
    let bound = super::bind::socket(rustix::net::SocketType::STREAM).unwrap();
    let addr = rustix::net::SocketAddrUnix::new(&path).unwrap();
    rustix::net::bind(&bound, &addr).unwrap();
    assert!(matches!(bind(&path).unwrap(), Attempt::Taken(_)));
    drop(bound);
    remove(&path).unwrap();
    assert_eq!(names_in(&folder), [""; 0]);

    fs::write(&path, "mine").unwrap();
    for error in [bind(&path).err().unwrap(), remove(&path).unwrap_err()] {
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("isn't a socket"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(names_in(&folder), ["x.sock"]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_listener_removes_only_its_own_file() {
    let folder = fresh_folder("own");
    let path = folder.join("x.sock");
    let Attempt::Bound(first) = bind(&path).unwrap() else {
        panic!("nobody is there");
    };
    // Somebody removes the file of a live server, and another server takes the path.
    fs::remove_file(&path).unwrap();
    let Attempt::Bound(second) = bind(&path).unwrap() else {
        panic!("nobody is there");
    };
    drop(first);
    connect(&path).unwrap();
    drop(second);
    assert_eq!(names_in(&folder), [""; 0]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn one_thread_at_a_time_has_the_lock_and_its_file_is_gone_in_the_end() {
    use std::sync::atomic::{AtomicU32, Ordering};

    let folder = fresh_folder("lock");
    let path = folder.join("x.sock");
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let lock = Lock::take(&path).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    drop(lock);
                }
            });
        }
    });
    assert_eq!(names_in(&folder), [""; 0]);
    fs::remove_dir_all(&folder).unwrap();
}
