//! The tasks that wait for a client of a listener, and the one request that they wait for.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::lock::unpoisoned;
use crate::sys::error::{Code, Doing};
use crate::sys::pipe::Pipe;
use crate::sys::port::{Arrival, Request};
use crate::tokio::port::{self, Association, Owner, Waiter, Wakers, wake};

/// The tasks that wait for a client.
#[derive(Default)]
pub(crate) struct Accepting(Mutex<State>);

#[derive(Default)]
struct State {
    request: Option<Request>,
    wakers: Wakers,
}

/// What a task that found no client does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Wait until it's woken.
    Wait,
    /// Look again.
    Look,
}

impl Accepting {
    /// Adds a task, and waits for a client of the instance that the next client gets, if no request
    /// does so yet. The request takes no client, so nothing is lost when nobody waits any more.
    pub(crate) fn wait(
        self: &Arc<Accepting>,
        waiter: Waiter,
        waker: Waker,
        instance: &Pipe,
        association: &Association,
    ) -> io::Result<Next> {
        let mut state = unpoisoned(self.0.lock());
        let State { request, wakers } = &mut *state;
        let old = wakers.add(waiter, waker);
        let request = request.get_or_insert_with(Request::new);
        let mut next = Ok(Next::Wait);
        if request.is_idle() {
            let owner = Arc::clone(self) as Arc<dyn Owner>;
            let connect = |request: &mut Request| request.connect(instance);
            next = match port::issue(association, instance, owner, request, connect) {
                Ok(Ok(None)) => Ok(Next::Wait),
                // There is a client, or there was one.
                Ok(Ok(Some(_)) | Err(Code::PIPE_CONNECTED | Code::NO_DATA)) => Ok(Next::Look),
                Ok(Err(code)) => Err(code.explain(Doing::Using)),
                Err(error) => Err(error),
            };
        }
        drop(state);
        drop(old);
        next
    }

    /// Makes all tasks look again.
    pub(crate) fn wake(&self) {
        let wakers = unpoisoned(self.0.lock()).wakers.take();
        wake(wakers);
    }

    /// Removes a future that waits no more.
    pub(crate) fn remove(&self, waiter: Waiter) {
        let removed = unpoisoned(self.0.lock()).wakers.remove(waiter);
        drop(removed);
    }

    /// Cancels the request, if it was issued on this instance.
    pub(crate) fn cancel(&self, instance: &Pipe) {
        if let Some(request) = &mut unpoisoned(self.0.lock()).request {
            request.cancel(instance);
        }
    }
}

impl Owner for Accepting {
    fn packet(self: Arc<Accepting>, address: usize) {
        let mut state = unpoisoned(self.0.lock());
        let request = state.request.as_mut();
        let request = request.filter(|request| request.address() == address);
        let arrival = request.map_or(Arrival::Foreign, Request::arrived);
        if arrival == Arrival::Foreign {
            return;
        }
        let issued = port::take_off(address);
        drop(state);
        drop(issued);
        // However the request ended, the tasks find out why.
        self.wake();
    }
}
