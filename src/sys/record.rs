//! The records of system calls, and when they are written.
//!
//! A logger is the user's code: it may call this crate, take its time, and panic. So no record is
//! written under a lock of the crate, while the thread acts as a client, or while a call has
//! something in hand that a panic would lose. Every public call that makes system calls holds the
//! records of its thread back; the outermost one writes them when it's about to return, with its
//! result made. A panic of the logger ends there: it's reported by the panic hook, and the call
//! returns what it did.
//!
//! What a logger itself does with pipes leaves no records, as they would never end.

/// Leaves a record of a system call. With the feature `log` off it leaves nothing.
macro_rules! trace {
    ($($record:tt)*) => {{
        #[cfg(feature = "log")]
        $crate::sys::record::leave(format_args!($($record)*));
    }};
}
pub(super) use trace;

/// Holds back this thread's records until it's dropped. It costs nothing while nobody traces.
#[must_use]
pub(crate) struct Hold {
    /// The count of holds is the thread's.
    _this_thread: std::marker::PhantomData<*const ()>,
}

/// Holds the records of this thread back.
pub(crate) fn hold() -> Hold {
    #[cfg(feature = "log")]
    kept::HOLDS.set(kept::HOLDS.get() + 1);
    Hold {
        _this_thread: std::marker::PhantomData,
    }
}

impl Hold {
    /// Writes the records so far, if no other call holds them back. For a call that goes on for long,
    /// at a moment when it holds nothing.
    #[cfg(feature = "log")]
    pub(crate) fn write(&self) {
        if kept::HOLDS.get() == 1 {
            kept::write();
        }
    }

    /// Without the feature `log` there are none.
    #[cfg(not(feature = "log"))]
    pub(crate) fn write(&self) {}
}

#[cfg(feature = "log")]
impl Drop for Hold {
    fn drop(&mut self) {
        let others = kept::HOLDS.get() - 1;
        if others == 0 {
            // Still held, so that what the logger does is nested in this.
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
        /// How many calls of this thread hold the records back.
        pub(super) static HOLDS: Cell<u32> = const { Cell::new(0) };
        /// Whether this thread is in the logger.
        static WRITING: Cell<bool> = const { Cell::new(false) };
        static RECORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Takes a record, and writes it now if nothing holds it back.
    pub(in super::super) fn leave(record: fmt::Arguments<'_>) {
        // Not `log_enabled!`, which asks the logger.
        if log::max_level() < log::Level::Trace || WRITING.get() {
            return;
        }
        let _hold = hold();
        // A thread that is ending keeps none any more.
        let _ = RECORDS.try_with(|records| records.borrow_mut().push(record.to_string()));
    }

    /// Writes the records that were kept, in their order.
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
                // What it panicked with is the user's, too, and might panic when it's dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
        WRITING.set(false);
    }
}
