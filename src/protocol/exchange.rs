//! How a handle is handed over: the messages of an exchange, and a stream's progress in it.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::lock::unpoisoned;

/// A stream's progress in handing over handles of type `H`.
pub(crate) struct Handoff<H> {
    /// Whether messages of an exchange may arrive. It's outside the lock, so that a read doesn't
    /// take the lock.
    is_open: AtomicBool,
    /// None while no exchange is open: most streams never have one.
    exchanges: Mutex<Option<Box<Exchanges<H>>>>,
}

/// The exchanges that aren't concluded.
pub(crate) struct Exchanges<H> {
    /// The offers of this end that the peer hasn't answered yet, oldest first. All but the last are
    /// withdrawn. A peer answers what it reads, and what it doesn't read fills the pipe, so there
    /// are never many.
    pub(crate) unanswered: VecDeque<u128>,
    /// The peer's offer that was read and isn't concluded yet.
    pub(crate) received: Option<Received<H>>,
}

/// An offer from the peer.
pub(crate) struct Received<H> {
    pub(crate) id: u128,
    /// The handle, or why it couldn't be taken.
    pub(crate) taken: io::Result<H>,
    pub(crate) is_answered: bool,
}

impl<H> Default for Exchanges<H> {
    fn default() -> Exchanges<H> {
        Exchanges {
            unanswered: VecDeque::new(),
            received: None,
        }
    }
}

impl<H> Handoff<H> {
    pub(crate) fn new() -> Handoff<H> {
        Handoff {
            is_open: AtomicBool::new(false),
            exchanges: Mutex::default(),
        }
    }

    /// Calls `change` with the exchanges, and returns its result.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Exchanges<H>) -> T) -> T {
        let mut exchanges = unpoisoned(self.exchanges.lock());
        let open = exchanges.get_or_insert_default();
        let changed = change(open);
        let is_open = !open.unanswered.is_empty() || open.received.is_some();
        if !is_open {
            *exchanges = None;
        }
        self.is_open.store(is_open, Ordering::Release);
        changed
    }

    /// Fails if a read could take a message of an exchange for data.
    pub(crate) fn check_read(&self) -> io::Result<()> {
        if self.is_open.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "a handle is still being handed over: call send_handle or recv_handle again, \
                 or drop the stream",
            ));
        }
        Ok(())
    }
}

/// The meaning of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The sender offers a handle.
    Offered = 1,
    /// The receiver has duplicated it.
    Taken,
    /// The receiver couldn't duplicate it. The sender sends this back when it has read it.
    Refused,
    /// The sender confirms what was taken.
    Given,
    /// The sender has stopped waiting for the answer.
    Withdrawn,
}

impl Step {
    const ALL: [Step; 5] = [
        Step::Offered,
        Step::Taken,
        Step::Refused,
        Step::Given,
        Step::Withdrawn,
    ];

    fn from_byte(byte: u8) -> Option<Step> {
        Step::ALL.into_iter().find(|&step| step as u8 == byte)
    }
}

/// A message between two processes about a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) step: Step,
    /// The offer that this is about.
    pub(crate) id: u128,
    /// The process that makes the offer, and its number for the handle. Both are 0 in other
    /// messages.
    pub(crate) process: u32,
    pub(crate) number: u64,
}

impl Message {
    const MARK: &[u8; 7] = b"handoff";
    /// The mark, the step, the identifier, the process and the number, little-endian.
    pub(crate) const LEN: usize = 7 + 1 + 16 + 4 + 8;

    pub(crate) fn new(step: Step, id: u128) -> Message {
        Message {
            step,
            id,
            process: 0,
            number: 0,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; Message::LEN] {
        let mut bytes = [0; Message::LEN];
        bytes[..7].copy_from_slice(Message::MARK);
        bytes[7] = self.step as u8;
        bytes[8..24].copy_from_slice(&self.id.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.process.to_le_bytes());
        bytes[28..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Whether these bytes are the beginning of a message, so that it's worth waiting for the rest.
    pub(crate) fn can_begin_with(bytes: &[u8]) -> bool {
        let mark = &bytes[..bytes.len().min(7)];
        let step = bytes.get(7).copied();
        Message::MARK.starts_with(mark) && step.is_none_or(|step| Step::from_byte(step).is_some())
    }

    pub(crate) fn from_bytes(bytes: &[u8; Message::LEN]) -> Option<Message> {
        if !Message::can_begin_with(bytes) {
            return None;
        }
        Some(Message {
            step: Step::from_byte(bytes[7])?,
            id: u128::from_le_bytes(bytes[8..24].try_into().ok()?),
            process: u32::from_le_bytes(bytes[24..28].try_into().ok()?),
            number: u64::from_le_bytes(bytes[28..].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_bytes_and_nothing_else_is_one() {
        for step in Step::ALL {
            let message = Message {
                process: 0x1234_5678,
                number: 0x1122_3344_5566_7788,
                ..Message::new(step, u128::MAX / 3)
            };
            let bytes = message.to_bytes();
            assert_eq!(Message::from_bytes(&bytes), Some(message));
            assert!((0..=bytes.len()).all(|len| Message::can_begin_with(&bytes[..len])));
            for at in 0..8 {
                let mut other = bytes;
                other[at] ^= 0x40;
                assert_eq!(Message::from_bytes(&other), None);
                assert!((at + 1..bytes.len()).all(|len| !Message::can_begin_with(&other[..len])));
            }
        }
    }
}
