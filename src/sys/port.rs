//! A completion port, and requests that outlive the calls that issue them.
//!
//! **What outlives its call owns all that it touches.** A [`Request`] owns its `OVERLAPPED` and, for
//! a write, the bytes. It frees them only when the kernel is done with them; a request that is
//! dropped earlier leaks them.
//!
//! **A packet is only a hint.** Any process that has a duplicate of a handle which belongs to the
//! port can cause packets with any pointer. So a packet is used to find a request by its address,
//! never as a pointer, and what the request did is read from its own `OVERLAPPED`.

use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_WAIT_FOR_BUFFER, FSCTL_PIPE_WAIT, NtFsControlFile,
};
use windows_sys::Win32::Foundation::{
    INVALID_HANDLE_VALUE, STATUS_BUFFER_OVERFLOW, STATUS_PENDING,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
};
use windows_sys::Win32::System::Pipes::ConnectNamedPipe;
use windows_sys::core::BOOL;

use super::data::Transferred;
use super::error::Code;
use super::pipe::{Device, Pipe};
use super::record::trace;

/// A completion port: where the packets of many handles arrive.
pub(crate) struct CompletionPort(OwnedHandle);

/// A packet: which handle it's for, and which request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    /// The key that the handle was associated with.
    pub(crate) key: usize,
    /// The address of the request, if the packet is what it seems to be.
    pub(crate) address: usize,
}

impl CompletionPort {
    /// The most packets that one call takes.
    const MOST_PACKETS: usize = 64;

    /// This corresponds to calling `CreateIoCompletionPort` without a handle.
    pub(crate) fn new() -> Result<CompletionPort, Code> {
        // SAFETY: takes no pointers. One thread at a time is to handle packets.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1) };
        let code = Code::last();
        trace!("CreateIoCompletionPort() = {port:?}");
        if port.is_null() {
            return Err(code);
        }
        // SAFETY: the call has just created the handle, and nothing else owns it.
        Ok(CompletionPort(unsafe {
            OwnedHandle::from_raw_handle(port)
        }))
    }

    /// Associates a handle's file object, and so all duplicates of the handle, with the port and a
    /// key. That is possible once, and can't be undone. This corresponds to calling
    /// `CreateIoCompletionPort`.
    pub(crate) fn associate(&self, handle: &impl AsHandle, key: usize) -> Result<(), Code> {
        let (handle, port) = (handle.as_handle().as_raw_handle(), self.0.as_raw_handle());
        // SAFETY: both handles are borrowed.
        let result = unsafe { CreateIoCompletionPort(handle, port, key, 0) };
        let code = Code::last();
        trace!("CreateIoCompletionPort({handle:?}, {port:?}, {key}) = {result:?}");
        if result.is_null() { Err(code) } else { Ok(()) }
    }

    /// Waits for packets, for at most this many milliseconds (`u32::MAX` means without limit), and
    /// adds them to the list. This corresponds to calling `GetQueuedCompletionStatusEx`.
    pub(crate) fn wait(&self, packets: &mut Vec<Packet>, milliseconds: u32) -> Result<(), Code> {
        let port = self.0.as_raw_handle();
        let mut entries = [OVERLAPPED_ENTRY::default(); CompletionPort::MOST_PACKETS];
        let mut count = 0;
        // SAFETY: there is room for the given number of entries, and the count can be written to.
        let ok = unsafe {
            let (at, room) = (entries.as_mut_ptr(), entries.len() as u32);
            GetQueuedCompletionStatusEx(port, at, room, &mut count, milliseconds, 0)
        };
        let code = Code::last();
        trace!("GetQueuedCompletionStatusEx({port:?}, {milliseconds} ms) = {ok}, {count} packets");
        if ok == 0 {
            return Err(code);
        }
        packets.extend(entries.iter().take(count as usize).map(|entry| Packet {
            key: entry.lpCompletionKey,
            address: entry.lpOverlapped.addr(),
        }));
        Ok(())
    }

    /// Queues a packet that is for no handle. This corresponds to calling
    /// `PostQueuedCompletionStatus`.
    pub(crate) fn post(&self) -> Result<(), Code> {
        let port = self.0.as_raw_handle();
        // SAFETY: takes a handle, which is borrowed, and no pointer.
        let ok = unsafe { PostQueuedCompletionStatus(port, 0, 0, ptr::null()) };
        let code = Code::last();
        trace!("PostQueuedCompletionStatus({port:?}) = {ok}");
        if ok == 0 { Err(code) } else { Ok(()) }
    }
}

