//! The end of the writing half: which calls may still write, and the mark after the last byte.
//!
//! An empty message marks the end. No byte may come after it, so the calls that write are counted.
//! Shutting down closes the count. The last call then sends the mark: the call that shuts down if
//! no other call is writing, or the last call that writes. The mark is sent once. If that fails,
//! the next call that shuts down tries again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::lock::unpoisoned;

/// The writing half of a stream.
#[derive(Debug)]
pub(crate) struct WritingHalf {
    /// The number of calls that are writing, and the flag `CLOSED`.
    writers: AtomicU32,
    /// Whether the mark has been sent. The lock keeps it from being sent twice.
    marked: Mutex<bool>,
}

/// What the caller must do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// Mark the end.
    Mark,
    /// Nothing: the half isn't shut down, or other calls are still writing.
    Nothing,
}

impl WritingHalf {
    const CLOSED: u32 = 1 << 31;

    pub(crate) fn new() -> WritingHalf {
        WritingHalf {
            writers: AtomicU32::new(0),
            marked: Mutex::new(false),
        }
    }

    /// Lets a call write, and returns `true`, unless the half is shut down. The call must
    /// [`leave`](Self::leave) when it's done.
    pub(crate) fn enter(&self) -> bool {
        let one_more = |count| (count & Self::CLOSED == 0).then_some(count + 1);
        self.writers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_ok()
    }

    /// Ends a call that [`enter`](Self::enter) let write.
    pub(crate) fn leave(&self) -> Then {
        match self.writers.fetch_sub(1, Ordering::AcqRel) {
            before if before == Self::CLOSED + 1 => Then::Mark,
            _ => Then::Nothing,
        }
    }

    /// Lets no further calls write.
    pub(crate) fn close(&self) -> Then {
        match self.writers.fetch_or(Self::CLOSED, Ordering::AcqRel) & !Self::CLOSED {
            0 => Then::Mark,
            _ => Then::Nothing,
        }
    }

    /// Marks the end by calling `send`, unless it has been marked.
    pub(crate) fn mark<E>(&self, send: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut marked = unpoisoned(self.marked.lock());
        if !*marked {
            send()?;
            *marked = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_shuts_down_marks_the_end_if_nobody_writes() {
        let half = WritingHalf::new();
        assert!(half.enter());
        assert_eq!(half.leave(), Then::Nothing);
        assert_eq!(half.close(), Then::Mark);
        assert!(!half.enter());
    }

    #[test]
    fn the_last_call_that_writes_marks_the_end() {
        let half = WritingHalf::new();
        assert!(half.enter() && half.enter());
        assert_eq!(half.close(), Then::Nothing);
        assert!(!half.enter());
        assert_eq!(half.close(), Then::Nothing);
        assert_eq!(half.leave(), Then::Nothing);
        assert_eq!(half.leave(), Then::Mark);
        // The mark may have failed: another shutdown tries again.
        assert_eq!(half.close(), Then::Mark);
    }

    #[test]
    fn the_mark_is_sent_once_and_again_only_where_it_failed() {
        let half = WritingHalf::new();
        assert_eq!(half.mark(|| Err("no")), Err("no"));
        assert_eq!(half.mark(|| Ok::<_, ()>(())), Ok(()));
        assert_eq!(half.mark(|| Err("a second mark")), Ok(()));
    }

    #[test]
    fn one_of_many_marks_the_end_after_all_have_left() {
        for _ in 0..200 {
            let half = WritingHalf::new();
            let (inside, marks) = (AtomicU32::new(0), AtomicU32::new(0));
            let mark = |then| {
                if then == Then::Mark {
                    assert_eq!(inside.load(Ordering::SeqCst), 0, "a byte after the mark");
                    half.mark(|| {
                        marks.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, ()>(())
                    })
                    .unwrap();
                }
            };
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while half.enter() {
                            inside.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            mark(half.leave());
                        }
                    });
                }
                scope.spawn(|| mark(half.close()));
            });
            assert_eq!(marks.load(Ordering::SeqCst), 1);
        }
    }
}
