//! Handles that go from one process to another.
//!
//! The receiver takes; the sender doesn't put. A number that the peer sends is looked up in the *peer's*
//! table of handles, so it can't be made to mean a handle that the receiver has for itself. The sender
//! offers a copy of its own, so that the number means the same object until the receiver has
//! answered, or the sender's end of the pipe is closed; and the receiver looks at that last.

use std::io::{self, Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};

use crate::WinStream;
use crate::sys::error::{Code, Doing};
use crate::sys::record;
use crate::sys::security::Process;

impl WinStream {
    /// Gives the peer, a process that takes part, a handle of its own to what `handle` is open to: a
    /// file, a pipe, an event. This one's stays its own.
    ///
    /// The peer calls [`recv_handle`](Self::recv_handle) at that point of the conversation. This
    /// returns when the peer has it, or has failed to get it; until then the peer must write
    /// nothing else to this stream, and nobody else read from it. The read and the write timeout
    /// hold.
    ///
    /// Whatever happens in between, nothing is lost or shared by mistake: the peer takes its handle
    /// from a copy of ours that stays open until it has said so, or until this stream and its
    /// clones are dropped.
    ///
    /// # Errors
    /// - [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone. Whether it got its handle
    ///   makes no difference then.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the peer couldn't take it: it must
    ///   be allowed to open this process (`PROCESS_DUP_HANDLE`), as one of the same user is.
    /// - [`InvalidData`](io::ErrorKind::InvalidData): the peer answered something else.
    /// - Those of reads and writes. After a time-out the peer may still take the handle.
    ///
    /// # On Unix
    /// std's `SCM_RIGHTS` (unstable) goes along with data.
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
        // A copy, so that its number means this object for as long as the peer may ask for it.
        let copy = handle.as_handle().try_clone_to_owned()?;
        let number = copy.as_raw_handle().addr() as u64;
        self.offers().push(copy);
        let mut stream = self;
        stream.write_all(
            &Offer {
                number,
                is: Offer::MADE,
            }
            .to_bytes(),
        )?;
        let taken = loop {
            match self.read_offer()? {
                // The answer to an offer that timed out.
                answer if answer.number != number && answer.is != Offer::MADE => {
                    self.withdraw(answer.number);
                }
                answer => break answer,
            }
        };
        match taken.is {
            Offer::TAKEN => self.withdraw(number),
            Offer::FAILED => {
                self.withdraw(number);
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the peer couldn't take the handle: it has to be allowed to open this process",
                ));
            }
            _ => return Err(no_offer()),
        }
        Ok(())
    }

    /// Takes the handle that the peer gives with [`send_handle`](Self::send_handle). The read and
    /// the write timeout hold. The new handle isn't inheritable.
    ///
    /// The handle is duplicated from the peer's process, and its number means nothing here. Call this
    /// only with a peer that doesn't mean to cheat: one that passes its end of the pipe on and ends,
    /// may let its number be another process's.
    ///
    /// This corresponds to calling `OpenProcess` and `DuplicateHandle`.
    ///
    /// # Errors
    /// - [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) or
    ///   [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, and no handle was taken.
    /// - [`InvalidData`](io::ErrorKind::InvalidData): the peer sent something else, which is lost,
    ///   or offers no handle.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): this process may not open the
    ///   peer's.
    /// - Those of reads and writes.
    ///
    /// # Examples
    /// See [`send_handle`](Self::send_handle).
    pub fn recv_handle(&self) -> io::Result<OwnedHandle> {
        let _records = record::hold();
        let offer = self.read_offer()?;
        if offer.is != Offer::MADE {
            return Err(no_offer());
        }
        let taken = self.take(offer.number);
        let is = if taken.is_ok() {
            Offer::TAKEN
        } else {
            Offer::FAILED
        };
        // A peer that is gone needn't know.
        let mut stream = self;
        let _ = stream.write_all(&Offer { is, ..offer }.to_bytes());
        taken
    }

    fn take(&self, number: u64) -> io::Result<OwnedHandle> {
        let using = |code: Code| code.explain(Doing::Using);
        let is_server = self.is_server()?;
        let id = self.pipe.peer_process_id(is_server).map_err(using)?;
        let handle = Process::open(id)?.duplicate_handle(number)?;
        // While the peer's end is open, so is the copy that it offered: then the handle is the one
        // meant. Had the peer gone, its process's number could be another's by now.
        match self.pipe.local_information().map_err(using)?.is_closing {
            true => Err(using(Code::NO_DATA)),
            false => Ok(handle),
        }
    }

    fn withdraw(&self, number: u64) {
        self.offers()
            .retain(|copy| copy.as_raw_handle().addr() as u64 != number);
    }

    fn read_offer(&self) -> io::Result<Offer> {
        let mut bytes = [0; Offer::LEN];
        let mut stream = self;
        stream.read_exact(&mut bytes)?;
        Offer::from_bytes(&bytes).ok_or_else(no_offer)
    }
}

fn no_offer() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the peer speaks of no handle: both must call send_handle and recv_handle in turn",
    )
}

/// What two processes say to each other about a handle.
struct Offer {
    /// The handle in the sender's process.
    number: u64,
    is: u8,
}

impl Offer {
    const MADE: u8 = 1;
    const TAKEN: u8 = 2;
    const FAILED: u8 = 3;
    const MARK: &[u8; 7] = b"winpipe";
    const LEN: usize = 16;

    fn to_bytes(&self) -> [u8; Offer::LEN] {
        let mut bytes = [0; Offer::LEN];
        bytes[..7].copy_from_slice(Offer::MARK);
        bytes[7] = self.is;
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Offer::LEN]) -> Option<Offer> {
        let (mark, number) = bytes.split_at(8);
        let number = u64::from_le_bytes(number.try_into().ok()?);
        (mark[..7] == Offer::MARK[..]).then_some(Offer {
            number,
            is: mark[7],
        })
    }
}
