//! Other processes, and random numbers.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE};
use windows_sys::Win32::Security::Cryptography::ProcessPrng;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcess, PROCESS_DUP_HANDLE};

use super::error::Code;
use super::record::trace;

/// Opens the process that has this id now. This corresponds to calling `OpenProcess`.
pub(super) fn open_process(id: u32, access: u32) -> Result<OwnedHandle, Code> {
    // SAFETY: takes numbers; the handle isn't inheritable.
    let process = unsafe { OpenProcess(access, 0, id) };
    let code = Code::last();
    trace!("OpenProcess({id}, {access:#x}) = {process:?}");
    if process.is_null() {
        return Err(code);
    }
    // SAFETY: the call has just created the handle, and nothing else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

/// Returns a number that can't be guessed. This corresponds to calling `ProcessPrng`.
pub(crate) fn process_prng() -> io::Result<u128> {
    let mut bytes = [0; 16];
    // SAFETY: the buffer has room for the given number of bytes.
    let ok = unsafe { ProcessPrng(bytes.as_mut_ptr(), bytes.len()) };
    let code = Code::last();
    trace!("ProcessPrng() = {ok}");
    match ok {
        0 => Err(code.into()),
        _ => Ok(u128::from_le_bytes(bytes)),
    }
}

/// Another process, whose handles can be duplicated.
pub(crate) struct Process(OwnedHandle);

/// A handle to any object, closed on drop.
pub(crate) type Handle = OwnedHandle;

impl Process {
    /// Opens the process that has this id now.
    pub(crate) fn open(id: u32) -> io::Result<Process> {
        match open_process(id, PROCESS_DUP_HANDLE) {
            Ok(process) => Ok(Process(process)),
            Err(code) => Err(code.explain_taking()),
        }
    }

    /// Creates a handle of this process to the object of the handle `theirs` in the other. This
    /// corresponds to calling `DuplicateHandle`; the new handle isn't inheritable.
    pub(crate) fn duplicate_handle(&self, theirs: u64) -> io::Result<Handle> {
        // Pseudo-handles (-1 is the process, -2 its thread) aren't in a handle table.
        let theirs = match isize::try_from(theirs) {
            Ok(theirs @ 1..) => theirs as usize,
            _ => return Err(Code::INVALID_HANDLE.explain_taking()),
        };
        let mut ours: HANDLE = ptr::null_mut();
        // SAFETY: the process is open and this process's pseudo-handle is always valid; `theirs` is
        // looked up in the other process's table, whatever its value; `ours` can be written to.
        let ok = unsafe {
            DuplicateHandle(
                self.0.as_raw_handle(),
                ptr::without_provenance_mut(theirs),
                GetCurrentProcess(),
                &mut ours,
                0,
                0,
                DUPLICATE_SAME_ACCESS,
            )
        };
        let code = Code::last();
        trace!("DuplicateHandle({theirs:#x} of a peer) = {ok}, {ours:?}");
        if ok == 0 {
            return Err(code.explain_taking());
        }
        // SAFETY: the call has just created the handle, and nothing else owns it.
        Ok(unsafe { OwnedHandle::from_raw_handle(ours) })
    }
}
