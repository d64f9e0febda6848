//! The one table from Win32 codes to `io::Error`.

use std::{error, fmt, io};

use windows_sys::Win32::Foundation as win32;

/// A Win32 error code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u32);

/// What was being done when a code came back: the same code means different things.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// Opening a pipe that somebody else made.
    Connecting,
    /// Making the first instance of a pipe.
    Binding,
    /// Anything to a pipe that is there.
    Using,
}

impl Code {
    /// No pipe of that name.
    pub(crate) const FILE_NOT_FOUND: Code = Code(win32::ERROR_FILE_NOT_FOUND);
    /// The access rights say no.
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
    /// The operation goes on.
    pub(crate) const IO_PENDING: Code = Code(win32::ERROR_IO_PENDING);
    /// The operation was cancelled.
    pub(crate) const OPERATION_ABORTED: Code = Code(win32::ERROR_OPERATION_ABORTED);
    /// The process has no such handle.
    pub(crate) const INVALID_HANDLE: Code = Code(win32::ERROR_INVALID_HANDLE);
    /// The thread impersonates nobody.
    pub(crate) const NO_TOKEN: Code = Code(win32::ERROR_NO_TOKEN);
    /// There is no memory left.
    #[cfg(test)]
    pub(crate) const NO_MEMORY: Code = Code(win32::ERROR_NOT_ENOUGH_MEMORY);
    /// `WaitNamedPipeW` waited as long as it was told to.
    pub(crate) const SEM_TIMEOUT: Code = Code(win32::ERROR_SEM_TIMEOUT);

    /// The code that the last call on this thread left. This corresponds to calling `GetLastError`.
    pub(crate) fn last() -> Code {
        let error = io::Error::last_os_error();
        Code(error.raw_os_error().unwrap_or_default() as u32)
    }

    /// The code for a status of the kernel. This corresponds to calling `RtlNtStatusToDosError`.
    pub(crate) fn of_status(status: win32::NTSTATUS) -> Code {
        // SAFETY: takes and returns a number, looked up in a table of ntdll's own.
        Code(unsafe { win32::RtlNtStatusToDosError(status) })
    }

    /// Whether the peer is gone: closed, closing, or disconnected.
    pub(crate) fn is_peer_gone(self) -> bool {
        matches!(
            self.0,
            win32::ERROR_BROKEN_PIPE | win32::ERROR_NO_DATA | win32::ERROR_PIPE_NOT_CONNECTED
        )
    }

    /// Whether somebody else might have been allowed what this thread acts as was refused.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(
            self.0,
            win32::ERROR_ACCESS_DENIED | win32::ERROR_BAD_IMPERSONATION_LEVEL
        )
    }

    /// Makes the error that the caller sees.
    ///
    /// Where std gives the code the kind that a Unix socket's user expects, it's std's error of that
    /// code. Otherwise it has the kind expected, says what can be done, and has std's error as its
    /// source.
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
                "the pipe's name is in use: choose another, or end the server that has it \
                 and the connections it accepted",
            ),
            (win32::ERROR_INVALID_NAME | win32::ERROR_BAD_PATHNAME, Connecting | Binding) => (
                ErrorKind::InvalidInput,
                r"Windows refuses this name; `a\b`, for one, can't be while there is a pipe `a`",
            ),
            (win32::ERROR_PIPE_NOT_CONNECTED, Using) => (
                ErrorKind::BrokenPipe,
                "the peer has disconnected the pipe: connect anew",
            ),
            (win32::ERROR_PIPE_LISTENING, Using) => (
                ErrorKind::NotConnected,
                "no client has connected to this instance of the pipe yet",
            ),
            (win32::ERROR_BAD_IMPERSONATION_LEVEL, _) => (
                ErrorKind::PermissionDenied,
                "this thread acts as a client that lets it do nothing in the client's name: \
                 drop what impersonate returned first",
            ),
            (win32::ERROR_OPERATION_ABORTED, _) => (
                ErrorKind::Interrupted,
                "the call was cancelled from outside the crate: call again",
            ),
            _ => return self.into(),
        };
        self.with(kind, advice)
    }

    /// The error of a client whose time is up, by the code of his last attempt.
    pub(crate) fn refused(self) -> io::Error {
        self.with(
            io::ErrorKind::ConnectionRefused,
            "the pipe's server takes no client now: see that it runs, or try again later",
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
                "the pipe's access rights don't let this process make another instance: \
                 let it read, write and make instances (0x12019f)",
            ),
            _ => self.explain(Doing::Using),
        }
    }

    /// The error of looking up an account.
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
                "Windows knows the client only after something was read from it: \
                 read something first",
            ),
            win32::ERROR_INVALID_FUNCTION => self.with(
                io::ErrorKind::Unsupported,
                "only the server can impersonate, by an accepted stream",
            ),
            _ => self.explain(Doing::Using),
        }
    }

    /// The error of taking a handle out of another process.
    pub(crate) fn explain_taking(self) -> io::Error {
        match self.0 {
            win32::ERROR_ACCESS_DENIED => self.with(
                io::ErrorKind::PermissionDenied,
                "this process may not take handles out of the sender's: run both as the same user, \
                 or let the sender's grant PROCESS_DUP_HANDLE",
            ),
            win32::ERROR_INVALID_HANDLE => self.with(
                io::ErrorKind::InvalidData,
                "the sender's process has no open handle of the number that was offered",
            ),
            // There is no process of that number.
            win32::ERROR_INVALID_PARAMETER => {
                self.with(io::ErrorKind::BrokenPipe, "the sender's process has ended")
            }
            _ => self.into(),
        }
    }

    /// The error of a handle that can't be used as a stream.
    pub(crate) fn explain_handle(self) -> io::Error {
        match self {
            Code::ACCESS_DENIED => self.with(
                io::ErrorKind::PermissionDenied,
                "the handle doesn't let the pipe's type be asked for: \
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
                source: self.into(),
            },
        )
    }
}

/// What is wrong with a handle that isn't an end of a pipe, or can't wait as this crate does.
const NOT_A_PIPE: &str = "this handle is not one end of a pipe opened for overlapped I/O: \
                          open it with FILE_FLAG_OVERLAPPED";

/// The error of a handle that is synchronous.
pub(crate) fn synchronous_handle() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NOT_A_PIPE)
}

/// The error of an end whose calls don't wait.
pub(crate) fn nonblocking_handle() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "this end of a pipe is set to PIPE_NOWAIT, and the handle doesn't let that be changed: \
         set PIPE_WAIT, or open it with FILE_WRITE_ATTRIBUTES, too",
    )
}

/// Asks std, whose kind is right for most codes.
impl From<Code> for io::Error {
    fn from(code: Code) -> io::Error {
        io::Error::from_raw_os_error(code.0 as i32)
    }
}

/// Prints the number, as the records of calls do.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.0)
    }
}

/// An operating system's error whose kind std would not have chosen.
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
            // The number is there, on the error or on its source.
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
