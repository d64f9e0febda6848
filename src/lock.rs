//! Locks: those that a panic has poisoned, and one that isn't waited for too long.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, LockResult, Mutex, MutexGuard};
use std::time::Instant;

/// Takes what is under a lock even if a panic has poisoned it: nothing in this crate is left half
/// done by a panic.
pub(crate) fn unpoisoned<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A lock that a thread can hold for long, as others can wait for it until a given time.
pub(crate) struct TimedLock<T> {
    is_taken: Mutex<bool>,
    freed: Condvar,
    /// Locked only by the thread whose turn it is.
    value: Mutex<T>,
}

/// What is under a [`TimedLock`], which is freed when this is dropped.
pub(crate) struct TimedGuard<'a, T> {
    // Dropped first.
    value: MutexGuard<'a, T>,
    _turn: Turn<'a, T>,
}

/// The turn of one thread.
struct Turn<'a, T>(&'a TimedLock<T>);

impl<T> TimedLock<T> {
    pub(crate) fn new(value: T) -> TimedLock<T> {
        TimedLock {
            is_taken: Mutex::new(false),
            freed: Condvar::new(),
            value: Mutex::new(value),
        }
    }

    /// Takes the lock. Waits while another thread has it.
    pub(crate) fn lock(&self) -> TimedGuard<'_, T> {
        let mut is_taken = unpoisoned(self.is_taken.lock());
        while *is_taken {
            is_taken = unpoisoned(self.freed.wait(is_taken));
        }
        self.take(is_taken)
    }

    /// Takes the lock, or gives up at this time.
    pub(crate) fn lock_until(&self, deadline: Instant) -> Option<TimedGuard<'_, T>> {
        let mut is_taken = unpoisoned(self.is_taken.lock());
        while *is_taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            is_taken = unpoisoned(self.freed.wait_timeout(is_taken, left)).0;
        }
        Some(self.take(is_taken))
    }

    fn take(&self, mut is_taken: MutexGuard<'_, bool>) -> TimedGuard<'_, T> {
        *is_taken = true;
        drop(is_taken);
        TimedGuard {
            value: unpoisoned(self.value.lock()),
            _turn: Turn(self),
        }
    }
}

impl<T> Deref for TimedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for TimedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        *unpoisoned(self.0.is_taken.lock()) = false;
        self.0.freed.notify_one();
    }
}
