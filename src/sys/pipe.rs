//! One function for each system call on pipes.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::windows::io::{
    AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, HandleOrInvalid, OwnedHandle,
};
use std::ptr;

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_MODE_INFORMATION, FILE_NON_DIRECTORY_FILE, FILE_OPEN,
    FILE_PIPE_ACCEPT_REMOTE_CLIENTS, FILE_PIPE_BYTE_STREAM_MODE, FILE_PIPE_BYTE_STREAM_TYPE,
    FILE_PIPE_CLOSING_STATE, FILE_PIPE_CONNECTED_STATE, FILE_PIPE_INFORMATION,
    FILE_PIPE_LOCAL_INFORMATION, FILE_PIPE_MESSAGE_MODE, FILE_PIPE_MESSAGE_TYPE,
    FILE_PIPE_QUEUE_OPERATION, FILE_PIPE_REJECT_REMOTE_CLIENTS, FILE_PIPE_SERVER_END,
    FILE_SYNCHRONOUS_IO_ALERT, FILE_SYNCHRONOUS_IO_NONALERT, FileModeInformation,
    FilePipeInformation, FilePipeLocalInformation, NtOpenFile, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{
    CloseHandle, GENERIC_READ, GENERIC_WRITE, HANDLE, NTSTATUS, OBJ_CASE_INSENSITIVE,
    OBJ_IGNORE_IMPERSONATED_DEVICEMAP, UNICODE_STRING,
};
use windows_sys::Win32::Security::{
    GetKernelObjectSecurity, LABEL_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION,
    SECURITY_QUALITY_OF_SERVICE, SECURITY_STATIC_TRACKING, SecurityIdentification,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_READ_ATTRIBUTES, FILE_SHARE_READ,
    FILE_SHARE_WRITE, FILE_WRITE_ATTRIBUTES, FILE_WRITE_DATA, FILE_WRITE_EA, FlushFileBuffers,
    OPEN_EXISTING, ReadFile, SECURITY_ANONYMOUS, SECURITY_CONTEXT_TRACKING, SECURITY_DELEGATION,
    SECURITY_IDENTIFICATION, SECURITY_IMPERSONATION, SECURITY_SQOS_PRESENT, SYNCHRONIZE, WriteFile,
};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, GetNamedPipeClientProcessId, GetNamedPipeClientSessionId,
    GetNamedPipeServerProcessId, GetNamedPipeServerSessionId, PIPE_READMODE_BYTE,
    PIPE_READMODE_MESSAGE, PIPE_WAIT, PeekNamedPipe, SetNamedPipeHandleState, WaitNamedPipeW,
};
use windows_sys::core::BOOL;

use super::data::Transferred;
pub(crate) use super::data::{HandleState, Instance, LocalInformation, Quality};
use super::descriptor::Descriptor;
use super::error::Code;
use super::operation::{self, Attend};
use super::record::trace;
use super::text::unicode_string;
#[cfg(test)]
use windows_sys::Win32::System::Pipes::PIPE_NOWAIT;

/// The access that a client requests: to read and write, but not to create instances
/// (`FILE_APPEND_DATA`, which `GENERIC_WRITE` would include).
const CLIENT_ACCESS: u32 =
    FILE_GENERIC_READ | FILE_WRITE_DATA | FILE_WRITE_EA | FILE_WRITE_ATTRIBUTES;

/// The most bytes per read or write. The kernel copies a whole write into its own memory, and
/// checks every page of a read's buffer.
const LONGEST_TRANSFER: usize = 1 << 20;

/// The most bytes per peek. Windows allocates room for all of them twice on the way.
const LONGEST_PEEK: usize = 64 << 10;

/// One end of a pipe, open for overlapped I/O, and closed on drop.
pub(crate) struct Pipe(ManuallyDrop<OwnedHandle>);

/// The device that all pipes belong to.
pub(crate) struct Device(OwnedHandle);

