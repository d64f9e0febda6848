//! Binding a socket where a killed server may have left its file, and where others start at the same
//! time.
//!
//! All of it happens under the lock beside the socket. So nobody who keeps to the lock sees a socket
//! that is bound and doesn't listen yet, and nobody removes the file of another's fresh socket.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::input::quote;
use crate::ipc::binding::{Attempt, Wanted};
use crate::ipc::sockets::accept::Listening;
use crate::ipc::sockets::folder;
use crate::ipc::sockets::lock::Lock;
use crate::ipc::sockets::place::Place;

/// How often to try again where a program that doesn't know the lock gets between.
const ATTEMPTS: u32 = 8;

impl Listening {
    /// Binds a socket and listens.
    pub(crate) fn bind(path: &Path, wanted: Wanted) -> io::Result<Attempt<Listening>> {
        // A path that is too long is the error that std makes of it.
        SocketAddr::from_pathname(path)?;
        // The working directory may be another one at the end. But a socket takes only a short path,
        // so it gets the one that was given.
        let absolute = std::path::absolute(path)?;
        let mode = if wanted.everyone { 0o755 } else { 0o700 };
        let (lock, goes) = lock_in_folder(&absolute, mode)?;

        let socket = socket(SocketType::STREAM)?;
        let addr = SocketAddrUnix::new(path)?;
        let mut attempts = 0..ATTEMPTS;
        while let Err(errno) = rustix::net::bind(&socket, &addr) {
            let found = match errno {
                Errno::ADDRINUSE if attempts.next().is_some() => occupant(path)?,
                errno => return Err(errno.into()),
            };
            match found {
                Occupant::Nobody => {}
                Occupant::Server => return Ok(Attempt::Taken(errno.into())),
                Occupant::Other => return Err(foreign(path)),
                Occupant::Leftover(file) => remove_leftover(path, &file)?,
            }
        }
        let place = Place::of(&absolute, goes.then(|| folder::of(&absolute)).flatten())?;
        // Connecting requires write access to the file, and is refused until the socket listens.
        let mode = if wanted.everyone { 0o666 } else { 0o600 };
        let backlog = i32::try_from(wanted.backlog).unwrap_or(i32::MAX);
        let listens = fs::set_permissions(&absolute, fs::Permissions::from_mode(mode))
            .and_then(|()| Ok(rustix::net::listen(&socket, backlog)?));
        drop(lock);
        match listens {
            Ok(()) => Ok(Attempt::Bound(Listening::new(
                UnixListener::from(socket),
                place,
            ))),
            Err(error) => {
                place.clear();
                Err(error)
            }
        }
    }
}

/// Whether a server is at this path. It doesn't notice.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    match knock(path) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::CONNREFUSED | Errno::NOTSOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes what a killed server has left.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    // Nothing is made where there is nothing to remove.
    if matches!(occupant(path)?, Occupant::Nobody) {
        return Ok(());
    }
    let _lock = Lock::take(&absolute)?;
    match occupant(path)? {
        Occupant::Nobody => Ok(()),
        Occupant::Server => Err(Errno::ADDRINUSE.into()),
        Occupant::Other => Err(foreign(path)),
        Occupant::Leftover(file) => remove_leftover(path, &file),
    }
}

/// Takes the lock beside the socket, in a directory that others can't write to. Makes that
/// directory if it's missing. Also returns whether the directory goes with its last socket.
fn lock_in_folder(path: &Path, mode: u32) -> io::Result<(Lock, bool)> {
    let user = rustix::process::geteuid().as_raw();
    let mut goes = false;
    let mut attempts = 0..ATTEMPTS;
    loop {
        let locked = folder::make(path, mode).and_then(|made| {
            goes |= made;
            folder::check(path, user)?;
            Lock::take(path)
        });
        match locked {
            Ok(lock) => return Ok((lock, goes || folder::is_private(path))),
            // Another server has ended, and the directory with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts.next().is_some() => {}
            Err(error) => return Err(error),
        }
    }
}

/// What is at the path of a socket.
enum Occupant {
    Nobody,
    /// A socket that some process has open.
    Server,
    /// The file of a socket that no process has open.
    Leftover(fs::Metadata),
    /// Anything else: it isn't ours to remove.
    Other,
}

fn occupant(path: &Path) -> io::Result<Occupant> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Ok(Occupant::Other);
    }
    Ok(match knock(path) {
        Err(Errno::CONNREFUSED) => Occupant::Leftover(found),
        Err(Errno::NOENT) => Occupant::Nobody,
        // Also one that this process can't ask.
        _ => Occupant::Server,
    })
}

/// Finds out whether a process has the socket at this path open, without connecting to it: a
/// datagram socket can't connect to one for streams, and the system says so, but only where there
/// is one.
fn knock(path: &Path) -> Result<(), Errno> {
    let probe = socket(SocketType::DGRAM)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::PROTOTYPE) => Ok(()),
        answer => answer,
    }
}

/// Removes the file, if it's still this one.
fn remove_leftover(path: &Path, file: &fs::Metadata) -> io::Result<()> {
    let found = fs::symlink_metadata(path);
    if found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino())) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Creates a socket that children don't inherit.
pub(super) fn socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    #[cfg(not(target_vendor = "apple"))]
    let socket = {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?
    };
    #[cfg(target_vendor = "apple")]
    let socket = {
        let socket = rustix::net::socket(AddressFamily::UNIX, kind, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        socket
    };
    Ok(socket)
}

fn foreign(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!(
            "{} isn't a socket, so it's left alone: choose another path, or remove it",
            quote(&path.to_string_lossy())
        ),
    )
}
