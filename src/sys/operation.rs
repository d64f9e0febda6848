//! One overlapped operation: an `OVERLAPPED` and its event, from issue to result.
//!
//! **No operation outlives its call.** An [`Operation`] is on the stack of [`run`], which returns
//! only when the kernel no longer uses it or the caller's buffer: after completion, or after a
//! cancellation whose completion was waited for. How long to wait is decided above this layer, by
//! [`Attend`].

use std::cell::{Cell, UnsafeCell};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Win32::Foundation::{
    HANDLE, STATUS_BUFFER_OVERFLOW, STATUS_PENDING, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForSingleObject,
};
use windows_sys::core::BOOL;

pub(crate) use super::data::{Transferred, Waited};
use super::error::Code;
use super::record::trace;

/// Handles an operation that has been issued, by waiting if it's pending. When this returns, an
/// operation that is still pending is cancelled.
pub(crate) type Attend<'a> = &'a mut dyn FnMut(&Operation<'_>);

/// One overlapped operation on `handle`.
pub(crate) struct Operation<'a> {
    handle: BorrowedHandle<'a>,
    event: Event,
    overlapped: UnsafeCell<OVERLAPPED>,
    state: Cell<State>,
}

/// The state of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It failed, and the kernel no longer uses its memory, or never did.
    Failed(Code),
    /// The kernel may write to its memory.
    Pending,
    /// It's complete, and its status block is filled. `more` says whether part of the message is
    /// left.
    Complete { more: bool },
}

/// Issues an operation on `handle`, and returns when it's over.
///
/// `issue` makes the system call with the `OVERLAPPED` of the operation that it's given, and
/// immediately passes what the call returned to [`Operation::issued`]. The memory that it passes to
/// that call must outlive `run`.
///
/// The result is what the operation did, even if it completed while it was being cancelled.
pub(super) fn run(
    handle: BorrowedHandle<'_>,
    attend: Attend<'_>,
    issue: impl FnOnce(&Operation<'_>),
) -> Result<Transferred, Code> {
    let operation = Operation::new(handle)?;
    issue(&operation);
    attend(&operation);
    if operation.is_pending() {
        operation.conclude();
    }
    operation.result()
}

impl<'a> Operation<'a> {
    fn new(handle: BorrowedHandle<'a>) -> Result<Operation<'a>, Code> {
        let event = Event::of_this_thread()?;
        let overlapped = OVERLAPPED {
            // The lowest bit suppresses the completion packet if the handle belongs to a completion
            // port: its owner would take our OVERLAPPED for one of its own.
            hEvent: event.as_raw_handle().map_addr(|event| event | 1),
            ..OVERLAPPED::default()
        };
        Ok(Operation {
            handle,
            event,
            overlapped: UnsafeCell::new(overlapped),
            state: Cell::new(State::Failed(Code::OPERATION_ABORTED)),
        })
    }

    /// The pointer to pass to the system call.
    pub(super) fn overlapped(&self) -> *mut OVERLAPPED {
        self.overlapped.get()
    }

    /// Records what the call returned and, if that is false, this thread's last error.
    pub(super) fn issued(&self, ok: BOOL) -> State {
        let state = match ok {
            0 => match Code::last() {
                Code::IO_PENDING => State::Pending,
                Code::MORE_DATA => State::Complete { more: true },
                // The event stays reset and the status pending: there's nothing to wait for.
                code => State::Failed(code),
            },
            _ => State::Complete { more: false },
        };
        self.state.set(state);
        state
    }

    /// Whether it was issued and didn't complete at once.
    pub(crate) fn is_pending(&self) -> bool {
        self.state.get() == State::Pending
    }

    /// Whether the kernel is done with the operation, which must have been pending.
    pub(crate) fn is_complete(&self) -> bool {
        // SAFETY: the OVERLAPPED lives as long as `self`. The kernel writes the status last, as a
        // whole, and from any thread, so it's read by an atomic load with acquire ordering.
        let status = unsafe { AtomicUsize::from_ptr(&raw mut (*self.overlapped.get()).Internal) };
        status.load(Ordering::Acquire) as i32 != STATUS_PENDING
    }

    /// The event that is set when the operation is complete. Other threads may set it, too.
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// Cancels the operation if it isn't complete, and waits until it is.
    fn conclude(&self) {
        if !self.is_complete() {
            let handle = self.handle.as_raw_handle();
            // SAFETY: the handle is borrowed, and the OVERLAPPED is the one that was issued on it.
            // An error means that there's nothing left to cancel: the completion is on its way.
            let _ok = unsafe { CancelIoEx(handle, self.overlapped.get()) };
            trace!("CancelIoEx({handle:?}) = {_ok}");
        }
        while !self.is_complete() {
            // The kernel sets the event last, so an event that is set before that is a wake-up from
            // elsewhere. Neither call fails on an open event.
            self.event.reset();
            if !self.is_complete() {
                let _ = self.event.wait(INFINITE);
            }
        }
        // SAFETY: the kernel is done with the OVERLAPPED, which lives as long as `self`.
        let status = unsafe { (*self.overlapped.get()).Internal } as i32;
        self.state.set(match status {
            STATUS_BUFFER_OVERFLOW => State::Complete { more: true },
            0.. => State::Complete { more: false },
            _ => State::Failed(Code::of_status(status)),
        });
    }

    /// The result of an operation that isn't pending.
    fn result(&self) -> Result<Transferred, Code> {
        match self.state.get() {
            State::Failed(code) => Err(code),
            State::Pending => Err(Code::IO_PENDING),
            State::Complete { more } => {
                // SAFETY: the kernel is done with the OVERLAPPED, which lives as long as `self`.
                let count = unsafe { (*self.overlapped.get()).InternalHigh };
                Ok(Transferred { count, more })
            }
        }
    }
}

/// This also runs when a call unwinds, while the kernel may still use our stack.
impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if self.is_pending() {
            self.conclude();
        }
        self.event.give_back();
    }
}