#[cfg(feature = "tokio")]
impl AsHandle for Device {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

impl From<OwnedHandle> for Pipe {
    fn from(handle: OwnedHandle) -> Pipe {
        Pipe(ManuallyDrop::new(handle))
    }
}

impl From<Pipe> for OwnedHandle {
    fn from(mut pipe: Pipe) -> OwnedHandle {
        // SAFETY: `pipe` is forgotten on the next line, so the handle isn't used again through it.
        let handle = unsafe { ManuallyDrop::take(&mut pipe.0) };
        std::mem::forget(pipe);
        handle
    }
}

impl AsHandle for Pipe {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

/// Prints the handle.
impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_raw_handle().fmt(f)
    }
}

/// This corresponds to calling `CloseHandle`. There is no flush, no disconnect and no pending
/// operation, so the peer can read all that was written, and the call takes no time.
impl Drop for Pipe {
    fn drop(&mut self) {
        let handle = self.0.as_raw_handle();
        // SAFETY: the handle is owned, and never dropped by `ManuallyDrop`.
        let _ok = unsafe { CloseHandle(handle) };
        trace!("CloseHandle({handle:?}) = {_ok}");
    }
}

impl Pipe {
    /// Creates another handle to the same end. The new handle isn't inheritable. This corresponds
    /// to calling `DuplicateHandle`.
    pub(crate) fn duplicate_handle(&self) -> io::Result<Pipe> {
        let duplicate = self.0.try_clone();
        trace!(
            "DuplicateHandle({:?}) = {duplicate:?}",
            self.0.as_raw_handle()
        );
        Ok(duplicate?.into())
    }

    /// Reads what is available, or waits for it: at most one message, and of a longer message as
    /// much as the buffer holds. An empty message is 0 bytes. This corresponds to calling
    /// `ReadFile`.
    ///
    /// A read of zero bytes waits until there is something to read. It takes no data, but it does
    /// take an empty message. Data that arrives while it waits sets `more`; an empty message
    /// doesn't. If something was there before, the result says nothing about it: it's unknown
    /// whether Windows checks.
    pub(crate) fn read_file(
        &self,
        buf: &mut [u8],
        attend: Attend<'_>,
    ) -> Result<Transferred, Code> {
        let handle = self.0.as_raw_handle();
        let len = buf.len().min(LONGEST_TRANSFER) as u32;
        operation::run(self.as_handle(), attend, |operation| {
            // SAFETY: `buf` has room for `len` bytes and is borrowed until `run` returns, which it
            // does only when the operation is over. The count comes from the OVERLAPPED, so the
            // call isn't asked for it.
            let ok = unsafe {
                let at = buf.as_mut_ptr().cast();
                ReadFile(handle, at, len, ptr::null_mut(), operation.overlapped())
            };
            let _issued = operation.issued(ok);
            trace!("ReadFile({handle:?}, {len}) = {_issued:?}");
        })
    }

    /// Queues one message: all of it, or nothing if it's cancelled and fits the quota. This
    /// corresponds to calling `WriteFile`.
    pub(crate) fn write_file(
        &self,
        message: &[u8],
        attend: Attend<'_>,
    ) -> Result<Transferred, Code> {
        let handle = self.0.as_raw_handle();
        let len = message.len().min(LONGEST_TRANSFER) as u32;
        operation::run(self.as_handle(), attend, |operation| {
            // SAFETY: `message` has `len` bytes and is borrowed until `run` returns, which it does
            // only when the operation is over.
            let ok = unsafe {
                let at = message.as_ptr();
                WriteFile(handle, at, len, ptr::null_mut(), operation.overlapped())
            };
            let _issued = operation.issued(ok);
            trace!("WriteFile({handle:?}, {len}) = {_issued:?}");
        })
    }