/// Keeps the module that holds this code loaded until the process ends, as a thread that never ends
/// runs in it. This corresponds to calling `GetModuleHandleExW`.
pub(crate) fn pin_module() -> Result<(), Code> {
    let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN;
    let mut module = ptr::null_mut();
    // SAFETY: with these flags the "name" is any address in the module, such as this function's.
    let ok = unsafe {
        let address = pin_module as fn() -> Result<(), Code> as *const u16;
        GetModuleHandleExW(flags, address, &mut module)
    };
    let code = Code::last();
    trace!("GetModuleHandleExW() = {ok}, {module:?}");
    if ok == 0 { Err(code) } else { Ok(()) }
}

/// One overlapped operation at a time, on a handle that is associated with a port.
pub(crate) struct Request {
    /// Owned. The kernel may write to it while `state` says that it's pending.
    overlapped: NonNull<OVERLAPPED>,
    /// What the kernel may read or write meanwhile.
    bytes: Box<[u8]>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing was issued, or its packet has come.
    Idle,
    /// The kernel is at work.
    Pending,
    /// It was complete at once. Its packet hasn't come yet.
    Complete,
}

/// What a packet with a request's address means for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// Nothing. The packet isn't the kernel's.
    Foreign,
    /// It was complete when it was issued, and can be used again now.
    Free,
    /// It's over, with this result, and can be used again.
    Over(Result<Transferred, Code>),
}

// SAFETY: the OVERLAPPED is owned and isn't tied to a thread. Only calls with `&mut self` use it.
unsafe impl Send for Request {}

impl Request {
    pub(crate) fn new() -> Request {
        Request {
            overlapped: NonNull::from(Box::leak(Box::default())),
            bytes: Box::default(),
            state: State::Idle,
        }
    }

    /// The address that its packets have.
    pub(crate) fn address(&self) -> usize {
        self.overlapped.as_ptr().addr()
    }

    /// Whether another operation can be issued.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Issues a read of zero bytes, which takes no data but may take an empty message; see
    /// [`Pipe::read_file`]. This corresponds to calling `ReadFile`.
    pub(crate) fn read_nothing(&mut self, pipe: &Pipe) -> Result<Option<Transferred>, Code> {
        let handle = pipe.as_handle().as_raw_handle();
        self.issue("ReadFile", |overlapped, _| {
            // SAFETY: no byte is read into the buffer. The OVERLAPPED lives until the operation is
            // over, as `drop` guarantees.
            unsafe {
                let nothing = NonNull::<u8>::dangling().as_ptr();
                ReadFile(handle, nothing, 0, ptr::null_mut(), overlapped)
            }
        })
    }

    /// Issues a read of at most 64 KiB into memory of its own, from where nobody takes it. This
    /// corresponds to calling `ReadFile`.
    pub(crate) fn discard(&mut self, pipe: &Pipe) -> Result<Option<Transferred>, Code> {
        let handle = pipe.as_handle().as_raw_handle();
        if self.is_idle() {
            self.bytes = vec![0; 64 << 10].into_boxed_slice();
        }
        self.issue("ReadFile", |overlapped, bytes| {
            // SAFETY: the bytes and the OVERLAPPED are owned, and live until the operation is over,
            // as `drop` guarantees. Until then nobody looks at the bytes.
            unsafe {
                let (at, len) = (bytes.as_mut_ptr(), bytes.len() as u32);
                ReadFile(handle, at, len, ptr::null_mut(), overlapped)
            }
        })
    }

    /// Takes the bytes, at most 1 MiB, and issues a write of them as one message. This corresponds
    /// to calling `WriteFile`.
    pub(crate) fn write(
        &mut self,
        pipe: &Pipe,
        bytes: Box<[u8]>,
    ) -> Result<Option<Transferred>, Code> {
        self.bytes = bytes;
        self.write_again(pipe)
    }

    /// Issues the last write again, which was cancelled. This corresponds to calling `WriteFile`.
    pub(crate) fn write_again(&mut self, pipe: &Pipe) -> Result<Option<Transferred>, Code> {
        let handle = pipe.as_handle().as_raw_handle();
        self.issue("WriteFile", |overlapped, bytes| {
            // SAFETY: the bytes and the OVERLAPPED are owned, and live until the operation is over,
            // as `drop` guarantees.
            unsafe {
                let (at, len) = (bytes.as_ptr(), bytes.len() as u32);
                WriteFile(handle, at, len, ptr::null_mut(), overlapped)
            }
        })
    }

    /// Lets go of the bytes of a write that is over.
    pub(crate) fn forget_bytes(&mut self) {
        if self.is_idle() {
            self.bytes = Box::default();
        }
    }

