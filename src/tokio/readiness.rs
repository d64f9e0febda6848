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
use crate::sys::pipe::Pipe;
use crate::sys::port::{Arrival, Request};
use crate::tokio::port::{self, Association, Waiter, Wakers, wake};

/// The readiness of a stream.
pub(crate) struct Readiness<Turn>(Mutex<State<Turn>>);

struct State<Turn> {
    association: Association,
    reading: Reading,
    /// Once a write has been refused. Before, the stream is ready to write.
    writing: Option<Box<Writing<Turn>>>,
}

#[derive(Default)]
struct Reading {
    is_ready: bool,
    /// Whether a read that took all of a message was followed by more data last time.
    comes_in_bursts: bool,
    /// Whether what comes is thrown away, because nobody reads any more.
    discards: bool,
    request: Option<Request>,
    wakers: Wakers,
}

struct Writing<Turn> {
    is_ready: bool,
    /// While the slot is full: what must last until the chunk is with the peer.
    turn: Option<Turn>,
    /// Why a chunk that was reported couldn't be sent. The next call returns it.
    lost: Option<Code>,
    request: Request,
    wakers: Wakers,
}

impl<Turn> Writing<Turn> {
    fn new() -> Box<Writing<Turn>> {
        Box::new(Writing {
            is_ready: true,
            turn: None,
            lost: None,
            request: Request::new(),
            wakers: Wakers::default(),
        })
    }
}

/// What issuing a request returns: whether it can be waited for, and how it went.
pub(crate) type Issued = io::Result<Result<Option<Transferred>, Code>>;