    /// Copies what could be read now, of the first message only, and leaves it there. This
    /// corresponds to calling `PeekNamedPipe`.
    pub(crate) fn peek_named_pipe(&self, buf: &mut [u8]) -> Result<usize, Code> {
        let handle = self.0.as_raw_handle();
        let len = buf.len().min(LONGEST_PEEK) as u32;
        let mut count = 0;
        // SAFETY: `buf` has room for `len` bytes and `count` can be written to; the call doesn't
        // wait, and keeps neither.
        let ok = unsafe {
            let (at, null) = (buf.as_mut_ptr().cast(), ptr::null_mut());
            PeekNamedPipe(handle, at, len, &mut count, null, null)
        };
        let code = Code::last();
        trace!("PeekNamedPipe({handle:?}, {len}) = {ok}, {count} bytes");
        match ok {
            // A message that is longer than the buffer is reported as an error, but isn't one.
            0 if code != Code::MORE_DATA => Err(code),
            _ => Ok(count as usize),
        }
    }

    /// Waits until a client has connected to this instance. This corresponds to calling
    /// `ConnectNamedPipe`, which makes Windows forget the identity of a client that has already
    /// connected: check [`local_information`](Self::local_information) first.
    pub(crate) fn connect_named_pipe(&self, attend: Attend<'_>) -> Result<(), Code> {
        let handle = self.0.as_raw_handle();
        let connected = operation::run(self.as_handle(), attend, |operation| {
            // SAFETY: the OVERLAPPED outlives the operation, as `run` guarantees.
            let ok = unsafe { ConnectNamedPipe(handle, operation.overlapped()) };
            let _issued = operation.issued(ok);
            trace!("ConnectNamedPipe({handle:?}) = {_issued:?}");
        });
        match connected {
            // The client had connected before the call; or it had, and has disconnected since, but
            // its bytes are still there.
            Err(Code::PIPE_CONNECTED | Code::NO_DATA) => Ok(()),
            connected => connected.map(|_| ()),
        }
    }

    /// Waits until the peer has read everything. Only the peer can end this wait. This corresponds
    /// to calling `FlushFileBuffers`.
    pub(crate) fn flush_file_buffers(&self) -> Result<(), Code> {
        let handle = self.0.as_raw_handle();
        // SAFETY: takes a handle, which is borrowed.
        let ok = unsafe { FlushFileBuffers(handle) };
        let code = Code::last();
        trace!("FlushFileBuffers({handle:?}) = {ok}");
        if ok == 0 { Err(code) } else { Ok(()) }
    }

    /// Sets whether reads of this end stop at message boundaries, and makes its calls wait. This
    /// corresponds to calling `SetNamedPipeHandleState`.
    pub(crate) fn set_named_pipe_handle_state(&self, by_message: bool) -> Result<(), Code> {
        let handle = self.0.as_raw_handle();
        let mode = if by_message {
            PIPE_READMODE_MESSAGE
        } else {
            PIPE_READMODE_BYTE
        } | PIPE_WAIT;
        #[cfg(test)]
        super::fault::strike("SetNamedPipeHandleState")?;
        // SAFETY: `mode` is read before the call returns; the other two settings are left alone.
        let ok = unsafe { SetNamedPipeHandleState(handle, &mode, ptr::null(), ptr::null()) };
        let code = Code::last();
        trace!("SetNamedPipeHandleState({handle:?}, {mode}) = {ok}");
        if ok == 0 { Err(code) } else { Ok(()) }
    }

    /// Makes calls on this end not wait, as another program may have done.
    #[cfg(test)]
    pub(crate) fn set_nowait(&self) {
        let mode = PIPE_READMODE_BYTE | PIPE_NOWAIT;
        // SAFETY: as above.
        let ok = unsafe {
            let handle = self.0.as_raw_handle();
            SetNamedPipeHandleState(handle, &mode, ptr::null(), ptr::null())
        };
        assert_ne!(ok, 0);
    }