    /// Waits for a client of this instance. This corresponds to calling `ConnectNamedPipe`; see
    /// [`Pipe::connect_named_pipe`].
    pub(crate) fn connect(&mut self, instance: &Pipe) -> Result<Option<Transferred>, Code> {
        let handle = instance.as_handle().as_raw_handle();
        self.issue("ConnectNamedPipe", |overlapped, _| {
            // SAFETY: the OVERLAPPED lives until the operation is over, as `drop` guarantees.
            unsafe { ConnectNamedPipe(handle, overlapped) }
        })
    }

    /// Waits until an instance of the pipe with this name (without a path and a NUL) is listening,
    /// for at most this many milliseconds. This corresponds to calling `NtFsControlFile` with
    /// `FSCTL_PIPE_WAIT`, as `WaitNamedPipeW` does.
    pub(crate) fn wait_named_pipe(
        &mut self,
        device: &Device,
        name: &[u16],
        milliseconds: u32,
    ) -> Result<Option<Transferred>, Code> {
        // Relative, in units of 100 ns.
        let timeout = -i64::from(milliseconds) * 10_000;
        let mut input = vec![0; std::mem::offset_of!(FILE_PIPE_WAIT_FOR_BUFFER, Name)];
        let mut put = |at: usize, bytes: &[u8]| input[at..at + bytes.len()].copy_from_slice(bytes);
        put(
            std::mem::offset_of!(FILE_PIPE_WAIT_FOR_BUFFER, Timeout),
            &timeout.to_ne_bytes(),
        );
        put(
            std::mem::offset_of!(FILE_PIPE_WAIT_FOR_BUFFER, NameLength),
            &(size_of_val(name) as u32).to_ne_bytes(),
        );
        put(
            std::mem::offset_of!(FILE_PIPE_WAIT_FOR_BUFFER, TimeoutSpecified),
            &[1],
        );
        input.extend(name.iter().flat_map(|unit| unit.to_ne_bytes()));
        self.bytes = input.into_boxed_slice();
        #[cfg(test)]
        super::fault::strike("NtFsControlFile")?;
        let handle = device.as_handle().as_raw_handle();
        self.issue("NtFsControlFile", |overlapped, input| {
            // SAFETY: the input and the OVERLAPPED, which begins with the status block, are owned
            // and live until the operation is over, as `drop` guarantees. The context, which isn't
            // null, becomes the pointer in the packet. There is no event, routine or output.
            let status = unsafe {
                (*overlapped).Internal = STATUS_PENDING as usize;
                NtFsControlFile(
                    handle,
                    ptr::null_mut(),
                    None,
                    overlapped.cast_const().cast(),
                    overlapped.cast(),
                    FSCTL_PIPE_WAIT,
                    input.as_ptr().cast(),
                    input.len() as u32,
                    ptr::null_mut(),
                    0,
                )
            };
            Code::leave(status)
        })
    }

    /// Issues an operation. The result is `None` if it's pending. After a result or `None` a packet
    /// comes; after an error none.
    fn issue(
        &mut self,
        _name: &str,
        call: impl FnOnce(*mut OVERLAPPED, &mut [u8]) -> BOOL,
    ) -> Result<Option<Transferred>, Code> {
        assert!(self.is_idle(), "a request is issued while it's in progress");
        // SAFETY: the request is idle, so nothing else uses the OVERLAPPED. Without an event, the
        // operation isn't cancelled when this thread ends.
        unsafe { self.overlapped.write(OVERLAPPED::default()) };
        let ok = call(self.overlapped.as_ptr(), &mut self.bytes);
        let code = Code::last();
        trace!("{_name}({:#x}) = {ok}, {code:?}", self.address());
        let more = match (ok, code) {
            (0, Code::IO_PENDING) => {
                self.state = State::Pending;
                return Ok(None);
            }
            (0, Code::MORE_DATA) => true,
            (0, code) => return Err(code),
            _ => false,
        };
        self.state = State::Complete;
        Ok(Some(self.transferred(more)))
    }

    /// Cancels what is pending. Its packet comes nevertheless. This corresponds to calling
    /// `CancelIoEx`.
    pub(crate) fn cancel(&mut self, handle: &impl AsHandle) {
        if self.state == State::Pending {
            let handle = handle.as_handle().as_raw_handle();
            // SAFETY: the handle is borrowed, and the OVERLAPPED is owned. An error means that
            // there is nothing left to cancel.
            let _ok = unsafe { CancelIoEx(handle, self.overlapped.as_ptr()) };
            trace!("CancelIoEx({handle:?}, {:#x}) = {_ok}", self.address());
        }
    }

