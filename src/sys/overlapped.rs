//! Overlapped I/O: issue, wait, cancel, collect. Every call that may block goes through [`run`].
//!
//! **No operation outlives its call.** An [`Operation`] is one `OVERLAPPED` on the stack. It's left
//! only when the kernel is done with it and with the caller's buffer: by completion, or by a cancel
//! whose completion was waited for.
//!
//! **A waiting call can be woken, and no wake-up is lost.** The call waits for its operation's event
//! alone. Whoever changes a setting stores it first and then sets the events of all calls that wait
//! under that [`Control`]. The call issues its operation, enters its event with the control, *then*
//! reads the settings, then waits: a change either comes before the reading or finds the event. A
//! call woken with its operation still pending resets the event and looks again at both, in that
//! order, so a completion or a change in between sets the event anew.

use std::cell::{Cell, UnsafeCell};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    HANDLE, STATUS_BUFFER_OVERFLOW, STATUS_PENDING, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForSingleObject,
};
use windows_sys::core::BOOL;

use super::error::Code;
use super::trace;

/// Why an operation was left without its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It would have had to wait, and the control is nonblocking.
    WouldBlock,
    /// It waited as long as the control allows.
    TimedOut,
    /// The control has been ended.
    Ended,
    /// The control asks its calls to look at their surroundings anew.
    Recalled,
    /// The system refused it.
    Failed(Code),
}

/// What the calls in one direction obey, and how they are woken when it changes.
pub(crate) struct Control {
    /// Beside the lock, so that a call that needn't wait needn't take it.
    ended: AtomicBool,
    state: Mutex<State>,
}

struct State {
    timeout: Option<Duration>,
    nonblocking: bool,
    recalls: u64,
    /// The events of the calls that wait, as numbers. They're valid for as long as they're in here:
    /// a call takes its event out before it lets go of it.
    waiting: Vec<usize>,
}

impl Control {
    /// Makes a control under which calls wait for ever.
    pub(crate) fn new() -> Control {
        Control {
            ended: AtomicBool::new(false),
            state: Mutex::new(State {
                timeout: None,
                nonblocking: false,
                recalls: 0,
                // For the one call that usually waits: no call allocates for itself.
                waiting: Vec::with_capacity(1),
            }),
        }
    }

    /// Whether [`end`](Self::end) was called.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends every call that waits, now and later.
    pub(crate) fn end(&self) {
        self.change(|_| self.ended.store(true, Ordering::Release));
    }

    /// Makes every call that waits now return [`Stop::Recalled`].
    pub(crate) fn recall(&self) {
        self.change(|state| state.recalls += 1);
    }

    /// Limits how long a call waits. A call that waits already is limited from now.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) {
        self.change(|state| state.timeout = timeout);
    }

    /// Returns the limit.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.lock().timeout
    }

    /// Makes calls return [`Stop::WouldBlock`] instead of waiting, under all these controls at once:
    /// nobody sees them differ. They are given in the same order each time.
    pub(crate) fn set_nonblocking<const N: usize>(controls: [&Control; N], nonblocking: bool) {
        let mut states = controls.map(Control::lock);
        for state in &mut states {
            state.nonblocking = nonblocking;
        }
        states.iter().for_each(|state| state.wake());
    }

    /// Stores a change, then wakes every call that waits.
    fn change(&self, store: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        store(&mut state);
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done halfway under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes every call that waits. Called under the lock, after the change.
    fn wake(&self) {
        for &event in &self.waiting {
            // SAFETY: an event in the list is open: whoever entered it takes it out, under the lock
            // that is held here, before the event can be closed.
            let _ok = unsafe { SetEvent(event as HANDLE) };
            trace!("SetEvent({event:#x}) = {_ok}");
        }
    }
}

/// One call, which may take several operations: its limit holds for all of them together.
pub(crate) struct Call<'a> {
    control: &'a Control,
    /// The timeout that `deadline` was computed from, once there is need for one.
    timeout: Option<Option<Duration>>,
    deadline: Option<Instant>,
    recalls: Option<u64>,
}

impl<'a> Call<'a> {
    /// Begins a call under `control`.
    pub(crate) fn new(control: &'a Control) -> Call<'a> {
        Call {
            control,
            timeout: None,
            deadline: None,
            recalls: None,
        }
    }

    /// Makes the call heed recalls from now on, and not only from when it begins to wait.
    pub(crate) fn heed_recalls(&mut self) {
        self.recalls = Some(self.control.lock().recalls);
    }

    /// Whether the call's time is up. The first look begins it.
    pub(crate) fn is_late(&mut self) -> bool {
        matches!(self.limit(), Err(Stop::TimedOut))
    }

    /// How many milliseconds the call may wait now, by the settings as they are now.
    fn limit(&mut self) -> Result<u32, Stop> {
        if self.control.is_ended() {
            return Err(Stop::Ended);
        }
        let state = self.control.lock();
        if state.nonblocking {
            return Err(Stop::WouldBlock);
        }
        if state.recalls != *self.recalls.get_or_insert(state.recalls) {
            return Err(Stop::Recalled);
        }
        if self.timeout != Some(state.timeout) {
            self.timeout = Some(state.timeout);
            // A deadline beyond what a clock can hold is none.
            self.deadline = state
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout));
        }
        drop(state);