    /// Returns how this end reads, and whether its calls wait. This corresponds to calling
    /// `NtQueryInformationFile` for `FilePipeInformation`.
    pub(crate) fn handle_state(&self) -> Result<HandleState, Code> {
        let mut information = FILE_PIPE_INFORMATION::default();
        // SAFETY: this is the structure of that class, and it holds only numbers.
        unsafe { self.query(FilePipeInformation, &mut information)? };
        Ok(HandleState {
            by_message: information.ReadMode == FILE_PIPE_MESSAGE_MODE,
            waits: information.CompletionMode == FILE_PIPE_QUEUE_OPERATION,
        })
    }

    /// Returns the pipe's type, quotas and state. This corresponds to calling
    /// `NtQueryInformationFile` for `FilePipeLocalInformation`.
    pub(crate) fn local_information(&self) -> Result<LocalInformation, Code> {
        let mut information = FILE_PIPE_LOCAL_INFORMATION::default();
        // SAFETY: this is the structure of that class, and it holds only numbers.
        unsafe { self.query(FilePipeLocalInformation, &mut information)? };
        let is_server = information.NamedPipeEnd == FILE_PIPE_SERVER_END;
        Ok(LocalInformation {
            is_server,
            is_message_type: information.NamedPipeType & FILE_PIPE_MESSAGE_TYPE != 0,
            // "Inbound" means to the server, whichever end asks.
            write_quota: match is_server {
                true => information.OutboundQuota,
                false => information.InboundQuota,
            } as usize,
            has_client: matches!(
                information.NamedPipeState,
                FILE_PIPE_CONNECTED_STATE | FILE_PIPE_CLOSING_STATE
            ),
            is_closing: information.NamedPipeState == FILE_PIPE_CLOSING_STATE,
        })
    }

    /// Returns the pipe's owner and integrity label, as a descriptor in self-relative form. This
    /// corresponds to calling `GetKernelObjectSecurity`.
    pub(crate) fn origin(&self) -> io::Result<Vec<u8>> {
        let handle = self.0.as_raw_handle();
        let what = OWNER_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;
        // A SID and an ACL with one entry: less than 200 bytes. It's an array of numbers for the
        // alignment.
        let mut descriptor = [0_u32; 256];
        let mut len = 0;
        // SAFETY: the handle is borrowed, and the buffer has room for the given number of bytes.
        let ok = unsafe {
            let (at, room) = (
                descriptor.as_mut_ptr().cast(),
                size_of_val(&descriptor) as u32,
            );
            GetKernelObjectSecurity(handle, what, at, room, &mut len)
        };
        let code = Code::last();
        trace!("GetKernelObjectSecurity({handle:?}) = {ok}, {len} bytes");
        if ok == 0 {
            return Err(code.into());
        }
        Ok(descriptor
            .iter()
            .flat_map(|part| part.to_ne_bytes())
            .collect())
    }

    /// Returns the id of the process at the other end, as it was when that process opened or
    /// created the pipe. This corresponds to calling `GetNamedPipeClientProcessId` or
    /// `GetNamedPipeServerProcessId`.
    pub(crate) fn peer_process_id(&self, is_server: bool) -> Result<u32, Code> {
        match is_server {
            true => self.ask("GetNamedPipeClientProcessId", GetNamedPipeClientProcessId),
            false => self.ask("GetNamedPipeServerProcessId", GetNamedPipeServerProcessId),
        }
    }

    /// Returns the session of that process. This corresponds to calling
    /// `GetNamedPipeClientSessionId` or `GetNamedPipeServerSessionId`.
    pub(crate) fn peer_session_id(&self, is_server: bool) -> Result<u32, Code> {
        match is_server {
            true => self.ask("GetNamedPipeClientSessionId", GetNamedPipeClientSessionId),
            false => self.ask("GetNamedPipeServerSessionId", GetNamedPipeServerSessionId),
        }
    }

