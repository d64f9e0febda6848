//! Handles that go from one process to another.
//!
//! An exchange is three messages on the stream:
//! 1. The sender *offers* a handle: its number, the process in which that number is valid, and a
//!    random identifier of the offer.
//! 2. The receiver duplicates the handle from that process, and answers that it has *taken* it or
//!    *refused* it.
//! 3. The sender concludes the offer: the handle is *given*, the refusal is noted, or the offer was
//!    *withdrawn*. Only now does the receiver return the handle.
//!
//! The rules that make it safe:
//! - **A number is trusted only after the sender has confirmed it.** Windows reuses the numbers of
//!   closed handles at once. The sender keeps a copy of the handle open while it waits for the
//!   answer, and confirms only what was taken while the copy was open. A sender that stops waiting
//!   withdraws the offer and closes the copy. So nothing stays open for a peer that may never come,
//!   and a late receiver never gets another object that has the same number by then.
//! - **Every offer is answered once and concluded once, in order**, even if the sender has stopped
//!   waiting, so neither side takes a late message for data or for part of another exchange. If
//!   that can't be ensured, the stream is shut down.
//! - **A number is looked up only in the process that both the offer and Windows name.** Windows
//!   records which process opened an end of a pipe. If the end has since been passed on to another
//!   process, the record still names the first one. So an offer whose process differs from the
//!   record is refused.
//! - **The receiver's own handles are never looked up by number.** A peer that holds an end which
//!   this process opened could name this process, and the record would agree. So an offer that
//!   names this process is looked up in [`OFFERS`] by its random identifier: only a thread of this
//!   process can have put it there. A peer can know an identifier only of an offer made to it, and
//!   it may take that object anyway.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::lock::unpoisoned;
use crate::protocol::exchange::{Message, Received, Step};
use crate::stream::WinStream;
use crate::sys::error::{Code, Doing};
use crate::sys::process::{Process, process_prng};
use crate::sys::record;
use crate::wait::{Call, Stop};

/// The offers that threads of this process are making now, by their identifiers.
static OFFERS: Mutex<Vec<(u128, Arc<OwnedHandle>)>> = Mutex::new(Vec::new());

fn offers() -> MutexGuard<'static, Vec<(u128, Arc<OwnedHandle>)>> {
    unpoisoned(OFFERS.lock())
}

