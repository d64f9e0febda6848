//! What to do next while connecting: open, wait, pause or give up.

use std::time::Duration;

/// The first pause. Each later one is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The longest wait. Not every system ends a wait when the pipe is gone, so a longer wait is
/// interrupted now and then to check.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The system's answer to the last step, unless it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To an open: every instance of the pipe has a client.
    Busy,
    /// To an open: there is no such pipe.
    Missing,
    /// To an open: an error that another attempt wouldn't fix.
    Failed,
    /// To a wait: an instance is listening.
    Listening,
    /// To a wait: no instance was listening during the whole wait.
    TimedOut,
    /// To a wait: any other error. A system that can't wait reports it in its own way; Windows
    /// containers report that there is no such pipe, although there is one.
    CannotWait,
    /// The pause is over.
    Paused,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Try to open the pipe.
    Open,
    /// Wait until an instance is listening, for at most this long.
    Wait(Duration),
    /// Do nothing for this long.
    Pause(Duration),
    /// Give up: the server isn't accepting clients.
    Refuse,
    /// Give up: return the error of the last attempt to the caller.
    Fail,
}

/// One call that connects. Its first step is [`Step::Open`].
#[derive(Debug)]
pub(crate) struct Dialing {
    /// Whether to wait for a pipe that doesn't exist.
    waits_for_server: bool,
    /// Whether the pipe existed at some point.
    was_busy: bool,
    /// The next pause.
    pause: Duration,
}

impl Dialing {
    pub(crate) fn new(waits_for_server: bool) -> Dialing {
        Dialing {
            waits_for_server,
            was_busy: false,
            pause: SHORTEST_PAUSE,
        }
    }

    /// Decides what to do after `answer`, with this much time left.
    ///
    /// Between two opens there is always a wait or a pause, so a client never keeps a processor
    /// busy, whatever the system answers.
    pub(crate) fn next(&mut self, answer: Answer, left: Duration) -> Step {
        self.was_busy |= answer == Answer::Busy;
        match answer {
            Answer::Busy if left.is_zero() => Step::Refuse,
            Answer::Busy => Step::Wait(left.min(LONGEST_WAIT)),
            Answer::Missing if self.waits_for_server && left.is_zero() => Step::Refuse,
            Answer::Missing if self.waits_for_server => self.pause(left),
            // The busy server is gone.
            Answer::Missing if self.was_busy => Step::Refuse,
            Answer::Missing | Answer::Failed => Step::Fail,
            Answer::CannotWait => self.pause(left),
            Answer::Listening | Answer::TimedOut | Answer::Paused => Step::Open,
        }
    }

