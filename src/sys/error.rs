//! The only table that maps Win32 codes to `io::Error`.

use std::{error, fmt, io};

#[cfg(winpipe_sim)]
use super::sim::win32;
#[cfg(not(winpipe_sim))]
use windows_sys::Win32::Foundation as win32;

/// A Win32 error code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u32);

/// What the call was doing: the same code means different things.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// Opening a pipe that another process created.
    Connecting,
    /// Creating the first instance of a pipe.
    Binding,
    /// Any operation on an existing pipe.
    Using,
}

impl Code {
    /// No pipe of that name.
    pub(crate) const FILE_NOT_FOUND: Code = Code(win32::ERROR_FILE_NOT_FOUND);
    /// The access rights don't allow it.
    pub(crate) const ACCESS_DENIED: Code = Code(win32::ERROR_ACCESS_DENIED);
    /// No instance of the pipe is listening.
    pub(crate) const PIPE_BUSY: Code = Code(win32::ERROR_PIPE_BUSY);
    /// A client had connected before `ConnectNamedPipe` was called.
    pub(crate) const PIPE_CONNECTED: Code = Code(win32::ERROR_PIPE_CONNECTED);
    /// The other end of the pipe is closed or closing.
    pub(crate) const NO_DATA: Code = Code(win32::ERROR_NO_DATA);
    /// The instance isn't connected, or not any more.
    pub(crate) const BAD_PIPE: Code = Code(win32::ERROR_BAD_PIPE);
    /// A message was longer than the buffer, which is full.
    pub(crate) const MORE_DATA: Code = Code(win32::ERROR_MORE_DATA);
    /// The operation is still in progress.
    pub(crate) const IO_PENDING: Code = Code(win32::ERROR_IO_PENDING);
    /// The operation was cancelled.
    pub(crate) const OPERATION_ABORTED: Code = Code(win32::ERROR_OPERATION_ABORTED);
    /// A wait for packets has taken as long as it may.
    #[cfg(all(feature = "tokio", not(winpipe_sim)))]
    pub(crate) const WAIT_TIMEOUT: Code = Code(win32::WAIT_TIMEOUT);
    /// The process has no such handle.
    pub(crate) const INVALID_HANDLE: Code = Code(win32::ERROR_INVALID_HANDLE);
    /// The thread isn't impersonating anyone.
    pub(crate) const NO_TOKEN: Code = Code(win32::ERROR_NO_TOKEN);
    /// There is no memory left.
    #[cfg(test)]
    pub(crate) const NO_MEMORY: Code = Code(win32::ERROR_NOT_ENOUGH_MEMORY);
    /// The time given to `WaitNamedPipeW` has passed.
    pub(crate) const SEM_TIMEOUT: Code = Code(win32::ERROR_SEM_TIMEOUT);

    /// Returns the code of the last call on this thread. This corresponds to calling
    /// `GetLastError`.
    #[cfg(not(winpipe_sim))]
    pub(super) fn last() -> Code {
        let error = io::Error::last_os_error();
        Code(error.raw_os_error().unwrap_or_default() as u32)
    }

    /// Leaves a kernel status as the last error of this thread, as the Win32 calls do, and returns
    /// whether it's a success. This corresponds to calling `SetLastError`.
    #[cfg(all(feature = "tokio", not(winpipe_sim)))]
    pub(super) fn leave(status: win32::NTSTATUS) -> i32 {
        // SAFETY: takes a number.
        unsafe { win32::SetLastError(Code::of_status(status).0) };
        i32::from(status >= 0 && status != win32::STATUS_PENDING)
    }

    /// Converts a kernel status to a code. This corresponds to calling `RtlNtStatusToDosError`.
    #[cfg(not(winpipe_sim))]
    pub(super) fn of_status(status: win32::NTSTATUS) -> Code {
        // SAFETY: takes and returns a number, which is looked up in a table in ntdll.
        Code(unsafe { win32::RtlNtStatusToDosError(status) })
    }

    /// Whether the peer is gone: closed, closing, or disconnected.
    pub(crate) fn is_peer_gone(self) -> bool {
        matches!(
            self.0,
            win32::ERROR_BROKEN_PIPE | win32::ERROR_NO_DATA | win32::ERROR_PIPE_NOT_CONNECTED
        )
    }

    /// Whether a read that fails with this is at the end of the data.
    #[cfg(all(feature = "tokio", not(winpipe_sim)))]
    pub(crate) fn is_end(self) -> bool {
        // An end that is set to PIPE_NOWAIT is empty. It isn't at its end.
        self.is_peer_gone() && self != Code::NO_DATA
    }