    fn ask(
        &self,
        _name: &str,
        call: unsafe extern "system" fn(HANDLE, *mut u32) -> BOOL,
    ) -> Result<u32, Code> {
        let handle = self.0.as_raw_handle();
        let mut answer = 0;
        // SAFETY: all callers pass a function that takes a pipe and a pointer to a number, which
        // can be written to.
        let ok = unsafe { call(handle, &mut answer) };
        let code = Code::last();
        trace!("{_name}({handle:?}) = {ok}, {answer}");
        if ok == 0 { Err(code) } else { Ok(answer) }
    }

    /// Returns whether the handle is synchronous, so that calls on it can't be cancelled or run in
    /// parallel. This corresponds to calling `NtQueryInformationFile` for `FileModeInformation`.
    pub(crate) fn is_synchronous(&self) -> Result<bool, Code> {
        let mut mode = FILE_MODE_INFORMATION::default();
        // SAFETY: this is the structure of that class, and it holds only a number.
        unsafe { self.query(FileModeInformation, &mut mode)? };
        Ok(mode.Mode & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT) != 0)
    }

    /// # Safety
    /// `T` must be the structure that the kernel fills for `class`, and must be valid for any
    /// bytes.
    unsafe fn query<T>(&self, class: i32, information: &mut T) -> Result<(), Code> {
        let handle = self.0.as_raw_handle();
        #[cfg(test)]
        super::fault::strike("NtQueryInformationFile")?;
        let mut block = IO_STATUS_BLOCK::default();
        let (at, len) = (ptr::from_mut(information).cast(), size_of::<T>() as u32);
        // SAFETY: both structures outlive the call, which never pends, because the kernel has the
        // information in memory. The caller guarantees that the structure fits.
        let status = unsafe { NtQueryInformationFile(handle, &mut block, at, len, class) };
        trace!("NtQueryInformationFile({handle:?}, {class}) = {status:#x}");
        succeed(status)
    }
}

/// Opens a pipe that another process has created. With `tracking`, the server doesn't know the
/// client's identity until it reads something, and then gets the identity of the thread that wrote
/// it. Otherwise it gets the identity of the thread that opens the pipe. This corresponds to
/// calling `CreateFileW`.
pub(crate) fn create_file(path: &[u16], quality: Quality, tracking: bool) -> Result<Pipe, Code> {
    debug_assert_eq!(path.last(), Some(&0));
    let level = match quality {
        Quality::Anonymous => SECURITY_ANONYMOUS,
        Quality::Identification => SECURITY_IDENTIFICATION,
        Quality::Impersonation => SECURITY_IMPERSONATION,
        Quality::Delegation => SECURITY_DELEGATION,
    };
    let mode = match tracking {
        true => SECURITY_CONTEXT_TRACKING,
        false => 0,
    };
    // SAFETY: the path ends with a NUL and is borrowed. There are no attributes, so the handle
    // isn't inheritable, and there is no template.
    let handle = unsafe {
        CreateFileW(
            path.as_ptr(),
            CLIENT_ACCESS,
            0,
            ptr::null(),
            OPEN_EXISTING,
            FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | level | mode,
            ptr::null_mut(),
        )
    };
    let code = Code::last();
    trace!(
        "CreateFileW({}, {quality:?}, tracking: {tracking}) = {handle:?}",
        super::text::Wide(path)
    );
    // SAFETY: the call returns a handle that nothing else owns, or INVALID_HANDLE_VALUE.
    let handle = unsafe { HandleOrInvalid::from_raw_handle(handle) };
    OwnedHandle::try_from(handle)
        .map(Pipe::from)
        .map_err(|_| code)
}

/// Waits until an instance of the pipe is listening, for at most this many milliseconds. They must
/// be 2 or more, because smaller values have special meanings. This corresponds to calling
/// `WaitNamedPipeW`.
pub(crate) fn wait_named_pipe(path: &[u16], milliseconds: u32) -> Result<(), Code> {
    debug_assert_eq!(path.last(), Some(&0));
    #[cfg(test)]
    super::fault::strike("WaitNamedPipeW")?;
    // SAFETY: the path ends with a NUL and is borrowed.
    let ok = unsafe { WaitNamedPipeW(path.as_ptr(), milliseconds) };
    let code = Code::last();
    trace!("WaitNamedPipeW({milliseconds} ms) = {ok}");
    if ok == 0 { Err(code) } else { Ok(()) }
}

