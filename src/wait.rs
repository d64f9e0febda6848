//! How blocking calls wait: issue, wait, cancel, collect. Every call that may block goes through
//! [`Call::run`].
//!
//! **A waiting call can be woken, and no wake-up is lost.** The call waits only for its operation's
//! event. A thread that changes a setting stores it first, and then sets the events of all calls
//! that wait under that [`Control`]. The call issues its operation, adds its event to the control,
//! *then* reads the settings, then waits. So a change either comes before the settings are read, or
//! finds the event. A call that is woken while its operation is still pending resets the event and
//! checks both again, in that order. So a completion or a change in between sets the event again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::unpoisoned;
use crate::sys::error::Code;
use crate::sys::operation::{Attend, Event, Operation, Waited};

/// Why a call stopped without the result of its operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It would have had to wait, but the control is nonblocking.
    WouldBlock,
    /// It waited as long as the control allows.
    TimedOut,
    /// The control has been ended.
    Ended,
    /// The control was recalled: its calls must check again what they wait for.
    Recalled,
    /// The system returned an error.
    Failed(Code),
}

/// The settings for the calls in one direction, and how those are woken when the settings change.
pub(crate) struct Control {
    /// Outside the lock, so that a call that doesn't wait doesn't take the lock.
    ended: AtomicBool,
    settings: Mutex<Settings>,
}

struct Settings {
    timeout: Option<Duration>,
    /// How often the timeout was set.
    timeouts: u32,
    /// How often the calls were recalled, in so few bits that the settings stay small. A call that waits
    /// looks at it each time.
    recalls: u16,
    nonblocking: bool,
    /// The events of the calls that are waiting.
    waiting: Vec<Event>,
}

impl Control {
    /// Creates a control under which calls wait without limit.
    pub(crate) fn new() -> Control {
        Control {
            ended: AtomicBool::new(false),
            settings: Mutex::new(Settings {
                timeout: None,
                timeouts: 0,
                recalls: 0,
                nonblocking: false,
                // Room for the one call that usually waits, so that it doesn't allocate.
                waiting: Vec::with_capacity(1),
            }),
        }
    }

    /// Whether [`end`](Self::end) was called.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends every call that waits, now or later.
    pub(crate) fn end(&self) {
        self.change(|_| self.ended.store(true, Ordering::Release));
    }

    /// Makes every call that is waiting now return [`Stop::Recalled`].
    pub(crate) fn recall(&self) {
        self.change(|settings| settings.recalls = settings.recalls.wrapping_add(1));
    }

    /// Limits how long a call waits. For a call that is already waiting, the limit counts from now.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) {
        self.change(|settings| {
            settings.timeout = timeout;
            settings.timeouts = settings.timeouts.wrapping_add(1);
        });
    }

    /// Returns the timeout.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.lock().timeout
    }

    /// Makes calls return [`Stop::WouldBlock`] instead of waiting, under all these controls at
    /// once: no thread sees them differ. They must be given in the same order each time.
    pub(crate) fn set_nonblocking<const N: usize>(controls: [&Control; N], nonblocking: bool) {
        let mut all = controls.map(Control::lock);
        for settings in &mut all {
            settings.nonblocking = nonblocking;
        }
        all.iter().for_each(|settings| settings.wake());
    }

    /// Stores a change, then wakes every waiting call.
    fn change(&self, store: impl FnOnce(&mut Settings)) {
        let mut settings = self.lock();
        store(&mut settings);
        settings.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        unpoisoned(self.settings.lock())
    }
}

impl Settings {
    /// Wakes every waiting call. Called under the lock, after the change.
    fn wake(&self) {
        self.waiting.iter().for_each(Event::set);
    }
}

/// One call, which may issue several operations. The timeout applies to all of them together.
pub(crate) struct Call<'a> {
    control: &'a Control,
    /// Which setting of the timeout `deadline` was computed from, once it was needed.
    timeouts: Option<u32>,
    deadline: Option<Instant>,
    /// The call's own deadline, whatever the settings.
    latest: Option<Instant>,
    recalls: Option<u16>,
}