impl WinStream {
    /// Gives the peer a handle to an object that this process has open: a file, a pipe, an event.
    ///
    /// The peer calls [`recv_handle`](Self::recv_handle) at the same point of the conversation, and
    /// gets a handle of its own with the same access rights. `handle` stays open here. This returns
    /// when the peer has taken its handle, or can't. Meanwhile neither side may use the stream for
    /// anything else.
    ///
    /// The read timeout limits how long this waits for the peer's answer, the write timeout each
    /// message that is sent. On a nonblocking stream this succeeds only if the peer answers at
    /// once.
    ///
    /// This process must have opened its end of the pipe itself, by `connect`, `bind` or `pair`.
    /// Windows records the process that did, so the peer refuses a handle that is sent on an end
    /// which was inherited, or received from another process.
    ///
    /// # Errors
    /// After an error the peer doesn't get the handle.
    /// - [`TimedOut`](io::ErrorKind::TimedOut) or [`WouldBlock`](io::ErrorKind::WouldBlock): the
    ///   peer didn't answer in time. Call this again, or drop the stream. Until a later offer has
    ///   been answered, reads fail with [`ResourceBusy`](io::ErrorKind::ResourceBusy), as they
    ///   could take the late answer for data.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the peer couldn't take the handle.
    ///   It must be allowed to open this process (`PROCESS_DUP_HANDLE`), as processes of the same
    ///   user are, and this process must have opened this end of the pipe itself.
    /// - [`BrokenPipe`](io::ErrorKind::BrokenPipe) or
    ///   [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): the peer is gone, or the stream is shut
    ///   down.
    /// - [`InvalidData`](io::ErrorKind::InvalidData): the peer sent something other than an answer.
    ///   The stream is shut down.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `handle` is null.
    /// - Those of writes. If one fails in the middle of a message, or of the exchange, the stream
    ///   is shut down.
    ///
    /// # On Unix
    /// std sends descriptors along with data, by `SCM_RIGHTS` (unstable).
    ///
    /// # Examples
    /// ```
    /// use std::fs::File;
    /// use std::io::Read;
    /// use winpipe::WinStream;
    ///
    /// let (sender, receiver) = WinStream::pair()?;
    /// let other_process = std::thread::spawn(move || receiver.recv_handle());
    /// sender.send_handle(&File::open(std::env::current_exe()?)?)?;
    /// let mut file = File::from(other_process.join().unwrap()?);
    /// let mut start = [0; 2];
    /// file.read_exact(&mut start)?;
    /// assert_eq!(&start, b"MZ");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_handle(&self, handle: &impl AsHandle) -> io::Result<()> {
        let _records = record::hold();
        let write = |bytes: &[u8]| (&mut &*self).write(bytes);
        let mut offer = Exchange::new(self, &write).offer(handle)?;
        offer.make()?;
        let answer = offer.answer(&mut self.reading())?;
        offer.conclude(answer)
    }

    /// Takes the handle that the peer gives with [`send_handle`](Self::send_handle). The new handle
    /// isn't inheritable.
    ///
    /// The read timeout limits the total time that this waits for the peer. If the peer has
    /// withdrawn an offer, this ignores it and waits for the next.
    ///
    /// The handle is duplicated from the process that opened the peer's end of the pipe, and only
    /// if the offer names that process. A peer can't make this return one of this process's own
    /// handles, except one that this process is sending at that moment. The peer chooses which
    /// object the handle refers to, so check it before you rely on it.
    ///
    /// Windows doesn't notice when an end is passed on. A process that was given its end by a third
    /// process can name that process's handles as its own, or, once that process has ended, those
    /// of another that got the same process id. And a client on another computer
    /// ([`reject_remote(false)`](crate::ListenOptions::reject_remote)) can name any process here.
    /// Don't call this with such peers unless you trust them.
    ///
    /// This corresponds to calling `OpenProcess` and `DuplicateHandle`.
    ///
    /// # Errors
    /// After an error no handle was taken.
    /// - [`TimedOut`](io::ErrorKind::TimedOut) or [`WouldBlock`](io::ErrorKind::WouldBlock): call
    ///   this again to go on. If an offer has arrived already, reads fail with
    ///   [`ResourceBusy`](io::ErrorKind::ResourceBusy) until then.
    /// - [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) or
    ///   [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, or the stream is shut down.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): this process isn't allowed to open
    ///   the peer's (`PROCESS_DUP_HANDLE`), or the peer uses an end of the pipe that another
    ///   process opened.
    /// - [`InvalidData`](io::ErrorKind::InvalidData): the offer names no open handle; or the peer
    ///   sent something other than an offer, which is lost, and the stream is shut down.
    /// - Those of reads and writes.
    ///
    /// # Examples
    /// See [`send_handle`](Self::send_handle).
    pub fn recv_handle(&self) -> io::Result<OwnedHandle> {
        let _records = record::hold();
        let write = |bytes: &[u8]| (&mut &*self).write(bytes);
        Exchange::new(self, &write).receive(&mut self.reading())
    }
}