    fn pause(&mut self, left: Duration) -> Step {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Step::Pause(pause.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Connects in a simulated world, where `open` and `wait` give the answers and time passes only
    /// by waiting. Returns the last step, how often `open` was called, and when it ended.
    fn dial(
        waits_for_server: bool,
        timeout: Duration,
        mut open: impl FnMut(Duration) -> Answer,
        mut wait: impl FnMut(Duration, Duration) -> (Answer, Duration),
    ) -> (Step, usize, Duration) {
        let (mut now, mut opens) = (Duration::ZERO, 0);
        let mut dialing = Dialing::new(waits_for_server);
        let mut step = Step::Open;
        loop {
            let answer = match step {
                Step::Open => {
                    opens += 1;
                    assert!(opens < 100_000, "it spins");
                    open(now)
                }
                Step::Wait(longest) => {
                    let (answer, took) = wait(now, longest);
                    now += took;
                    answer
                }
                Step::Pause(pause) => {
                    now += pause;
                    Answer::Paused
                }
                Step::Refuse | Step::Fail => return (step, opens, now),
            };
            step = dialing.next(answer, timeout.saturating_sub(now));
        }
    }

    /// A wait as it should be, for a pipe that stays busy.
    fn in_vain(_now: Duration, longest: Duration) -> (Answer, Duration) {
        (Answer::TimedOut, longest)
    }

    #[test]
    fn every_answer_in_every_state_has_its_step() {
        use Answer::*;

        let pause = Step::Pause(millis(1));
        let wait = Step::Wait(millis(500));
        // The expected steps by whether to wait for the server and whether the pipe was busy
        // before: neither, the first, the second, both. First with time left, then without.
        for (answer, with_time, without) in [
            (Busy, [wait; 4], [Step::Refuse; 4]),
            (
                Missing,
                [Step::Fail, pause, Step::Refuse, pause],
                [Step::Fail, Step::Refuse, Step::Refuse, Step::Refuse],
            ),
            (Failed, [Step::Fail; 4], [Step::Fail; 4]),
            (Listening, [Step::Open; 4], [Step::Open; 4]),
            (TimedOut, [Step::Open; 4], [Step::Open; 4]),
            (CannotWait, [pause; 4], [Step::Pause(Duration::ZERO); 4]),
            (Paused, [Step::Open; 4], [Step::Open; 4]),
        ] {
            for (left, expected) in [(millis(500), with_time), (Duration::ZERO, without)] {
                for (state, expected) in expected.into_iter().enumerate() {
                    let mut dialing = Dialing::new(state & 1 != 0);
                    dialing.was_busy = state & 2 != 0;
                    let step = dialing.next(answer, left);
                    assert_eq!(step, expected, "{answer:?}, {left:?} left, state {state}");
                }
            }
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_never_last_longer_than_the_time_left() {
        let mut dialing = Dialing::new(false);
        let mut pauses = [1, 2, 4, 8, 16, 16, 16].map(millis).into_iter();
        assert!(pauses.all(|pause| dialing.next(Answer::CannotWait, SECOND) == Step::Pause(pause)));
        let last = dialing.next(Answer::CannotWait, millis(3));
        assert_eq!(last, Step::Pause(millis(3)));
    }

    #[test]
    fn a_busy_server_is_waited_for_without_polling_until_the_time_is_up() {
        let (step, opens, took) = dial(false, SECOND, |_| Answer::Busy, in_vain);
        assert_eq!((step, opens, took), (Step::Refuse, 2, SECOND));
        // A longer wait makes one attempt per second.
        let (step, opens, took) = dial(true, 60 * SECOND, |_| Answer::Busy, in_vain);
        assert_eq!((step, opens, took), (Step::Refuse, 61, 60 * SECOND));
    }

    #[test]
    fn where_waiting_is_not_possible_a_busy_pipe_is_tried_now_and_then() {
        // As in Windows containers.
        let cannot = |_, _| (Answer::CannotWait, Duration::ZERO);
        for waits_for_server in [false, true] {
            let (step, opens, took) = dial(waits_for_server, SECOND, |_| Answer::Busy, cannot);
            assert_eq!((step, took), (Step::Refuse, SECOND));
            assert!((60..80).contains(&opens), "{opens} attempts");
        }
        // A free instance isn't missed. `Failed` stands for the end of the test.
        let free = |now| match now {
            now if now < millis(300) => Answer::Busy,
            _ => Answer::Failed,
        };
        let (_, _, took) = dial(false, SECOND, free, cannot);
        assert!((millis(300)..millis(317)).contains(&took), "{took:?}");
    }

    #[test]
    fn a_missing_server_fails_at_once_or_is_looked_for_until_the_time_is_up() {
        let missing = |_| Answer::Missing;
        let (step, opens, took) = dial(false, SECOND, missing, in_vain);
        assert_eq!((step, opens, took), (Step::Fail, 1, Duration::ZERO));
        let (step, opens, took) = dial(true, SECOND, missing, in_vain);
        assert_eq!((step, took), (Step::Refuse, SECOND));
        assert!((60..80).contains(&opens), "{opens} attempts");
        let (step, opens, _) = dial(true, Duration::ZERO, missing, in_vain);
        assert_eq!((step, opens), (Step::Refuse, 1));
    }

    #[test]
    fn a_server_that_goes_while_it_is_waited_for_refuses() {
        let gone = |now| match now {
            Duration::ZERO => Answer::Busy,
            _ => Answer::Missing,
        };
        // The wait reports it, after a while or at once; or it goes on, as on some systems.
        for (answer, after) in [
            (Answer::CannotWait, millis(200)),
            (Answer::CannotWait, Duration::ZERO),
            (Answer::TimedOut, SECOND),
        ] {
            let (step, opens, took) = dial(false, 60 * SECOND, gone, |_, _| (answer, after));
            assert_eq!((step, opens), (Step::Refuse, 2));
            assert!(took <= after + millis(1), "{took:?}");
        }
    }

    #[test]
    fn whatever_the_system_answers_it_ends_in_time_and_does_not_spin() {
        let opened = [Answer::Busy, Answer::Missing, Answer::Failed];
        let waited = [Answer::Listening, Answer::TimedOut, Answer::CannotWait];
        // Every sequence of six answers to an open and to the wait after it, repeated.
        let length = if cfg!(miri) { 2 } else { 6 };
        for sequence in 0..9_usize.pow(length) {
            let nth = |n: usize| sequence / 9_usize.pow(n as u32 % length) % 9;
            let (mut opens, mut waits) = (0, 0);
            let (step, tries, took) = dial(
                sequence % 2 == 0,
                millis(40),
                |_| {
                    opens += 1;
                    opened[nth(opens) % 3]
                },
                |_, longest| {
                    waits += 1;
                    match waited[nth(waits) / 3] {
                        Answer::TimedOut => (Answer::TimedOut, longest),
                        // Another client was faster, and that took some time.
                        Answer::Listening => (Answer::Listening, millis(1)),
                        answer => (answer, Duration::ZERO),
                    }
                },
            );
            assert!(matches!(step, Step::Refuse | Step::Fail));
            assert!(took <= millis(41) && tries <= 45, "{tries} in {took:?}");
        }
    }
}