impl<'a> Call<'a> {
    /// Begins a call under `control`.
    pub(crate) fn new(control: &'a Control) -> Call<'a> {
        Call {
            control,
            timeouts: None,
            deadline: None,
            latest: None,
            recalls: None,
        }
    }

    /// Also ends the call at this time.
    pub(crate) fn until(mut self, latest: Option<Instant>) -> Call<'a> {
        self.latest = latest;
        self
    }

    /// Makes the call notice recalls from now on, and not only from when it begins to wait.
    pub(crate) fn heed_recalls(&mut self) {
        self.recalls = Some(self.control.lock().recalls);
    }

    /// Fails if the settings say not to wait, before an operation is issued that would have to.
    pub(crate) fn may_wait(&mut self) -> Result<(), Stop> {
        self.limit().map(|_| ())
    }

    /// Runs one operation of the call. `issue` passes its argument to the system call, which issues
    /// the operation, has it waited for, cancels it if the settings say to stop, and returns its
    /// result. An operation that completed although it was being cancelled counts as completed.
    pub(crate) fn run<T>(
        &mut self,
        issue: impl FnOnce(Attend<'_>) -> Result<T, Code>,
    ) -> Result<T, Stop> {
        let mut stop = None;
        let result = issue(&mut |operation| {
            if operation.is_pending() {
                stop = self.wait(operation).err();
            }
        });
        match (result, stop) {
            (Err(Code::OPERATION_ABORTED), Some(stop)) => Err(stop),
            (result, _) => result.map_err(Stop::Failed),
        }
    }

    /// Waits until the operation is complete (`Ok`) or the settings say to stop.
    fn wait(&mut self, operation: &Operation<'_>) -> Result<(), Stop> {
        let event = operation.event();
        let _entered = Entered::new(self.control, event);
        loop {
            if operation.is_complete() {
                return Ok(());
            }
            let limit = self.limit()?;
            if event.wait(limit).map_err(Stop::Failed)? == Waited::Set && !operation.is_complete() {
                // Woken, but not by the kernel.
                event.reset();
            }
        }
    }

    /// Returns how many milliseconds the call may wait now, by the current settings.
    fn limit(&mut self) -> Result<u32, Stop> {
        if self.control.is_ended() {
            return Err(Stop::Ended);
        }
        let settings = self.control.lock();
        if settings.nonblocking {
            return Err(Stop::WouldBlock);
        }
        if settings.recalls != *self.recalls.get_or_insert(settings.recalls) {
            return Err(Stop::Recalled);
        }
        if self.timeouts != Some(settings.timeouts) {
            self.timeouts = Some(settings.timeouts);
            // A deadline that the clock can't represent means no deadline.
            self.deadline = settings
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout));
        }
        drop(settings);

        match self.deadline.into_iter().chain(self.latest).min() {
            None => Ok(u32::MAX),
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(Stop::TimedOut),
                left => Ok(milliseconds(left)),
            },
        }
    }
}

/// Rounds up to the milliseconds that the wait functions take. A longer wait is done in parts.
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    u32::try_from(milliseconds)
        .unwrap_or(u32::MAX)
        .min(u32::MAX - 1)
}

/// An event in a control's list.
struct Entered<'a> {
    control: &'a Control,
    event: &'a Event,
}

impl<'a> Entered<'a> {
    fn new(control: &'a Control, event: &'a Event) -> Entered<'a> {
        control.lock().waiting.push(event.clone());
        Entered { control, event }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut settings = self.control.lock();
        if let Some(at) = settings
            .waiting
            .iter()
            .position(|event| event == self.event)
        {
            settings.waiting.swap_remove(at);
        }
    }
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
            // While one flag can't be set, the other isn't set, or can't be read.
            while let Ok(settings) = reading.settings.try_lock() {
                assert!(!settings.nonblocking);
                drop(settings);
                std::thread::yield_now();
            }
            drop(held);
            setter.join().unwrap();
        });
        assert!(reading.lock().nonblocking && writing.lock().nonblocking);
    }

    #[test]
    fn waiting_times_are_rounded_up_and_never_for_ever() {
        for (duration, expected) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(7), 7),
            (Duration::from_micros(7001), 8),
            (Duration::MAX, u32::MAX - 1),
        ] {
            assert_eq!(milliseconds(duration), expected);
        }
    }
}
