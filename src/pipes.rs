//! The pipes of this machine.

use std::ffi::OsString;
use std::fs;
use std::io;

/// Lists the pipes of this machine, by name: what follows `\\.\pipe\`.
///
/// It's all there is, whoever made it. A pipe may be gone by the time it's connected to.
///
/// This corresponds to listing the directory `\\.\pipe\`, with `FindFirstFileW`.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) where the system can't tell, as Wine can't; its error
/// is the source.
///
/// # Examples
/// ```
/// match winpipe::pipes() {
///     Ok(pipes) => {
///         for name in pipes {
///             println!("{}", name?.to_string_lossy());
///         }
///     }
///     Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pipes() -> io::Result<Pipes> {
    match fs::read_dir(r"\\.\pipe\") {
        Ok(entries) => Ok(Pipes { entries }),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(error) => Err(io::Error::new(io::ErrorKind::Unsupported, error)),
    }
}

/// An iterator over the pipes of this machine: what [`pipes`] returns.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Pipes {
    entries: fs::ReadDir,
}

impl Iterator for Pipes {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<io::Result<OsString>> {
        Some(self.entries.next()?.map(|entry| entry.file_name()))
    }
}
