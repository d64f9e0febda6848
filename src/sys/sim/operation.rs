//! One overlapped operation, from issue to result.
//!
//! In safe Rust the kernel can't borrow the caller's buffer, so a read carries its data until it's
//! over.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::unpoisoned;
pub(crate) use crate::sys::data::{Transferred, Waited};
use crate::sys::error::Code;
use crate::sys::record::trace;

/// Handles an operation that has been issued, by waiting if it's pending. When this returns, an
/// operation that is still pending is cancelled.
pub(crate) type Attend<'a> = &'a mut dyn FnMut(&Operation<'_>);

/// One overlapped operation.
pub(crate) struct Operation<'a> {
    request: Arc<Request>,
    is_pending: Cell<bool>,
    cancel: &'a dyn Fn(&Arc<Request>),
}

/// What the kernel keeps for an operation: on Windows, the `OVERLAPPED`.
pub(super) struct Request {
    event: Event,
    status: Mutex<Option<Result<Done, Code>>>,
}

/// How an operation ended.
#[derive(Default)]
pub(super) struct Done {
    /// The bytes read.
    pub(super) data: Vec<u8>,
    /// The number of bytes read or written.
    pub(super) count: usize,
    /// Whether the message is longer than what was read.
    pub(super) more: bool,
}

/// The result of issuing an operation: how it ended, or `None` if it's pending.
pub(super) type Issued = Option<Result<Done, Code>>;

/// Issues an operation, and returns when it's over.
pub(super) fn run(
    attend: Attend<'_>,
    issue: impl FnOnce(&Arc<Request>) -> Issued,
    cancel: &dyn Fn(&Arc<Request>),
) -> Result<Done, Code> {
    let event = Event::of_this_thread()?;
    // [6.2] The event is reset when the operation is issued.
    event.store(false);
    let operation = Operation {
        request: Arc::new(Request {
            event,
            status: Mutex::new(None),
        }),
        is_pending: Cell::new(false),
        cancel,
    };
    match issue(&operation.request) {
        // [6.3] Immediate success sets the event.
        Some(Ok(done)) => operation.request.complete(Ok(done)),
        // [6.4] Immediate failure doesn't, and leaves the status pending: there is no result to
        // wait for.
        Some(Err(code)) => {
            attend(&operation);
            return Err(code);
        }
        None => operation.is_pending.set(true),
    }
    attend(&operation);
    operation.conclude();
    let done = operation.request.status().take();
    done.unwrap_or(Err(Code::IO_PENDING))
}

impl Operation<'_> {
    pub(crate) fn is_pending(&self) -> bool {
        self.is_pending.get()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.request.status().is_some()
    }

    pub(crate) fn event(&self) -> &Event {
        &self.request.event
    }

    /// Cancels the operation if it isn't complete.
    fn conclude(&self) {
        if self.is_pending.replace(false) && !self.is_complete() {
            // [7.2] A request that has completed in the meantime isn't found, and isn't cancelled.
            // Either way it's complete afterwards, because requests are completed under the lock
            // that cancelling takes.
            (self.cancel)(&self.request);
            trace!("CancelIoEx() = 1");
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.conclude();
        self.request.event.give_back();
    }
}

impl Request {
    /// Ends the operation: first its result, then its event.
    pub(super) fn complete(&self, result: Result<Done, Code>) {
        *self.status() = Some(result);
        self.event.store(true);
    }

    fn status(&self) -> MutexGuard<'_, Option<Result<Done, Code>>> {
        unpoisoned(self.status.lock())
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, more: {}", self.count, self.more)
    }
}

thread_local! {
    /// The event of this thread, while no call of this thread uses it.
    static IDLE_EVENT: Cell<Option<Event>> = const { Cell::new(None) };
}

/// An event that stays set until it's reset. Its clones are the same event.
#[derive(Clone, Debug)]
pub(crate) struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    fn of_this_thread() -> Result<Event, Code> {
        match IDLE_EVENT.try_with(Cell::take) {
            Ok(Some(event)) => Ok(event),
            _ => Event::new(),
        }
    }

    fn give_back(&self) {
        let _ = IDLE_EVENT.try_with(|idle| idle.set(Some(self.clone())));
    }

    fn new() -> Result<Event, Code> {
        #[cfg(test)]
        crate::sys::fault::strike("CreateEventW")?;
        trace!("CreateEventW() = 1");
        Ok(Event(Arc::default()))
    }

    fn store(&self, is_set: bool) {
        let (state, changed) = &*self.0;
        *unpoisoned(state.lock()) = is_set;
        changed.notify_all();
    }

    pub(crate) fn set(&self) {
        self.store(true);
        trace!("SetEvent() = 1");
    }

    pub(crate) fn reset(&self) {
        self.store(false);
        trace!("ResetEvent() = 1");
    }

    /// Waits until it's set, for at most this many milliseconds. `u32::MAX` means no limit.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<Waited, Code> {
        let (state, changed) = &*self.0;
        let is_set = unpoisoned(state.lock());
        let is_reset = |is_set: &mut bool| !*is_set;
        let is_set = match milliseconds {
            u32::MAX => *unpoisoned(changed.wait_while(is_set, is_reset)),
            milliseconds => {
                let limit = Duration::from_millis(milliseconds.into());
                *unpoisoned(changed.wait_timeout_while(is_set, limit, is_reset)).0
            }
        };
        trace!("WaitForSingleObject({milliseconds} ms) = {is_set}");
        match is_set {
            true => Ok(Waited::Set),
            false => Ok(Waited::TimedOut),
        }
    }
}

/// Compares identity: two values are equal if they are the same event.
impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