thread_local! {
    /// The event of this thread, while no call of the thread uses it.
    static IDLE_EVENT: Cell<Option<Event>> = const { Cell::new(None) };
}

/// A manual-reset event. Clones are the same event.
#[derive(Clone, Debug)]
pub(crate) struct Event(Arc<OwnedHandle>);

impl Event {
    /// Takes this thread's event, for one operation. The kernel resets it when the operation is
    /// issued, so two operations must never share it.
    fn of_this_thread() -> Result<Event, Code> {
        // A thread that is ending no longer has an event.
        match IDLE_EVENT.try_with(Cell::take) {
            Ok(Some(event)) => Ok(event),
            _ => Event::new(),
        }
    }

    fn give_back(&self) {
        let _ = IDLE_EVENT.try_with(|idle| idle.set(Some(self.clone())));
    }

    /// This corresponds to calling `CreateEventW`.
    fn new() -> Result<Event, Code> {
        #[cfg(test)]
        super::fault::strike("CreateEventW")?;
        // SAFETY: no attributes (so it isn't inherited), manual reset, not set, no name.
        let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        let code = Code::last();
        trace!("CreateEventW() = {event:?}");
        if event.is_null() {
            return Err(code);
        }
        // SAFETY: the call has just created the handle, and nothing else owns it.
        Ok(Event(Arc::new(unsafe {
            OwnedHandle::from_raw_handle(event)
        })))
    }

    fn as_raw_handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// This corresponds to calling `SetEvent`.
    pub(crate) fn set(&self) {
        let event = self.as_raw_handle();
        // SAFETY: the event is open for as long as `self` is.
        let _ok = unsafe { SetEvent(event) };
        trace!("SetEvent({event:?}) = {_ok}");
    }

    /// This corresponds to calling `ResetEvent`.
    pub(crate) fn reset(&self) {
        let event = self.as_raw_handle();
        // SAFETY: the event is open for as long as `self` is.
        let _ok = unsafe { ResetEvent(event) };
        trace!("ResetEvent({event:?}) = {_ok}");
    }

    /// Waits until the event is set, for at most this many milliseconds; `u32::MAX` means without
    /// limit. This corresponds to calling `WaitForSingleObject`.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<Waited, Code> {
        let event = self.as_raw_handle();
        // SAFETY: the event is open for as long as `self` is.
        let waited = unsafe { WaitForSingleObject(event, milliseconds) };
        let code = Code::last();
        trace!("WaitForSingleObject({event:?}, {milliseconds} ms) = {waited}");
        match waited {
            WAIT_OBJECT_0 => Ok(Waited::Set),
            WAIT_TIMEOUT => Ok(Waited::TimedOut),
            _ => Err(code),
        }
    }
}

/// Events are equal if they are the same event.
impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
