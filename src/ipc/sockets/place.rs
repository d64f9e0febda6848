//! The file of a bound socket, which is removed in the end.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ipc::sockets::lock::Lock;

/// The file of a socket that this process has bound.
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// A child that was made by `fork` has a copy of this, but the file isn't its to remove.
    process: u32,
    /// The directory, if it's to go with its last socket.
    folder: Option<PathBuf>,
}

impl Place {
    /// Of the socket that was just bound at this absolute path.
    pub(super) fn of(path: &Path, folder: Option<PathBuf>) -> io::Result<Place> {
        let found = fs::symlink_metadata(path)?;
        Ok(Place {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            process: std::process::id(),
            folder,
        })
    }

    /// Removes the file, if it's still the one that was bound. The socket must still be open: until
    /// then the system gives the number of the file to no other.
    pub(super) fn clear(self) {
        if self.process != std::process::id() {
            return;
        }
        // If there can't be a lock, because the disk is full, say, there is still little that can
        // happen between these two calls: nobody else takes over a socket that is open.
        let lock = Lock::take(&self.path);
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
        drop(lock);
        if let Some(folder) = &self.folder {
            // It stays if there is anything in it.
            let _ = fs::remove_dir(folder);
        }
    }
}
