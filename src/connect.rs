//! How a client connects: it opens the pipe, or waits for it, and checks its owner.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::access::{Impersonation, Server};
use crate::account;
use crate::addr::WinPipeSocketAddr;
use crate::options::ConnectOptions;
use crate::protocol::dialing::{Answer, Dialing, Step};
use crate::stream::{WinStream, facts_of};
use crate::sys::error::{Code, Doing};
use crate::sys::pipe::{self, Pipe, Quality};
use crate::sys::record;
use crate::sys::text::wide;
use crate::wait::milliseconds;

impl ConnectOptions {
    /// Connects to the pipe at the given path.
    ///
    /// # Errors
    /// Those of [`WinStream::connect`]. With [`expect_server`](Self::expect_server) also:
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the pipe doesn't belong to the
    ///   expected server.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): the path names a computer, and
    ///   [`impersonation`](Self::impersonation) would let the server act as the client.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ConnectOptions, Server, WinListener};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-options-connect-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let stream = ConnectOptions::new().expect_server(Server::CurrentUser).connect(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<WinStream> {
        self.connect_addr(&WinPipeSocketAddr::from_pathname(path)?)
    }

    /// Connects to the pipe at the given address, as [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`InvalidInput`](io::ErrorKind::InvalidInput) for
    /// an unnamed address.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ConnectOptions, WinListener};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-options-connect-addr-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let stream = ConnectOptions::new().connect_addr(&listener.local_addr()?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_addr(&self, addr: &WinPipeSocketAddr) -> io::Result<WinStream> {
        connect(addr, self)
    }
}

/// Connects according to the options.
fn connect(addr: &WinPipeSocketAddr, options: &ConnectOptions) -> io::Result<WinStream> {
    let records = record::hold();
    let mut dial = Dial::new(addr, options)?;
    let mut answer = None;
    loop {
        let next = dial.next(answer)?;
        records.write();
        answer = Some(match next {
            Next::Connected(stream) => return Ok(stream),
            // 0 and 1 have special meanings.
            Next::Wait(longest) => {
                match pipe::wait_named_pipe(&dial.path, milliseconds(longest).max(2)) {
                    Ok(()) => Answer::Listening,
                    Err(Code::SEM_TIMEOUT) => Answer::TimedOut,
                    Err(_) => Answer::CannotWait,
                }
            }
            Next::Pause(pause) => {
                #[expect(clippy::disallowed_methods, reason = "no event is set when it's there")]
                std::thread::sleep(pause);
                Answer::Paused
            }
        });
    }
}

/// A call that connects, up to where it has to wait. Each half of the crate waits in its own way.
pub(crate) struct Dial {
    addr: WinPipeSocketAddr,
    path: Vec<u16>,
    quality: Quality,
    tracking: bool,
    expected: Option<Server>,
    deadline: Option<Instant>,
    dialing: Dialing,
    /// Why the last attempt failed.
    code: Code,
}

/// How a call that connects goes on.
pub(crate) enum Next {
    Connected(WinStream),
    /// Wait until an instance is listening, for at most this long.
    Wait(Duration),
    /// Do nothing for this long.
    Pause(Duration),
}

impl Dial {
    pub(crate) fn new(addr: &WinPipeSocketAddr, options: &ConnectOptions) -> io::Result<Dial> {
        Ok(Dial {
            addr: addr.clone(),
            path: wide(&addr.win32_path()?),
            quality: match options.impersonation {
                Impersonation::Anonymous => Quality::Anonymous,
                Impersonation::Identification => Quality::Identification,
                Impersonation::Impersonation => Quality::Impersonation,
                Impersonation::Delegation => Quality::Delegation,
            },
            tracking: options.tracks(addr)?,
            expected: options.expected,
            deadline: Instant::now().checked_add(options.timeout),
            dialing: Dialing::new(options.wait_for_server),
            code: Code::FILE_NOT_FOUND,
        })
    }

    /// Connects, or says what to do before the next call, which gets the answer to it.
    pub(crate) fn next(&mut self, mut answer: Option<Answer>) -> io::Result<Next> {
        loop {
            let left = match self.deadline {
                None => Duration::MAX,
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            match answer.map_or(Step::Open, |answer| self.dialing.next(answer, left)) {
                Step::Open => {}
                Step::Wait(longest) => return Ok(Next::Wait(longest)),
                Step::Pause(pause) => return Ok(Next::Pause(pause)),
                Step::Refuse => return Err(self.code.refused()),
                Step::Fail => return Err(self.code.explain(Doing::Connecting)),
            }
            match pipe::create_file(&self.path, self.quality, self.tracking) {
                Ok(pipe) => return client(pipe, &self.addr, self.expected).map(Next::Connected),
                Err(code) => self.code = code,
            }
            answer = Some(match self.code {
                Code::PIPE_BUSY => Answer::Busy,
                Code::FILE_NOT_FOUND => Answer::Missing,
                _ => Answer::Failed,
            });
        }
    }
}

/// Creates a stream from the client's end of a pipe.
fn client(pipe: Pipe, addr: &WinPipeSocketAddr, expected: Option<Server>) -> io::Result<WinStream> {
    if let Some(expected) = expected {
        account::expect(&pipe, expected)?;
    }
    // It's no error if the server has already answered and closed: the answer can still be read.
    let facts = facts_of(&pipe).map_err(|code| code.explain(Doing::Using))?;
    if facts.has_messages {
        match pipe.set_named_pipe_handle_state(true) {
            Err(code) if !code.is_peer_gone() => return Err(code.explain(Doing::Using)),
            _ => {}
        }
    }
    Ok(WinStream::new(
        pipe,
        WinPipeSocketAddr::UNNAMED,
        addr.clone(),
        facts,
    ))
}
