//! The records of system calls, and when they are written.
//!
//! A logger is the user's code: it may call this crate, take a long time, and panic. So no record
//! is written under a lock of the crate, while the thread acts as a client, or while a call holds
//! something that a panic would lose. Every public call that makes system calls holds back the
//! records of its thread. The outermost call writes them when it's about to return and its result
//! is ready. If the logger panics, the panic ends there: the panic hook reports it, and the call
//! returns its result.
//!
//! Pipe calls that a logger makes leave no records, because there would be no end to them.

/// Leaves a record of a system call. Without the feature `log`, it does nothing.
macro_rules! trace {
    ($($record:tt)*) => {{
        #[cfg(feature = "log")]
        $crate::sys::record::leave(format_args!($($record)*));
    }};
}
pub(super) use trace;

/// Holds back this thread's records until it's dropped. It costs nothing while tracing is off.
#[must_use]
pub(crate) struct Hold {
    /// The count of holds belongs to the thread.
    _this_thread: std::marker::PhantomData<*const ()>,
}

/// Holds back the records of this thread.
pub(crate) fn hold() -> Hold {
    #[cfg(feature = "log")]
    kept::HOLDS.set(kept::HOLDS.get() + 1);
    Hold {
        _this_thread: std::marker::PhantomData,
    }
}

impl Hold {
    /// Writes the records so far, unless another call holds them back. A call that takes long does
    /// this at a moment when it holds nothing.
    #[cfg(feature = "log")]
    pub(crate) fn write(&self) {
        if kept::HOLDS.get() == 1 {
            kept::write();
        }
    }

    /// Without the feature `log` there are no records.
    #[cfg(not(feature = "log"))]
    pub(crate) fn write(&self) {}
}

#[cfg(feature = "log")]
impl Drop for Hold {
    fn drop(&mut self) {
        let others = kept::HOLDS.get() - 1;
        if others == 0 {
            // Still held, so that calls by the logger are nested in this one.
            kept::write();
        }
        kept::HOLDS.set(others);
    }
}

#[cfg(feature = "log")]
pub(super) use kept::leave;

#[cfg(feature = "log")]
mod kept {
    use std::cell::{Cell, RefCell};
    use std::fmt;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::hold;

    thread_local! {
        /// How many calls on this thread hold back the records.
        pub(super) static HOLDS: Cell<u32> = const { Cell::new(0) };
        /// Whether this thread is in the logger.
        static WRITING: Cell<bool> = const { Cell::new(false) };
        static RECORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Keeps a record, and writes it now if nothing holds it back.
    pub(crate) fn leave(record: fmt::Arguments<'_>) {
        // Not `log_enabled!`, which calls the logger.
        if log::max_level() < log::Level::Trace || WRITING.get() {
            return;
        }
        let _hold = hold();
        // A thread that is ending no longer keeps records.
        let _ = RECORDS.try_with(|records| records.borrow_mut().push(record.to_string()));
    }

    /// Writes the kept records, in order.
    pub(super) fn write() {
        let kept = RECORDS.try_with(RefCell::take).unwrap_or_default();
        if kept.is_empty() {
            return;
        }
        WRITING.set(true);
        for record in &kept {
            let logged = catch_unwind(AssertUnwindSafe(
                || log::trace!(target: "winpipe", "{record}"),
            ));
            if let Err(panic) = logged {
                // The panic's payload is also the user's, and may panic when it's dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
        WRITING.set(false);
    }
}
