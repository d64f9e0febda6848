//! How the blocking half waits: issue, wait, cancel, collect. Every call that may block goes through
//! [`Call::run`].
//!
//! **A waiting call can be woken, and no wake-up is lost.** The call waits for its operation's event
//! alone. Whoever changes a setting stores it first and then sets the events of all calls that wait
//! under that [`Control`]. The call issues its operation, enters its event with the control, *then*
//! reads the settings, then waits: a change either comes before the reading or finds the event. A
//! call woken with its operation still pending resets the event and looks again at both, in that
//! order, so a completion or a change in between sets the event anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::error::Code;
use crate::sys::operation::{Attend, Event, Operation, Waited};

/// Why an operation was left without its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It would have had to wait, and the control is nonblocking.
    WouldBlock,
    /// It waited as long as the control allows.
    TimedOut,
    /// The control has been ended.
    Ended,
    /// The control asks its calls to look at their surroundings anew.
    Recalled,
    /// The system refused it.
    Failed(Code),
}

/// What the calls in one direction obey, and how they are woken when it changes.
pub(crate) struct Control {
    /// Beside the lock, so that a call that needn't wait needn't take it.
    ended: AtomicBool,
    settings: Mutex<Settings>,
}

struct Settings {
    timeout: Option<Duration>,
    nonblocking: bool,
    recalls: u64,
    /// The events of the calls that wait.
    waiting: Vec<Event>,
}

impl Control {
    /// Makes a control under which calls wait for ever.
    pub(crate) fn new() -> Control {
        Control {
            ended: AtomicBool::new(false),
            settings: Mutex::new(Settings {
                timeout: None,
                nonblocking: false,
                recalls: 0,
                // For the one call that usually waits: no call allocates for itself.
                waiting: Vec::with_capacity(1),
            }),
        }
    }

    /// Whether [`end`](Self::end) was called.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends every call that waits, now and later.
    pub(crate) fn end(&self) {
        self.change(|_| self.ended.store(true, Ordering::Release));
    }

    /// Makes every call that waits now return [`Stop::Recalled`].
    pub(crate) fn recall(&self) {
        self.change(|settings| settings.recalls += 1);
    }

    /// Limits how long a call waits. A call that waits already is limited from now.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) {
        self.change(|settings| settings.timeout = timeout);
    }

    /// Returns the limit.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.lock().timeout
    }

    /// Makes calls return [`Stop::WouldBlock`] instead of waiting, under all these controls at once:
    /// nobody sees them differ. They are given in the same order each time.
    pub(crate) fn set_nonblocking<const N: usize>(controls: [&Control; N], nonblocking: bool) {
        let mut all = controls.map(Control::lock);
        for settings in &mut all {
            settings.nonblocking = nonblocking;
        }
        all.iter().for_each(|settings| settings.wake());
    }

    /// Stores a change, then wakes every call that waits.
    fn change(&self, store: impl FnOnce(&mut Settings)) {
        let mut settings = self.lock();
        store(&mut settings);
        settings.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        // Nothing that can panic is done halfway under the lock.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    /// Wakes every call that waits. Called under the lock, after the change.
    fn wake(&self) {
        self.waiting.iter().for_each(Event::set);
    }
}

/// One call, which may take several operations: its limit holds for all of them together.
pub(crate) struct Call<'a> {
    control: &'a Control,
    /// The timeout that `deadline` was computed from, once there is need for one.
    timeout: Option<Option<Duration>>,
    deadline: Option<Instant>,
    recalls: Option<u64>,
}

impl<'a> Call<'a> {
    /// Begins a call under `control`.
    pub(crate) fn new(control: &'a Control) -> Call<'a> {
        Call {
            control,
            timeout: None,
            deadline: None,
            recalls: None,
        }
    }

    /// Makes the call heed recalls from now on, and not only from when it begins to wait.
    pub(crate) fn heed_recalls(&mut self) {
        self.recalls = Some(self.control.lock().recalls);
    }

    /// Fails where the settings say not to wait, before there is an operation that would have to.
    pub(crate) fn may_wait(&mut self) -> Result<(), Stop> {
        self.limit().map(|_| ())
    }

    /// Runs one operation of the call. `issue` passes what it's given to the system call, which issues
    /// the operation, has it waited for, cancels it if the settings say to stop, and collects what it
    /// did. An operation that completed although it was to be stopped counts as completed.
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

    /// How many milliseconds the call may wait now, by the settings as they are now.
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
        if self.timeout != Some(settings.timeout) {
            self.timeout = Some(settings.timeout);
            // A deadline beyond what a clock can hold is none.
            self.deadline = settings
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout));
        }
        drop(settings);

        match self.deadline {
            None => Ok(u32::MAX),
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(Stop::TimedOut),
                left => Ok(milliseconds(left)),
            },
        }
    }
}

/// Rounds up to what the wait functions take. What is too long for them is waited for in parts.
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    u32::try_from(milliseconds)
        .unwrap_or(u32::MAX)
        .min(u32::MAX - 1)
}

/// An event that is in a control's list.
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
            // While the one can't be set, the other isn't, or can't be looked at.
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