        match self.deadline {
            None => Ok(INFINITE),
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(Stop::TimedOut),
                left => Ok(milliseconds(left)),
            },
        }
    }

    /// Waits until the operation is complete (`Ok`) or the settings say to stop.
    fn wait(&mut self, operation: &Operation<'_>) -> Result<(), Stop> {
        let event = operation.event.as_raw_handle();
        let _entered = Entered::new(self.control, event as usize);
        loop {
            if operation.is_complete() {
                return Ok(());
            }
            let limit = self.limit()?;
            // SAFETY: the event is open for as long as `operation` is borrowed.
            let waited = unsafe { WaitForSingleObject(event, limit) };
            let code = Code::last();
            trace!("WaitForSingleObject({event:?}, {limit} ms) = {waited}");
            match waited {
                // Woken, but not by the kernel.
                WAIT_OBJECT_0 if !operation.is_complete() => {
                    // SAFETY: as above.
                    let _ok = unsafe { ResetEvent(event) };
                    trace!("ResetEvent({event:?}) = {_ok}");
                }
                WAIT_OBJECT_0 | WAIT_TIMEOUT => {}
                _ => return Err(Stop::Failed(code)),
            }
        }
    }
}

/// Rounds up to what the wait functions take. What is too long for them is waited for in parts.
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    u32::try_from(milliseconds)
        .unwrap_or(INFINITE)
        .min(INFINITE - 1)
}

/// An event that is in a control's list.
struct Entered<'a> {
    control: &'a Control,
    event: usize,
}

impl<'a> Entered<'a> {
    fn new(control: &'a Control, event: usize) -> Entered<'a> {
        control.lock().waiting.push(event);
        Entered { control, event }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.control.lock();
        if let Some(at) = state.waiting.iter().position(|&event| event == self.event) {
            state.waiting.swap_remove(at);
        }
    }
}

/// What an operation did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transferred {
    /// The bytes read or written.
    pub(crate) count: usize,
    /// Whether the buffer was too short for the message: the rest of it stays for the next read.
    pub(crate) more: bool,
}

/// How far an operation has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Issued {
    /// It failed, and the kernel has nothing to do with it any more, or never had.
    Refused(Code),
    /// The kernel may write to its memory.
    Pending,
    /// It's complete, and its status block is filled. `more` is left of the message.
    Complete { more: bool },
}

/// One overlapped operation on `handle`.
pub(crate) struct Operation<'a> {
    handle: BorrowedHandle<'a>,
    event: Event,
    overlapped: UnsafeCell<OVERLAPPED>,
    issued: Cell<Issued>,
}