/// Creates an instance of a pipe, which listens from then on. This corresponds to calling
/// `NtCreateNamedPipeFile`: `CreateNamedPipeW` supports neither pipes without a name nor "another
/// instance, if the name still exists".
pub(crate) fn create_named_pipe(instance: Instance<'_, Device>) -> Result<Pipe, Code> {
    #[cfg(test)]
    super::fault::strike("NtCreateNamedPipeFile")?;
    let name = unicode_string(instance.name);
    let attributes = OBJECT_ATTRIBUTES {
        SecurityDescriptor: instance
            .descriptor
            .map_or(ptr::null(), Descriptor::as_ptr)
            .cast(),
        ..object_attributes(instance.root.map(|device| device.0.as_handle()), &name)
    };
    let disposition = if instance.first {
        FILE_CREATE
    } else {
        FILE_OPEN
    };
    let (kind, read_mode) = match instance.by_message {
        true => (FILE_PIPE_MESSAGE_TYPE, FILE_PIPE_MESSAGE_MODE),
        false => (FILE_PIPE_BYTE_STREAM_TYPE, FILE_PIPE_BYTE_STREAM_MODE),
    };
    let remote = match instance.reject_remote {
        true => FILE_PIPE_REJECT_REMOTE_CLIENTS,
        false => FILE_PIPE_ACCEPT_REMOTE_CLIENTS,
    };
    // Relative, in units of 100 ns. This is what CreateNamedPipeW uses for clients that wait for
    // the server's default time.
    let default_timeout: i64 = -50 * 10_000;
    let mut handle = ptr::null_mut();
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: everything pointed to is borrowed or on this stack until the call returns, and the
    // call doesn't pend. Without FILE_SYNCHRONOUS_IO_* the handle is overlapped; without
    // OBJ_INHERIT it isn't inheritable.
    let status = unsafe {
        NtCreateNamedPipeFile(
            &mut handle,
            GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE,
            &attributes,
            &mut block,
            FILE_SHARE_READ | FILE_SHARE_WRITE,
            disposition,
            0,
            kind | remote,
            read_mode,
            FILE_PIPE_QUEUE_OPERATION,
            instance.limit,
            instance.inbound,
            instance.outbound,
            &default_timeout,
        )
    };
    trace!(
        "NtCreateNamedPipeFile({}, first: {}, reject_remote: {}, by_message: {}, limit: {}, \
         inbound: {}, outbound: {}) = {status:#x}, {handle:?}",
        super::text::Wide(instance.name),
        instance.first,
        instance.reject_remote,
        instance.by_message,
        instance.limit,
        instance.inbound,
        instance.outbound,
    );
    succeed(status)?;
    // SAFETY: the call has just created the handle, and nothing else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) }.into())
}

/// Opens the device that all pipes belong to. This corresponds to calling `NtOpenFile`.
pub(crate) fn open_device() -> Result<Device, Code> {
    open_device_with(FILE_SYNCHRONOUS_IO_NONALERT)
}

/// Opens the device for overlapped I/O. This corresponds to calling `NtOpenFile`.
#[cfg(feature = "tokio")]
pub(crate) fn open_overlapped_device() -> Result<Device, Code> {
    open_device_with(0)
}

