//! The list of pipes on this computer.

use std::ffi::OsString;
use std::fs;
use std::io;

/// Lists the pipes on this computer, by name: the part after `\\.\pipe\`.
///
/// The list has all pipes, whichever process created them. A pipe may be gone by the time you
/// connect to it.
///
/// This corresponds to listing the directory `\\.\pipe\`, with `FindFirstFileW`.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) if the system can't list pipes. Wine can't. The
/// system's error is the source.
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

/// An iterator over the pipes on this computer, returned by [`pipes`].
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