/// One side of an exchange on a stream. Each half of the crate writes in its own way.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    stream: &'a WinStream,
    write: &'a (dyn Fn(&[u8]) -> io::Result<usize> + Sync),
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        stream: &'a WinStream,
        write: &'a (dyn Fn(&[u8]) -> io::Result<usize> + Sync),
    ) -> Exchange<'a> {
        Exchange { stream, write }
    }

    /// Receives a handle as part of `call`. If there was nothing to read, call it again to go on.
    pub(crate) fn receive(self, call: &mut Call<'_>) -> io::Result<OwnedHandle> {
        let handoff = self.stream.handoff();
        loop {
            // This may also be an offer that an earlier call left.
            self.answer_offer()?;
            let message = match self.read_message(call) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let received = handoff.change(|state| state.received.take());
                    // The reason for the refusal says more.
                    let refused = received.and_then(|received| received.taken.err());
                    return Err(refused.unwrap_or(error));
                }
                message => message?,
            };
            let received = handoff.change(|state| state.received.take());
            let is_same = received.as_ref().is_some_and(|it| it.id == message.id);
            let taken = received.map(|received| received.taken);
            match (message.step, taken) {
                (Step::Offered, None) => {
                    let received = Received {
                        id: message.id,
                        taken: self.take(&message),
                        is_answered: false,
                    };
                    handoff.change(|state| state.received = Some(received));
                }
                (Step::Given, Some(taken @ Ok(_))) if is_same => return taken,
                (Step::Refused, Some(taken @ Err(_))) if is_same => return taken,
                (Step::Withdrawn, Some(_)) if is_same => {}
                _ => return Err(self.stream.give_up(no_exchange())),
            }
        }
    }

    /// Answers the offer that was read last, if there is one and it isn't answered yet.
    fn answer_offer(self) -> io::Result<()> {
        let handoff = self.stream.handoff();
        let answer = handoff.change(|state| match &state.received {
            Some(received) if !received.is_answered => {
                let step = match received.taken {
                    Ok(_) => Step::Taken,
                    Err(_) => Step::Refused,
                };
                Some(Message::new(step, received.id))
            }
            _ => None,
        });
        if let Some(answer) = answer {
            self.write_message(&answer)?;
            handoff.change(|state| {
                if let Some(received) = &mut state.received {
                    received.is_answered = true;
                }
            });
        }
        Ok(())
    }

    /// Duplicates the offered handle.
    fn take(self, offer: &Message) -> io::Result<OwnedHandle> {
        if offer.process == process::id() {
            let offers = offers();
            let found = offers.iter().find(|(id, _)| *id == offer.id);
            let copy = found.map(|(_, copy)| Arc::clone(copy));
            drop(offers);
            return match copy {
                Some(copy) => copy.try_clone(),
                None => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the offer claims to come from this process, which isn't making such an offer \
                     now",
                )),
            };
        }
        let using = |code: Code| code.explain(Doing::Using);
        let is_server = self.stream.is_server()?;
        let recorded = self.stream.pipe.peer_process_id(is_server).map_err(using)?;
        if recorded != offer.process {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "the handle is offered by process {}, but process {recorded} opened the \
                     peer's end of the pipe: only the process that opened an end can send handles",
                    offer.process
                ),
            ));
        }
        Process::open(recorded)?.duplicate_handle(offer.number)
    }

    /// Reads the answer to the offer `id`, and skips those to offers that were withdrawn before.
    fn read_answer(self, id: u128, call: &mut Call<'_>) -> io::Result<Step> {
        loop {
            let message = self.read_message(call)?;
            let is_answer = matches!(message.step, Step::Taken | Step::Refused);
            let due = self
                .stream
                .handoff()
                .change(|state| state.unanswered.pop_front());
            if !is_answer || due != Some(message.id) {
                return Err(self.stream.give_up(no_exchange()));
            }
            if message.id == id {
                return Ok(message.step);
            }
        }
    }

    /// Reads one message. On an error nothing was taken, or the stream is shut down.
    fn read_message(self, call: &mut Call<'_>) -> io::Result<Message> {
        // A peer that sends without end must not keep this call from timing out.
        if call.may_wait() == Err(Stop::TimedOut) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut bytes = [0; Message::LEN];
        let mut len = 0;
        while len < Message::LEN {
            match self.stream.read_under(&mut bytes[len..], call) {
                Ok(0) => {
                    // No answer comes any more, and reads may see the end.
                    self.stream
                        .handoff()
                        .change(|state| state.unanswered.clear());
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the stream ended before the handle was handed over",
                    ));
                }
                Ok(count) => {
                    len += count;
                    if !Message::can_begin_with(&bytes[..len]) {
                        return Err(self.stream.give_up(no_exchange()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if len == 0 => return Err(error),
                Err(error) => {
                    let error = cut_short(error, io::ErrorKind::InvalidData);
                    return Err(self.stream.give_up(error));
                }
            }
        }
        Message::from_bytes(&bytes).ok_or_else(|| self.stream.give_up(no_exchange()))
    }

    /// Writes one message. On an error nothing was sent, or the stream is shut down.
    fn write_message(self, message: &Message) -> io::Result<()> {
        let bytes = message.to_bytes();
        let mut sent = 0;
        while sent < bytes.len() {
            match (self.write)(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if sent == 0 => return Err(error),
                Err(error) => {
                    let error = cut_short(error, io::ErrorKind::BrokenPipe);
                    return Err(self.stream.give_up(error));
                }
            }
        }
        Ok(())
    }
}

impl WinStream {
    /// Shuts down the stream, because it's unknown where a message begins, or because the peer
    /// waits for one that can't be sent. Returns the error that says why.
    fn give_up(&self, error: io::Error) -> io::Error {
        // If the pipe can't carry the mark of the end, at least this end stops.
        let _ = self.shutdown(Shutdown::Both);
        self.handoff().change(std::mem::take);
        error
    }
}

fn no_exchange() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the peer sent something that isn't part of handing over a handle, so the stream is shut \
         down: one side must call send_handle while the other calls recv_handle",
    )
}