fn open_device_with(options: u32) -> Result<Device, Code> {
    let access = GENERIC_READ | SYNCHRONIZE;
    nt_open_file(None, &super::text::wide(r"\??\pipe\"), access, options).map(Device)
}

/// Opens the client's end of an instance, through the handle of the server's end. This corresponds
/// to calling `NtOpenFile`.
pub(crate) fn open_peer(server: &Pipe) -> Result<Pipe, Code> {
    nt_open_file(
        Some(server.as_handle()),
        &[],
        CLIENT_ACCESS,
        FILE_NON_DIRECTORY_FILE,
    )
    .map(Pipe::from)
}

/// Opens the client's end of an instance as [`open_peer`] does, for a child that reads it, or for
/// one that writes to it. The handle is synchronous, as children expect, and isn't inheritable: std
/// gives the child an inheritable duplicate. This corresponds to calling `NtOpenFile`.
pub(crate) fn open_child_end(server: &Pipe, reads: bool) -> Result<OwnedHandle, Code> {
    // Runtimes query the pipe, and set how it's read.
    let access = match reads {
        true => FILE_GENERIC_READ | FILE_WRITE_ATTRIBUTES,
        false => FILE_WRITE_DATA | FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES | SYNCHRONIZE,
    };
    nt_open_file(
        Some(server.as_handle()),
        &[],
        access,
        FILE_NON_DIRECTORY_FILE | FILE_SYNCHRONOUS_IO_NONALERT,
    )
}

fn nt_open_file(
    root: Option<BorrowedHandle<'_>>,
    name: &[u16],
    access: u32,
    options: u32,
) -> Result<OwnedHandle, Code> {
    let object_name = unicode_string(name);
    // The equivalent of SECURITY_IDENTIFICATION for CreateFileW.
    let quality = SECURITY_QUALITY_OF_SERVICE {
        Length: size_of::<SECURITY_QUALITY_OF_SERVICE>() as u32,
        ImpersonationLevel: SecurityIdentification,
        ContextTrackingMode: SECURITY_STATIC_TRACKING as u8,
        EffectiveOnly: false,
    };
    let attributes = OBJECT_ATTRIBUTES {
        SecurityQualityOfService: &quality,
        ..object_attributes(root, &object_name)
    };
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE;
    let mut handle: HANDLE = ptr::null_mut();
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: everything pointed to is borrowed or on this stack until the call returns.
    let status =
        unsafe { NtOpenFile(&mut handle, access, &attributes, &mut block, share, options) };
    trace!(
        "NtOpenFile({}) = {status:#x}, {handle:?}",
        super::text::Wide(name)
    );
    succeed(status)?;
    // SAFETY: the call has just created the handle, and nothing else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Names an object, relative to `root` if there is one. If this thread impersonates a client, the name
/// is still resolved as the process resolves it: a client can make `\??\pipe` mean something else to
/// itself.
fn object_attributes(root: Option<BorrowedHandle<'_>>, name: &UNICODE_STRING) -> OBJECT_ATTRIBUTES {
    OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root.map_or(ptr::null_mut(), |root| root.as_raw_handle()),
        ObjectName: name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_IGNORE_IMPERSONATED_DEVICEMAP,
        SecurityDescriptor: ptr::null(),
        SecurityQualityOfService: ptr::null(),
    }
}

fn succeed(status: NTSTATUS) -> Result<(), Code> {
    if status >= 0 {
        Ok(())
    } else {
        Err(Code::of_status(status))
    }
}

// The only function that windows-sys doesn't declare.
#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtCreateNamedPipeFile(
        handle: *mut HANDLE,
        desired_access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        block: *mut IO_STATUS_BLOCK,
        share_access: u32,
        disposition: u32,
        options: u32,
        pipe_type: u32,
        read_mode: u32,
        completion_mode: u32,
        maximum_instances: u32,
        inbound_quota: u32,
        outbound_quota: u32,
        default_timeout: *const i64,
    ) -> NTSTATUS;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of it only a client with device names of its own shows, in `tests/it/names.rs`; and
    /// Wine has no such clients.
    #[test]
    fn every_name_is_the_processs_own_in_any_case() {
        let text = super::super::text::wide(r"\??\pipe\x");
        let name = unicode_string(&text);
        let flags = object_attributes(None, &name).Attributes;
        assert_eq!(
            flags,
            OBJ_CASE_INSENSITIVE | OBJ_IGNORE_IMPERSONATED_DEVICEMAP
        );
    }
}
