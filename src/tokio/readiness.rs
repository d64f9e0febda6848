//! What a stream is ready for, and what it has in flight: an empty read, and one chunk of a write
//! that has been reported.
//!
//! Readiness is cached, as tokio's is: a direction is ready until a try has had to be refused. For
//! reading, an empty read then waits for data without taking any. It's issued for a task that
//! waits, and tells the truth whenever it's issued, so no data is missed. For writing, a stream is
//! ready while its slot is free.

use std::io;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::lock::unpoisoned;
use crate::protocol::facts::Found;
use crate::sys::error::Code;
use crate::sys::operation::Transferred;
use crate::sys::port::{Arrival, Request};
use crate::tokio::port::{Association, Waiter, Wakers, wake};

/// The readiness of a stream. While its slot is full, it holds a `Turn`: what must last until the
/// chunk is with the peer.
pub(crate) struct Readiness<Turn>(Mutex<State<Turn>>);

struct State<Turn> {
    association: Association,
    reading: Direction,
    writing: Direction,
    /// Whether a read that didn't fill its buffer was followed by more data last time.
    comes_in_bursts: bool,
    slot: Option<Turn>,
    /// Why a chunk that was reported couldn't be sent. The next call returns it.
    lost: Option<Code>,
}

struct Direction {
    is_ready: bool,
    request: Option<Request>,
    wakers: Wakers,
}

impl Direction {
    fn new(is_ready: bool) -> Direction {
        Direction {
            is_ready,
            request: None,
            wakers: Wakers::default(),
        }
    }

    fn is_idle(&self) -> bool {
        self.request.as_ref().is_none_or(Request::is_idle)
    }

    fn arrived(&mut self, address: usize) -> Option<Arrival> {
        let request = self.request.as_mut()?;
        (request.address() == address).then(|| request.arrived())
    }
}

/// What issuing a request returns: whether it can be waited for, and how it went.
pub(crate) type Issued = io::Result<Result<Option<Transferred>, Code>>;

/// What to do about a packet, under no lock.
pub(crate) struct Conclusion<Turn> {
    /// Whether a request is over.
    pub(crate) is_over: bool,
    /// Whether the end of the data was found.
    pub(crate) is_end: bool,
    /// A turn that is over.
    pub(crate) turn: Option<Turn>,
    /// The tasks to wake.
    pub(crate) wakers: Vec<Waker>,
}

