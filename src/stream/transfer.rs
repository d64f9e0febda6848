//! How a stream reads and writes: by the rules of `protocol`, waiting as `wait` does.

use std::io;
use std::ops::Range;
use std::sync::RwLockReadGuard;

use crate::lock::unpoisoned;
use crate::protocol::sending::Sending;
use crate::stream::{Turn, WinStream};
use crate::sys::error::{self, Code, Doing};
use crate::sys::operation::{Attend, Transferred};
use crate::sys::pipe::Pipe;
use crate::sys::record;
use crate::wait::{Call, Control, Stop};

impl WinStream {
    /// Begins a call that reads several times under one timeout.
    pub(crate) fn reading(&self) -> Call<'_> {
        Call::new(&self.shared.reading)
    }

    /// Reads as part of `call`.
    pub(crate) fn read_under(&self, buf: &mut [u8], call: &mut Call<'_>) -> io::Result<usize> {
        self.read_part(call, |attend| self.pipe.read_file(buf, attend))
    }

    /// Sends a message if that is possible without waiting, whatever the settings. Returns whether
    /// it did.
    pub(crate) fn write_at_once(&self, message: &[u8]) -> bool {
        let Some(_turn) = Turn::take(self) else {
            return false;
        };
        let at_once = Control::new();
        Control::set_nonblocking([&at_once], true);
        let written = Call::new(&at_once)
            .run(|attend| self.outgoing(|pipe| pipe.write_file(message, attend)));
        written.is_ok_and(|written| written.count == message.len())
    }

    pub(crate) fn read_with(
        &self,
        read: impl FnOnce(Attend<'_>) -> Result<Transferred, Code>,
    ) -> io::Result<usize> {
        self.shared.handoff.check_read()?;
        let _records = record::hold();
        self.read_part(&mut self.reading(), read)
    }

    pub(super) fn read_part(
        &self,
        call: &mut Call<'_>,
        read: impl FnOnce(Attend<'_>) -> Result<Transferred, Code>,
    ) -> io::Result<usize> {
        self.facts()?;
        if self.shared.reading.is_ended() {
            return Ok(0);
        }
        let mut issuing = Some(self.issuing());
        let read = call.run(|attend| {
            read(&mut |operation| {
                issuing = None;
                attend(operation);
            })
        });
        match read {
            // The peer's mark of the end.
            Ok(Transferred { count: 0, .. }) => Ok(self.end_of_data()),
            Ok(read) => Ok(read.count),
            Err(stop) => self.stopped_reading(stop),
        }
    }

    pub(super) fn stopped_reading(&self, stop: Stop) -> io::Result<usize> {
        match stop {
            Stop::Ended => Ok(0),
            // An end that another process has set to PIPE_NOWAIT is empty. It isn't at its end.
            Stop::Failed(Code::NO_DATA) => Err(error::nonblocking_handle()),
            Stop::Failed(code) if code.is_peer_gone() => Ok(self.end_of_data()),
            stop => Err(stopped(stop)),
        }
    }

    /// Copies the bytes that a peek shows; `None` if there are none.
    pub(crate) fn peek_now(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.pipe.peek_named_pipe(buf) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(Code::NO_DATA) => Err(error::nonblocking_handle()),
            Err(code) if code.is_peer_gone() => Ok(Some(self.end_of_data())),
            // It isn't connected. A read reports why.
            Err(Code::BAD_PIPE) => Ok(None),
            Err(code) => Err(code.explain(Doing::Using)),
        }
    }

    /// Held while a read issues its operation, so that a peek doesn't take the result of that read
    /// for the end.
    pub(super) fn issuing(&self) -> RwLockReadGuard<'_, ()> {
        unpoisoned(self.shared.issuing.read())
    }

    pub(super) fn end_of_data(&self) -> usize {
        self.shared.end_of_data();
        0
    }

    /// Calls `call` with the pipe that is written to.
    pub(super) fn outgoing<T>(
        &self,
        call: impl FnOnce(&Pipe) -> Result<T, Code>,
    ) -> Result<T, Code> {
        match &self.shared.outgoing {
            None => call(&self.pipe),
            Some(outgoing) => match &*unpoisoned(outgoing.read()) {
                Some(pipe) => call(pipe),
                None => Err(Code::NO_DATA),
            },
        }
    }

    /// Writes `total` bytes by calling `write` with the range of bytes that go next. If there is no
    /// room for them now, calls `refused`, which may have another way to send some of them, and
    /// says how many it sent.
    pub(crate) fn write_with(
        &self,
        total: usize,
        mut write: impl FnMut(Range<usize>, Attend<'_>) -> Result<Transferred, Code>,
        mut refused: impl FnMut(Range<usize>) -> Result<Option<usize>, Stop>,
    ) -> io::Result<usize> {
        let _records = record::hold();
        let facts = self.facts()?;
        let Some(_turn) = Turn::take(self) else {
            return Err(stopped(Stop::Ended));
        };
        let mut call = Call::new(&self.shared.writing);
        let mut sending = Sending::new(total, facts.chunk as usize);
        let mut obstacle = Stop::WouldBlock;
        while let Some(range) = sending.next() {
            let written = match self.shared.writing.is_ended() {
                true => Err(Stop::Ended),
                false => call.run(|attend| write(range.clone(), attend)),
            };
            match written {
                Ok(written) => sending.sent(written.count),
                // There may be room for a part. After a timeout its parts don't wait either.
                Err(stop @ (Stop::WouldBlock | Stop::TimedOut)) => {
                    obstacle = stop;
                    match refused(range) {
                        Ok(None) => sending.refused(),
                        Ok(Some(count)) => {
                            sending.sent(count);
                            sending.stop();
                        }
                        Err(stop) => {
                            obstacle = stop;
                            sending.stop();
                        }
                    }
                }
                Err(stop) => {
                    obstacle = stop;
                    sending.stop();
                }
            }
        }
        sending.report().ok_or_else(|| stopped(obstacle))
    }

    /// Sends the mark of the end, unless it has been sent. Even a full pipe takes it.
    pub(super) fn mark_end(&self) -> io::Result<()> {
        if let Some(outgoing) = &self.shared.outgoing {
            // No call is writing any more.
            drop(unpoisoned(outgoing.write()).take());
            return Ok(());
        }
        // Not under the control of the writing half, which is shut down: that must not stop the
        // mark.
        let open = Control::new();
        let send = || Call::new(&open).run(|attend| self.pipe.write_file(&[], attend));
        self.shared.writing_half.mark(|| match send() {
            Err(Stop::Failed(code)) if !code.is_peer_gone() => Err(code.explain(Doing::Using)),
            _ => Ok(()),
        })
    }
}

pub(crate) fn stopped(stop: Stop) -> io::Error {
    match stop {
        Stop::WouldBlock | Stop::Recalled => io::ErrorKind::WouldBlock.into(),
        Stop::TimedOut => io::ErrorKind::TimedOut.into(),
        Stop::Ended => io::ErrorKind::BrokenPipe.into(),
        Stop::Failed(code) => code.explain(Doing::Using),
    }
}