    /// Whether the identity that this thread acts as was refused something that another identity
    /// may be allowed.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(
            self.0,
            win32::ERROR_ACCESS_DENIED | win32::ERROR_BAD_IMPERSONATION_LEVEL
        )
    }

    /// Creates the error that the caller sees.
    ///
    /// If std gives the code the kind that users of Unix sockets expect, this is std's error for
    /// the code. Otherwise the error has the expected kind, says what the caller can do, and has
    /// std's error as its source.
    pub(crate) fn explain(self, doing: Doing) -> io::Error {
        use Doing::{Binding, Connecting, Using};
        use io::ErrorKind;

        let (kind, advice) = match (self.0, doing) {
            (
                win32::ERROR_ACCESS_DENIED
                | win32::ERROR_PIPE_BUSY
                | win32::ERROR_ALREADY_EXISTS
                | win32::ERROR_FILE_EXISTS,
                Binding,
            ) => (
                ErrorKind::AddrInUse,
                "the pipe's name is in use: choose another name, or close the server that uses it \
                 and the connections it accepted",
            ),
            (win32::ERROR_INVALID_NAME | win32::ERROR_BAD_PATHNAME, Connecting | Binding) => (
                ErrorKind::InvalidInput,
                "Windows rejects this name: choose another (`a\\b`, for example, can't be used \
                 while there is a pipe `a`)",
            ),
            (win32::ERROR_PIPE_NOT_CONNECTED, Using) => (
                ErrorKind::BrokenPipe,
                "the peer has disconnected the pipe: connect again",
            ),
            (win32::ERROR_PIPE_LISTENING, Using) => (
                ErrorKind::NotConnected,
                "no client has connected to this instance of the pipe yet",
            ),
            (win32::ERROR_BAD_IMPERSONATION_LEVEL, _) => (
                ErrorKind::PermissionDenied,
                "this thread impersonates a client that doesn't let it act in the client's name: \
                 first drop the value that impersonate returned",
            ),
            (win32::ERROR_OPERATION_ABORTED, _) => (
                ErrorKind::Interrupted,
                "the call was cancelled from outside the crate: call again",
            ),
            _ => return self.into(),
        };
        self.with(kind, advice)
    }

    /// The error of a client whose time is up, for the code of its last attempt.
    pub(crate) fn refused(self) -> io::Error {
        self.with(
            io::ErrorKind::ConnectionRefused,
            "the server isn't accepting clients now: check that it's running, or try again later",
        )
    }

    /// The error of a server whose instances are all in use.
    pub(crate) fn explain_limit(self) -> io::Error {
        match self {
            Code::PIPE_BUSY => self.with(
                io::ErrorKind::ResourceBusy,
                "all instances that the pipe may have are in use: drop an accepted stream",
            ),
            Code::ACCESS_DENIED => self.with(
                io::ErrorKind::PermissionDenied,
                "the pipe's access rights don't let this process create another instance: \
                 grant it the rights to read, write and create instances (0x12019f)",
            ),
            _ => self.explain(Doing::Using),
        }
    }

    /// The error of an account lookup.
    pub(crate) fn explain_account(self) -> io::Error {
        self.with(
            io::ErrorKind::NotFound,
            "there is no such account, or the computer that knows it can't be asked",
        )
    }

    /// The error of impersonating a client.
    pub(crate) fn explain_impersonation(self) -> io::Error {
        match self.0 {
            win32::ERROR_CANNOT_IMPERSONATE => self.with(
                io::ErrorKind::PermissionDenied,
                "Windows provides the client's identity only after something was read from it: \
                 read something first",
            ),
            win32::ERROR_INVALID_FUNCTION => self.with(
                io::ErrorKind::Unsupported,
                "only the server can impersonate: use an accepted stream",
            ),
            _ => self.explain(Doing::Using),
        }
    }

    /// The error of taking a handle from another process.
    pub(crate) fn explain_taking(self) -> io::Error {
        match self.0 {
            win32::ERROR_ACCESS_DENIED => self.with(
                io::ErrorKind::PermissionDenied,
                "this process isn't allowed to take handles from the sender's: run both as the \
                 same user, or let the sender's process grant PROCESS_DUP_HANDLE",
            ),
            win32::ERROR_INVALID_HANDLE => self.with(
                io::ErrorKind::InvalidData,
                "the sender's process has no open handle with the offered number",
            ),
            // There is no process with that id.
            win32::ERROR_INVALID_PARAMETER => {
                self.with(io::ErrorKind::BrokenPipe, "the sender's process has ended")
            }
            _ => self.into(),
        }
    }

    /// The error of a handle that the completion port doesn't accept.
    #[cfg(all(feature = "tokio", not(winpipe_sim)))]
    pub(crate) fn explain_association(self) -> io::Error {
        match self.0 {
            win32::ERROR_INVALID_PARAMETER => self.with(
                io::ErrorKind::InvalidInput,
                "this end of the pipe belongs to another completion port, of the process that it \
                 came from or of another library: use the blocking half",
            ),
            _ => self.explain(Doing::Using),
        }
    }

    /// The error of a handle that can't be used as a stream.
    pub(crate) fn explain_handle(self) -> io::Error {
        match self {
            Code::ACCESS_DENIED => self.with(
                io::ErrorKind::PermissionDenied,
                "the handle doesn't allow the pipe's type to be queried: \
                 open it with FILE_READ_ATTRIBUTES, too",
            ),
            _ => self.with(io::ErrorKind::InvalidInput, NOT_A_PIPE),
        }
    }

    fn with(self, kind: io::ErrorKind, advice: &'static str) -> io::Error {
        io::Error::new(
            kind,
            Explained {
                advice,
                source: self.numbered(),
            },
        )
    }

    /// The error that std makes of the number.
    fn numbered(self) -> io::Error {
        io::Error::from_raw_os_error(self.0 as i32)
    }
}