/// Issues an operation on `handle` and sees it to its end.
///
/// `issue` calls the system with the `OVERLAPPED` of the operation it's given, and at once hands what
/// the call returned to [`Operation::issued`]. The memory it passes to that call must outlive `run`.
///
/// A call that is told to stop cancels the operation, and still returns what it did if it turns out
/// to have completed.
pub(crate) fn run(
    handle: BorrowedHandle<'_>,
    call: &mut Call<'_>,
    issue: impl FnOnce(&Operation<'_>),
) -> Result<Transferred, Stop> {
    let operation = Operation::new(handle).map_err(Stop::Failed)?;
    issue(&operation);
    let mut stop = None;
    if operation.issued.get() == Issued::Pending {
        stop = call.wait(&operation).err();
        operation.conclude();
    }
    match (operation.result(), stop) {
        (Err(Code::OPERATION_ABORTED), Some(stop)) => Err(stop),
        (result, _) => result.map_err(Stop::Failed),
    }
}

impl<'a> Operation<'a> {
    fn new(handle: BorrowedHandle<'a>) -> Result<Operation<'a>, Code> {
        let event = Event::of_this_thread()?;
        let overlapped = OVERLAPPED {
            // The lowest bit keeps the completion from a completion port that the handle may belong
            // to: its owner would take our OVERLAPPED for one of his.
            hEvent: event.as_raw_handle().map_addr(|event| event | 1),
            ..OVERLAPPED::default()
        };
        Ok(Operation {
            handle,
            event,
            overlapped: UnsafeCell::new(overlapped),
            issued: Cell::new(Issued::Refused(Code::OPERATION_ABORTED)),
        })
    }

    /// What to pass to the call.
    pub(crate) fn overlapped(&self) -> *mut OVERLAPPED {
        self.overlapped.get()
    }

    /// Takes what the call returned, with the error of this thread where that is false.
    pub(crate) fn issued(&self, ok: BOOL) -> Issued {
        let issued = match ok {
            0 => match Code::last() {
                Code::IO_PENDING => Issued::Pending,
                Code::MORE_DATA => Issued::Complete { more: true },
                // The event stays reset and the status pending: there's nothing to wait for.
                code => Issued::Refused(code),
            },
            _ => Issued::Complete { more: false },
        };
        self.issued.set(issued);
        issued
    }

    /// Whether the kernel is done with the operation, which was issued.
    fn is_complete(&self) -> bool {
        // SAFETY: the OVERLAPPED lives as long as `self`. The kernel writes the status last, as a
        // whole, and from any thread, which is what an atomic load with acquire is for.
        let status = unsafe { AtomicUsize::from_ptr(&raw mut (*self.overlapped.get()).Internal) };
        status.load(Ordering::Acquire) as i32 != STATUS_PENDING
    }

    /// Cancels the operation if it's still pending, and waits until it isn't.
    fn conclude(&self) {
        let event = self.event.as_raw_handle();
        if !self.is_complete() {
            let handle = self.handle.as_raw_handle();
            // SAFETY: the handle is borrowed, and the OVERLAPPED is the one that was issued on it.
            // An error says that there's nothing left to cancel: then the completion is on its way.
            let _ok = unsafe { CancelIoEx(handle, self.overlapped.get()) };
            trace!("CancelIoEx({handle:?}) = {_ok}");
        }
        while !self.is_complete() {
            // SAFETY: the event is this operation's own and open. The kernel sets it last of all, so
            // what sets it while the operation is pending is a wake-up from elsewhere.
            unsafe {
                ResetEvent(event);
                if !self.is_complete() {
                    let _waited = WaitForSingleObject(event, INFINITE);
                    trace!("WaitForSingleObject({event:?}) = {_waited}");
                }
            }
        }
        // SAFETY: the kernel is done with the OVERLAPPED, which lives as long as `self`.
        let status = unsafe { (*self.overlapped.get()).Internal } as i32;
        self.issued.set(match status {
            STATUS_BUFFER_OVERFLOW => Issued::Complete { more: true },
            0.. => Issued::Complete { more: false },
            _ => Issued::Refused(Code::of_status(status)),
        });
    }

    /// The outcome of an operation that isn't pending.
    fn result(&self) -> Result<Transferred, Code> {
        match self.issued.get() {
            Issued::Refused(code) => Err(code),
            Issued::Pending => Err(Code::IO_PENDING),
            Issued::Complete { more } => {
                // SAFETY: the kernel is done with the OVERLAPPED, which lives as long as `self`.
                let count = unsafe { (*self.overlapped.get()).InternalHigh };
                Ok(Transferred { count, more })
            }
        }
    }
}

/// The way out when a call unwinds: the kernel still has our stack.
impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if self.issued.get() == Issued::Pending {
            self.conclude();
        }
    }
}

thread_local! {
    /// The event of this thread, while no call of this thread uses it.
    static IDLE_EVENT: Cell<Option<OwnedHandle>> = const { Cell::new(None) };
}

/// This thread's event, taken from it for one operation.
///
/// The kernel resets it when the operation is issued, so two operations must never share it.
struct Event(Option<OwnedHandle>);

impl Event {
    fn of_this_thread() -> Result<Event, Code> {
        // A thread that is ending has no event any more.
        match IDLE_EVENT.try_with(Cell::take) {
            Ok(Some(event)) => Ok(Event(Some(event))),
            _ => create_event().map(|event| Event(Some(event))),
        }
    }

    fn as_raw_handle(&self) -> HANDLE {
        self.0
            .as_ref()
            .map_or(ptr::null_mut(), AsRawHandle::as_raw_handle)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let event = self.0.take();
        let _ = IDLE_EVENT.try_with(|idle| idle.set(event));
    }
}

/// Makes an event that stays set until it's reset. This corresponds to calling `CreateEventW`.
fn create_event() -> Result<OwnedHandle, Code> {
    // SAFETY: no attributes (so it isn't inherited), manual reset, not set, no name.
    let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
    let code = Code::last();
    trace!("CreateEventW() = {event:?}");
    if event.is_null() {
        return Err(code);
    }
    // SAFETY: the call has just made the handle, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(event) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_a_nonblocking_flag_that_holds_for_one_direction_only() {
        let (reading, writing) = (Control::new(), Control::new());
        std::thread::scope(|scope| {
            let held = writing.lock();
            let setter = scope.spawn(|| Control::set_nonblocking([&reading, &writing], true));
            // While the one can't be set, the other isn't, or can't be looked at.
            loop {
                match reading.state.try_lock() {
                    Ok(state) => assert!(!state.nonblocking),
                    Err(_) => break,
                }
                std::thread::yield_now();
            }
            drop(held);
            setter.join().unwrap();
        });
        assert!(reading.lock().nonblocking && writing.lock().nonblocking);
    }
}
