//! Windows error codes, under their names in windows-sys, and their `io::ErrorKind`s in std on
//! Windows.

use std::io::ErrorKind;

pub(crate) const ERROR_INVALID_FUNCTION: u32 = 1;
pub(crate) const ERROR_FILE_NOT_FOUND: u32 = 2;
pub(crate) const ERROR_ACCESS_DENIED: u32 = 5;
pub(crate) const ERROR_INVALID_HANDLE: u32 = 6;
pub(crate) const ERROR_NOT_ENOUGH_MEMORY: u32 = 8;
pub(crate) const ERROR_FILE_EXISTS: u32 = 80;
pub(crate) const ERROR_INVALID_PARAMETER: u32 = 87;
pub(crate) const ERROR_BROKEN_PIPE: u32 = 109;
pub(crate) const ERROR_SEM_TIMEOUT: u32 = 121;
pub(crate) const ERROR_INVALID_NAME: u32 = 123;
pub(crate) const ERROR_BAD_PATHNAME: u32 = 161;
pub(crate) const ERROR_ALREADY_EXISTS: u32 = 183;
pub(crate) const ERROR_BAD_PIPE: u32 = 230;
pub(crate) const ERROR_PIPE_BUSY: u32 = 231;
pub(crate) const ERROR_NO_DATA: u32 = 232;
pub(crate) const ERROR_PIPE_NOT_CONNECTED: u32 = 233;
pub(crate) const ERROR_MORE_DATA: u32 = 234;
pub(crate) const ERROR_PIPE_CONNECTED: u32 = 535;
pub(crate) const ERROR_PIPE_LISTENING: u32 = 536;
pub(crate) const ERROR_OPERATION_ABORTED: u32 = 995;
pub(crate) const ERROR_IO_PENDING: u32 = 997;
pub(crate) const ERROR_NO_TOKEN: u32 = 1008;
pub(crate) const ERROR_NONE_MAPPED: u32 = 1332;
pub(crate) const ERROR_BAD_IMPERSONATION_LEVEL: u32 = 1346;
pub(crate) const ERROR_CANNOT_IMPERSONATE: u32 = 1368;

/// Returns the kind that std gives this code on Windows.
pub(crate) fn kind(code: u32) -> ErrorKind {
    match code {
        ERROR_FILE_NOT_FOUND => ErrorKind::NotFound,
        ERROR_ACCESS_DENIED => ErrorKind::PermissionDenied,
        ERROR_NOT_ENOUGH_MEMORY => ErrorKind::OutOfMemory,
        ERROR_FILE_EXISTS | ERROR_ALREADY_EXISTS => ErrorKind::AlreadyExists,
        ERROR_INVALID_PARAMETER => ErrorKind::InvalidInput,
        ERROR_BROKEN_PIPE | ERROR_NO_DATA => ErrorKind::BrokenPipe,
        ERROR_SEM_TIMEOUT | ERROR_OPERATION_ABORTED => ErrorKind::TimedOut,
        _ => ErrorKind::Other,
    }
}