/// What is wrong with a handle that isn't one end of a pipe, or can't wait as this crate does.
const NOT_A_PIPE: &str = "this handle is not one end of a pipe opened for overlapped I/O: \
                          open it with FILE_FLAG_OVERLAPPED";

/// The error of a synchronous handle.
pub(crate) fn synchronous_handle() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NOT_A_PIPE)
}

/// The error of an end whose calls don't wait.
pub(crate) fn nonblocking_handle() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "this end of a pipe is set to PIPE_NOWAIT, so an empty pipe looks like its end: set \
         PIPE_WAIT, or open the handle with FILE_WRITE_ATTRIBUTES, too, so that it can be set",
    )
}

/// The error of an end that can't wait for data and the end alike.
#[cfg(all(feature = "tokio", not(winpipe_sim)))]
pub(crate) fn read_by_byte() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this end is read by byte although the pipe keeps message boundaries, so tasks can't wait \
         for it: open the handle with FILE_WRITE_ATTRIBUTES, too, or use the blocking half",
    )
}

/// What only the simulated kernel says by name.
#[cfg(winpipe_sim)]
impl Code {
    pub(super) const INVALID_FUNCTION: Code = Code(win32::ERROR_INVALID_FUNCTION);
    pub(super) const INVALID_PARAMETER: Code = Code(win32::ERROR_INVALID_PARAMETER);
    pub(super) const BROKEN_PIPE: Code = Code(win32::ERROR_BROKEN_PIPE);
    pub(super) const PIPE_LISTENING: Code = Code(win32::ERROR_PIPE_LISTENING);
    pub(super) const NONE_MAPPED: Code = Code(win32::ERROR_NONE_MAPPED);
    pub(super) const CANNOT_IMPERSONATE: Code = Code(win32::ERROR_CANNOT_IMPERSONATE);
}

/// Uses std's error, whose kind is right for most codes.
#[cfg(not(winpipe_sim))]
impl From<Code> for io::Error {
    fn from(code: Code) -> io::Error {
        code.numbered()
    }
}

/// To std the number is one of the system that it runs on, which only some codes are like.
#[cfg(winpipe_sim)]
impl From<Code> for io::Error {
    fn from(code: Code) -> io::Error {
        let (kind, error) = (win32::kind(code.0), code.numbered());
        match error.kind() == kind {
            true => error,
            false => code.with(kind, "the simulated kernel says"),
        }
    }
}

/// Prints the number, as the records of calls do.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.0)
    }
}

/// A system error with a kind that std wouldn't have chosen.
#[derive(Debug)]
struct Explained {
    advice: &'static str,
    source: io::Error,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.advice, self.source)
    }
}

impl error::Error for Explained {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_kind_a_unix_program_expects() {
        use Doing::*;
        use io::ErrorKind::*;

        for (code, doing, kind) in [
            (2, Connecting, NotFound),
            (5, Connecting, PermissionDenied),
            (123, Connecting, InvalidInput),
            (161, Connecting, InvalidInput),
            (5, Binding, AddrInUse),
            (80, Binding, AddrInUse),
            (183, Binding, AddrInUse),
            (231, Binding, AddrInUse),
            (123, Binding, InvalidInput),
            (109, Using, BrokenPipe),
            (232, Using, BrokenPipe),
            (233, Using, BrokenPipe),
            (536, Using, NotConnected),
            (995, Using, Interrupted),
            (5, Using, PermissionDenied),
            (1346, Binding, PermissionDenied),
            (1346, Connecting, PermissionDenied),
        ] {
            let error = Code(code).explain(doing);
            assert_eq!(error.kind(), kind, "code {code}");
            // The number is kept, in the error or in its source.
            let number = error.raw_os_error().or_else(|| {
                let source = error.get_ref()?.source()?;
                source.downcast_ref::<io::Error>()?.raw_os_error()
            });
            assert_eq!(number, Some(code as i32), "code {code}");
            assert!(
                error.to_string().contains(&format!("(os error {code})")),
                "{error}"
            );
        }
    }

    #[test]
    fn every_code_of_taking_a_handle_says_what_to_do_and_keeps_its_number() {
        use io::ErrorKind::*;

        for (code, kind) in [(5, PermissionDenied), (6, InvalidData), (87, BrokenPipe)] {
            let error = Code(code).explain_taking();
            assert_eq!(error.kind(), kind, "code {code}");
            let text = error.to_string();
            assert!(text.contains(&format!("(os error {code})")), "{text}");
        }
    }
}