/// The error of an exchange that can't go on because a message took too long.
fn cut_short(error: io::Error, kind: io::ErrorKind) -> io::Error {
    match error.kind() {
        // These kinds would suggest trying again, which wouldn't help.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => io::Error::new(
            kind,
            format!("{error} in the middle of handing over a handle, so the stream is shut down"),
        ),
        _ => error,
    }
}

/// An offer of this process. When it's dropped, the offer is closed and the peer is told.
pub(crate) struct Offer<'a> {
    exchange: Exchange<'a>,
    id: u128,
    number: u64,
    /// Whether the peer waits for the conclusion, or will.
    is_made: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn offer(self, handle: &impl AsHandle) -> io::Result<Offer<'a>> {
        // A pseudo-handle, such as that of the process itself, becomes a real one.
        let copy = handle.as_handle().try_clone_to_owned()?;
        let number = copy.as_raw_handle().addr() as u64;
        if number == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the handle is null, so there is nothing to send",
            ));
        }
        let id = process_prng()?;
        offers().push((id, Arc::new(copy)));
        Ok(Offer {
            exchange: self,
            id,
            number,
            is_made: false,
        })
    }
}

impl Offer<'_> {
    /// Sends the offer to the peer.
    pub(crate) fn make(&mut self) -> io::Result<()> {
        let handoff = self.exchange.stream.handoff();
        handoff.change(|state| state.unanswered.push_back(self.id));
        self.is_made = true;
        let offer = Message {
            process: process::id(),
            number: self.number,
            ..Message::new(Step::Offered, self.id)
        };
        self.exchange.write_message(&offer).inspect_err(|_| {
            // There will be no answer to it.
            handoff.change(|state| state.unanswered.retain(|&id| id != self.id));
            self.is_made = false;
        })
    }

    /// Reads the peer's answer as part of `call`. If there was nothing to read, call it again to go
    /// on.
    pub(crate) fn answer(&self, call: &mut Call<'_>) -> io::Result<Step> {
        self.exchange.read_answer(self.id, call)
    }

    /// Concludes the offer after the answer.
    pub(crate) fn conclude(&mut self, answer: Step) -> io::Result<()> {
        match answer {
            Step::Taken => self.tell(Step::Given),
            _ => {
                self.tell(Step::Refused)?;
                Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the peer couldn't take the handle: it must be allowed to open this process, \
                     and this process must have opened its end of the pipe itself",
                ))
            }
        }
    }

    fn tell(&mut self, step: Step) -> io::Result<()> {
        let concluded = self.exchange.write_message(&Message::new(step, self.id));
        self.is_made = false;
        // The peer waits for this message. Without it, it must see the end.
        concluded.map_err(|error| {
            let error = cut_short(error, io::ErrorKind::BrokenPipe);
            self.exchange.stream.give_up(error)
        })
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        let mut offers = offers();
        let at = offers.iter().position(|(id, _)| *id == self.id);
        let closed = at.map(|at| offers.swap_remove(at));
        drop(offers);
        drop(closed);
        if self.is_made {
            let withdrawn = Message::new(Step::Withdrawn, self.id).to_bytes();
            let stream = self.exchange.stream;
            if !stream.write_at_once(&withdrawn) {
                stream.give_up(io::ErrorKind::BrokenPipe.into());
            }
        }
    }
}