impl<Turn> Readiness<Turn> {
    pub(crate) fn new(association: Association) -> Readiness<Turn> {
        Readiness(Mutex::new(State {
            association,
            reading: Direction::new(false),
            writing: Direction::new(true),
            comes_in_bursts: false,
            slot: None,
            lost: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State<Turn>> {
        unpoisoned(self.0.lock())
    }

    /// Waits until a read should be tried. `is_ended` says whether it's known that reads don't wait
    /// any more. `arm` issues an empty read, and says what one that was complete at once has found.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
        is_ended: impl Fn() -> bool,
        arm: impl FnOnce(&Association, &mut Request) -> io::Result<Option<Found>>,
    ) -> Poll<io::Result<Found>> {
        let is_ready = |state: &State<Turn>| state.reading.is_ready || is_ended();
        if is_ready(&self.lock()) {
            return Poll::Ready(Ok(Found::Perhaps));
        }
        let waker = context.waker().clone();
        let mut state = self.lock();
        if is_ready(&state) {
            drop(state);
            return Poll::Ready(Ok(Found::Perhaps));
        }
        let State {
            association,
            reading,
            comes_in_bursts,
            ..
        } = &mut *state;
        let old = reading.wakers.add(waiter, waker);
        let request = reading.request.get_or_insert_with(Request::new);
        let armed = match request.is_idle() {
            true => arm(association, request),
            // It's pending, or its packet is on its way.
            false => Ok(None),
        };
        let mut wakers = Vec::new();
        let poll = match armed {
            Ok(None) => Poll::Pending,
            Ok(Some(found)) => {
                reading.is_ready = true;
                *comes_in_bursts = true;
                wakers = reading.wakers.take();
                Poll::Ready(Ok(found))
            }
            Err(error) => Poll::Ready(Err(error)),
        };
        drop(state);
        drop(old);
        wake(wakers);
        poll
    }

    /// Records that there was nothing to read.
    pub(crate) fn nothing_to_read(&self) {
        let mut state = self.lock();
        state.reading.is_ready = false;
        state.comes_in_bursts = false;
    }

    /// Records that a read didn't fill its buffer, so that it may have been the last of the data.
    pub(crate) fn short_read(&self) {
        let mut state = self.lock();
        state.reading.is_ready &= state.comes_in_bursts;
    }

    /// Cancels the empty read, if `handle` is what it was issued on.
    pub(crate) fn cancel_read(&self, handle: &impl std::os::windows::io::AsHandle) {
        if let Some(request) = &mut self.lock().reading.request {
            request.cancel(handle);
        }
    }

    /// Waits until a write should be tried: until the slot is free.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
        is_ended: impl Fn() -> bool,
    ) -> Poll<()> {
        self.poll_slot(context, waiter, |state| {
            (state.writing.is_ready || is_ended()).then_some(())
        })
    }

    /// Waits until everything that was reported is with the peer, and returns the error if that
    /// failed.
    pub(crate) fn poll_flush(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
    ) -> Poll<Result<(), Code>> {
        self.poll_slot(context, waiter, |state| {
            let is_free = state.writing.is_idle();
            is_free.then(|| state.lost.take().map_or(Ok(()), Err))
        })
    }

    fn poll_slot<T>(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
        check: impl Fn(&mut State<Turn>) -> Option<T>,
    ) -> Poll<T> {
        if let Some(done) = check(&mut self.lock()) {
            return Poll::Ready(done);
        }
        let waker = context.waker().clone();
        let mut state = self.lock();
        if let Some(done) = check(&mut state) {
            drop(state);
            return Poll::Ready(done);
        }
        let old = state.writing.wakers.add(waiter, waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Whether the slot is free. If not, a write is refused.
    pub(crate) fn may_write(&self) -> Result<bool, Code> {
        let mut state = self.lock();
        match state.lost.take() {
            Some(code) => Err(code),
            None => {
                state.writing.is_ready &= state.writing.is_idle();
                Ok(state.writing.is_ready)
            }
        }
    }

    /// Puts a chunk that the pipe has no room for into the slot, by calling `issue`, unless the slot
    /// is full. Returns whether it did, and the turn, unless the slot needs it.
    pub(crate) fn fill(
        &self,
        turn: Turn,
        issue: impl FnOnce(&Association, &mut Request, &Turn) -> Issued,
    ) -> (io::Result<Result<bool, Code>>, Option<Turn>) {
        let mut state = self.lock();
        let State {
            association,
            writing,
            slot,
            ..
        } = &mut *state;
        if !writing.is_idle() {
            writing.is_ready = false;
            return (Ok(Ok(false)), Some(turn));
        }
        let request = writing.request.get_or_insert_with(Request::new);
        match issue(association, request, &turn) {
            Ok(Ok(None)) => {
                *slot = Some(turn);
                (Ok(Ok(true)), None)
            }
            Ok(Ok(Some(_))) => (Ok(Ok(true)), Some(turn)),
            Ok(Err(code)) => (Ok(Err(code)), Some(turn)),
            Err(error) => (Err(error), Some(turn)),
        }
    }

    /// Takes all tasks that wait, so that they check again.
    pub(crate) fn take_wakers(&self) -> Vec<Waker> {
        let mut state = self.lock();
        let mut wakers = state.reading.wakers.take();
        wakers.append(&mut state.writing.wakers.take());
        wakers
    }

    /// Removes a future that waits no more.
    pub(crate) fn remove(&self, waiter: Waiter) {
        let mut state = self.lock();
        let removed = [
            state.reading.wakers.remove(waiter),
            state.writing.wakers.remove(waiter),
        ];
        drop(state);
        drop(removed);
    }

    /// Decides about a packet for the request at that address. `found` is what an empty read that
    /// has waited says. `again` issues a write anew that was cancelled from outside: it has
    /// delivered nothing, but has been reported.
    pub(crate) fn packet(
        &self,
        address: usize,
        found: impl FnOnce(bool) -> Found,
        again: impl FnOnce(&mut Request, &Turn) -> Result<Option<Transferred>, Code>,
    ) -> Conclusion<Turn> {
        let mut state = self.lock();
        let mut conclusion = Conclusion {
            is_over: true,
            is_end: false,
            turn: None,
            wakers: Vec::new(),
        };
        let State {
            reading,
            writing,
            slot,
            lost,
            ..
        } = &mut *state;
        if let Some(arrival) = reading.arrived(address) {
            match arrival {
                Arrival::Foreign => conclusion.is_over = false,
                Arrival::Free | Arrival::Over(Err(Code::OPERATION_ABORTED)) => {}
                Arrival::Over(Ok(read)) => {
                    conclusion.is_end = found(read.more) == Found::End;
                    reading.is_ready = true;
                }
                Arrival::Over(Err(code)) => {
                    conclusion.is_end = code.is_end();
                    // A read reports other errors.
                    reading.is_ready = true;
                }
            }
            if conclusion.is_over {
                conclusion.wakers = reading.wakers.take();
            }
        } else if let Some(arrival) = writing.arrived(address) {
            let result = match (arrival, &slot, &mut writing.request) {
                (Arrival::Foreign, ..) => None,
                (Arrival::Over(Err(Code::OPERATION_ABORTED)), Some(turn), Some(request)) => {
                    match again(request, turn) {
                        Ok(_) => None,
                        Err(code) => Some(Err(code)),
                    }
                }
                (Arrival::Over(result), ..) => Some(result.map(drop)),
                (Arrival::Free, ..) => Some(Ok(())),
            };
            match result {
                None => conclusion.is_over = false,
                Some(result) => {
                    if let Err(code) = result {
                        *lost = Some(code);
                    }
                    conclusion.turn = slot.take();
                    writing.is_ready = true;
                    conclusion.wakers = writing.wakers.take();
                    if let Some(request) = &mut writing.request {
                        request.forget_bytes();
                    }
                }
            }
        } else {
            conclusion.is_over = false;
        }
        conclusion
    }
}
