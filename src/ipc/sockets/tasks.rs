//! The tasks that wait for the end of a listener.

use std::sync::Mutex;
use std::task::{Context, Waker};

use tokio::sync::Notify;

use crate::lock::unpoisoned;

/// The tasks that wait for a client, or for the end of the listener.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) accepting: Notify,
    /// Of the last call that polled.
    polling: Mutex<Option<Waker>>,
}

impl Tasks {
    /// Has this task woken at the end, instead of the last one.
    pub(super) fn poll(&self, context: &Context<'_>) {
        let waker = context.waker().clone();
        let last = unpoisoned(self.polling.lock()).replace(waker);
        drop(last);
    }

    /// Wakes all of them: the listener has ended.
    pub(super) fn wake(&self) {
        self.accepting.notify_waiters();
        let polling = unpoisoned(self.polling.lock()).take();
        if let Some(waker) = polling {
            waker.wake();
        }
    }
}