    /// Says what a packet with this request's address means.
    pub(crate) fn arrived(&mut self) -> Arrival {
        match self.state {
            State::Idle => Arrival::Foreign,
            State::Complete => {
                self.state = State::Idle;
                Arrival::Free
            }
            State::Pending => {
                // SAFETY: the OVERLAPPED is owned. The kernel writes the status last, as a whole,
                // and from any thread, so it's read by an atomic load with acquire ordering.
                let status =
                    unsafe { AtomicUsize::from_ptr(&raw mut (*self.overlapped.as_ptr()).Internal) };
                let result = match status.load(Ordering::Acquire) as i32 {
                    STATUS_PENDING => return Arrival::Foreign,
                    STATUS_BUFFER_OVERFLOW => Ok(self.transferred(true)),
                    0.. => Ok(self.transferred(false)),
                    status => Err(Code::of_status(status)),
                };
                self.state = State::Idle;
                Arrival::Over(result)
            }
        }
    }

    /// What a completed operation has done.
    fn transferred(&self, more: bool) -> Transferred {
        // SAFETY: the kernel is done with the OVERLAPPED, which is owned.
        let count = unsafe { (*self.overlapped.as_ptr()).InternalHigh };
        Transferred { count, more }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.is_idle() {
            // SAFETY: the pointer comes from a box, and the kernel is done with it.
            drop(unsafe { Box::from_raw(self.overlapped.as_ptr()) });
        } else {
            // The kernel may still use both.
            std::mem::forget(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe;
    use super::*;

    /// The packets that have come, all of them once there are `count`.
    fn packets(port: &CompletionPort, count: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        while packets.len() < count {
            port.wait(&mut packets, 10_000).unwrap();
        }
        packets
    }

    /// Both ends of a pipe, the first of them associated with the port by the key 7.
    fn pair(port: &CompletionPort) -> (Pipe, Pipe) {
        let device = pipe::open_device().unwrap();
        let server = pipe::create_named_pipe(pipe::Instance::unnamed(&device, true, 64)).unwrap();
        let client = pipe::open_peer(&server).unwrap();
        client.set_named_pipe_handle_state(true).unwrap();
        port.associate(&server, 7).unwrap();
        (server, client)
    }

    #[test]
    fn whatever_a_request_does_one_packet_comes() {
        let port = CompletionPort::new().unwrap();
        let (server, client) = pair(&port);
        let mut request = Request::new();
        let packet = Packet {
            key: 7,
            address: request.address(),
        };
        // It waits, and data comes, which it leaves; then it finds the data.
        assert!(request.read_nothing(&server).unwrap().is_none());
        assert_eq!(request.arrived(), Arrival::Foreign, "it's still pending");
        client.write_file(b"x", &mut |_| {}).unwrap();
        assert_eq!(packets(&port, 1), [packet]);
        let Arrival::Over(Ok(read)) = request.arrived() else {
            panic!("it's over");
        };
        assert!(read.count == 0 && read.more);
        if request.read_nothing(&server).unwrap().is_some() {
            assert_eq!(packets(&port, 1), [packet]);
            assert_eq!(request.arrived(), Arrival::Free);
        } else {
            // Windows may say that it's pending.
            assert_eq!(packets(&port, 1), [packet]);
            assert!(matches!(request.arrived(), Arrival::Over(Ok(_))));
        }
        server.read_file(&mut [0; 9], &mut |_| {}).unwrap();
        // Cancelled.
        assert!(request.read_nothing(&server).unwrap().is_none());
        request.cancel(&server);
        assert_eq!(packets(&port, 1), [packet]);
        let aborted = Arrival::Over(Err(Code::OPERATION_ABORTED));
        assert_eq!(request.arrived(), aborted);
        assert_eq!(request.arrived(), Arrival::Foreign, "it has had its packet");
        // Closed with the handle.
        assert!(request.read_nothing(&server).unwrap().is_none());
        drop(server);
        assert_eq!(packets(&port, 1), [packet]);
        assert!(matches!(request.arrived(), Arrival::Over(Err(_))));
    }

    #[test]
    fn the_bytes_of_a_write_are_its_own() {
        let port = CompletionPort::new().unwrap();
        let (server, client) = pair(&port);
        let mut request = Request::new();
        server.write_file(&[0; 64], &mut |_| {}).unwrap();
        let mut bytes = vec![1; 64];
        assert!(
            request
                .write(&server, bytes.clone().into())
                .unwrap()
                .is_none()
        );
        bytes.fill(2);
        for expected in [[0; 64], [1; 64]] {
            let mut read = [9; 64];
            client.read_file(&mut read, &mut |_| {}).unwrap();
            assert_eq!(read, expected);
        }
        packets(&port, 1);
        assert!(matches!(
            request.arrived(),
            Arrival::Over(Ok(Transferred { count: 64, .. }))
        ));
    }
}
