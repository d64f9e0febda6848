//! The lock beside a socket: one process at a time makes or removes the file of a socket.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::retry_on_intr;

/// An advisory lock (`flock`) on a file that is there only as long as somebody has the lock or
/// waits for it.
///
/// A process that is killed loses the lock, and leaves its file to the next one.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock for the socket at this path, and waits while another process has it.
    pub(super) fn take(socket: &Path) -> io::Result<Lock> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".winpipe-lock");
        let path = PathBuf::from(name);
        // What isn't a file makes this fail, and doesn't make it wait.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(flags as i32)
                .open(&path)?;
            retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
            // Whoever had the lock may have removed this file, and a third may have made another.
            let ours = file.metadata()?;
            match fs::symlink_metadata(&path) {
                Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Lock { file, path });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it's locked, so it's still this file. One that holds something isn't ours.
        if self.file.metadata().is_ok_and(|file| file.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
        // Not only closed: a child that another thread is starting may have a copy.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