/// What to do about a packet, under no lock.
pub(crate) struct Conclusion<Turn> {
    /// The request, if it's over.
    pub(crate) issued: Option<port::Issued>,
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
            reading: Reading::default(),
            writing: None,
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
                reading.comes_in_bursts = true;
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
        let reading = &mut self.lock().reading;
        reading.is_ready = false;
        reading.comes_in_bursts = false;
    }

    /// Records that a read took all of a message, so that it may have been the last of the data.
    pub(crate) fn read_all(&self) {
        let reading = &mut self.lock().reading;
        reading.is_ready &= reading.comes_in_bursts;
    }

    /// Ends the waits of a stream over `pipe` that is being dropped. If a full slot outlives it, and
    /// `is_last` says that no other stream reads this end, `discard` issues a read that throws away
    /// what comes. Otherwise two ends that were dropped with full slots would wait for each other
    /// for ever.
    pub(crate) fn close(
        &self,
        pipe: &Pipe,
        is_last: bool,
        discard: impl FnOnce(&Association, &mut Request) -> Issued,
    ) {
        let mut state = self.lock();
        let State {
            association,
            reading,
            writing,
        } = &mut *state;
        let request = reading.request.get_or_insert_with(Request::new);
        request.cancel(pipe);
        let is_full = writing.as_ref().is_some_and(|it| it.turn.is_some());
        if is_full && is_last {
            reading.discards = true;
            // If a request is in flight, its packet leads to the next one.
            if request.is_idle() {
                // If that fails, there is nothing more to be done.
                let _ = discard(association, request);
            }
        }
    }

    /// Waits until a write should be tried: until the slot is free.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
        is_ended: impl Fn() -> bool,
    ) -> Poll<()> {
        self.poll_slot(context, waiter, |writing| {
            (writing.is_ready || is_ended()).then_some(())
        })
        .map(Option::unwrap_or_default)
    }

    /// Waits until everything that was reported is with the peer, and returns the error if that
    /// failed.
    pub(crate) fn poll_flush(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
    ) -> Poll<Result<(), Code>> {
        self.poll_slot(context, waiter, |writing| {
            let is_free = writing.request.is_idle();
            is_free.then(|| writing.lost.take().map_or(Ok(()), Err))
        })
        .map(|flushed| flushed.unwrap_or(Ok(())))
    }

    /// Waits until `check` has a result. There is none if no write was ever refused.
    fn poll_slot<T>(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
        check: impl Fn(&mut Writing<Turn>) -> Option<T>,
    ) -> Poll<Option<T>> {
        let waker = match &mut self.lock().writing {
            None => return Poll::Ready(None),
            Some(writing) => match check(writing) {
                Some(done) => return Poll::Ready(Some(done)),
                None => context.waker(),
            },
        };
        let waker = waker.clone();
        let mut state = self.lock();
        let writing = state.writing.get_or_insert_with(Writing::new);
        if let Some(done) = check(writing) {
            drop(state);
            return Poll::Ready(Some(done));
        }
        let old = writing.wakers.add(waiter, waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Whether the slot is free. If not, a write is refused.
    pub(crate) fn may_write(&self) -> Result<bool, Code> {
        let mut state = self.lock();
        let Some(writing) = &mut state.writing else {
            return Ok(true);
        };
        match writing.lost.take() {
            Some(code) => Err(code),
            None => {
                writing.is_ready &= writing.request.is_idle();
                Ok(writing.is_ready)
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
            ..
        } = &mut *state;
        let writing = writing.get_or_insert_with(Writing::new);
        if !writing.request.is_idle() {
            writing.is_ready = false;
            return (Ok(Ok(false)), Some(turn));
        }
        match issue(association, &mut writing.request, &turn) {
            Ok(Ok(None)) => {
                writing.turn = Some(turn);
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
        if let Some(writing) = &mut state.writing {
            wakers.append(&mut writing.wakers.take());
        }
        wakers
    }

    /// Removes a future that waits no more.
    pub(crate) fn remove(&self, waiter: Waiter) {
        let mut state = self.lock();
        let writing = state.writing.as_mut();
        let removed = [
            writing.and_then(|writing| writing.wakers.remove(waiter)),
            state.reading.wakers.remove(waiter),
        ];
        drop(state);
        drop(removed);
    }

    /// Decides about a packet for the request at that address. `found` is what an empty read that
    /// has waited says. `discard` issues a read again that throws away what comes. `resend` issues a
    /// write again that was cancelled from outside: it has delivered nothing, but was reported.
    pub(crate) fn packet(
        &self,
        address: usize,
        found: impl FnOnce(bool) -> Found,
        discard: impl FnOnce(&mut Request, &Turn) -> Result<Option<Transferred>, Code>,
        resend: impl FnOnce(&mut Request, &Turn) -> Result<Option<Transferred>, Code>,
    ) -> Conclusion<Turn> {
        let mut state = self.lock();
        let State {
            reading, writing, ..
        } = &mut *state;
        let of_reading = reading.request.as_ref().map(Request::address) == Some(address);
        match writing {
            _ if of_reading => {
                let turn = writing.as_ref().and_then(|writing| writing.turn.as_ref());
                reading.packet(address, found, |request| {
                    turn.map(|turn| discard(request, turn))
                })
            }
            Some(writing) if writing.request.address() == address => {
                writing.packet(address, resend)
            }
            _ => Conclusion::foreign(),
        }
    }
}

impl<Turn> Conclusion<Turn> {
    /// Nothing: the packet is somebody else's, or the request goes on.
    fn foreign() -> Conclusion<Turn> {
        Conclusion {
            issued: None,
            is_end: false,
            turn: None,
            wakers: Vec::new(),
        }
    }
}

impl Reading {
    fn packet<Turn>(
        &mut self,
        address: usize,
        found: impl FnOnce(bool) -> Found,
        discard: impl FnOnce(&mut Request) -> Option<Result<Option<Transferred>, Code>>,
    ) -> Conclusion<Turn> {
        let arrival = self.request.as_mut().map(Request::arrived);
        let is_end = match arrival {
            None | Some(Arrival::Foreign) => return Conclusion::foreign(),
            Some(Arrival::Free | Arrival::Over(Err(Code::OPERATION_ABORTED))) => false,
            Some(Arrival::Over(result)) => {
                // A read reports other errors.
                self.is_ready = true;
                match result {
                    Ok(read) => !self.discards && found(read.more) == Found::End,
                    Err(code) => code.is_end(),
                }
            }
        };
        if self.discards && !is_end {
            let discarding = self.request.as_mut().and_then(discard);
            if let Some(Ok(_)) = discarding {
                return Conclusion::foreign();
            }
        }
        Conclusion {
            issued: port::take_off(address),
            is_end,
            turn: None,
            wakers: self.wakers.take(),
        }
    }
}

impl<Turn> Writing<Turn> {
    fn packet(
        &mut self,
        address: usize,
        resend: impl FnOnce(&mut Request, &Turn) -> Result<Option<Transferred>, Code>,
    ) -> Conclusion<Turn> {
        let result = match (self.request.arrived(), &self.turn) {
            (Arrival::Foreign, _) => return Conclusion::foreign(),
            (Arrival::Over(Err(Code::OPERATION_ABORTED)), Some(turn)) => {
                match resend(&mut self.request, turn) {
                    Ok(_) => return Conclusion::foreign(),
                    Err(code) => Err(code),
                }
            }
            (Arrival::Over(result), _) => result.map(drop),
            (Arrival::Free, _) => Ok(()),
        };
        if let Err(code) = result {
            self.lost = Some(code);
        }
        self.request.forget_bytes();
        self.is_ready = true;
        Conclusion {
            issued: port::take_off(address),
            is_end: false,
            turn: self.turn.take(),
            wakers: self.wakers.take(),
        }
    }
}
