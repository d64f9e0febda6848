//! How an async client connects: as `connect` does, but waiting for a packet.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::addr::WinPipeSocketAddr;
use crate::connect::{Dial, Next};
use crate::lock::unpoisoned;
use crate::options::ConnectOptions;
use crate::protocol::dialing::Answer;
use crate::stream::WinStream;
use crate::sys::error::Code;
use crate::sys::pipe::{self, Device};
use crate::sys::port::{Arrival, Request};
use crate::sys::record;
use crate::sys::text::wide;
use crate::tokio::port::{self, Association, Owner, Pause, wake};
use crate::wait::milliseconds;

/// Connects according to the options.
pub(super) async fn connect(
    addr: &WinPipeSocketAddr,
    options: &ConnectOptions,
) -> io::Result<WinStream> {
    if addr.has_host() {
        // Windows opens a pipe on another computer in one call, which may take long.
        let (addr, options) = (addr.clone(), options.clone());
        let connect = move || options.connect_addr(&addr);
        return tokio::task::spawn_blocking(connect).await?;
    }
    let path = addr.win32_path()?;
    let name = path.strip_prefix(r"\\.\pipe\").unwrap_or(&path);
    let mut dial = Dial::new(addr, options)?;
    let mut answer = None;
    loop {
        let next = {
            let _records = record::hold();
            dial.next(answer)?
        };
        answer = Some(match next {
            Next::Connected(stream) => return Ok(stream),
            Next::Wait(longest) => wait(name, longest).await,
            Next::Pause(pause) => {
                Pause::new(pause).await?;
                Answer::Paused
            }
        });
    }
}

/// Waits until an instance of the pipe is listening, for at most this long.
async fn wait(name: &str, longest: Duration) -> Answer {
    let waiting = match Waiting::new(name, longest) {
        Ok(waiting) => waiting,
        Err(answer) => return answer,
    };
    poll_fn(|context| {
        let waker = context.waker().clone();
        let mut state = unpoisoned(waiting.0.state.lock());
        let answer = state.answer;
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        answer.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// A wait for an instance. When it's dropped, it's cancelled.
struct Waiting(Arc<Shared>);

/// What lasts until the packet has come.
struct Shared {
    /// Of its own, so that no other call associates it.
    device: Device,
    state: Mutex<State>,
}

struct State {
    request: Request,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Waiting {
    fn new(name: &str, longest: Duration) -> Result<Waiting, Answer> {
        let _records = record::hold();
        let name = wide(name);
        let name = &name[..name.len() - 1];
        let device = pipe::open_overlapped_device().map_err(|_| Answer::CannotWait)?;
        let state = Mutex::new(State {
            request: Request::new(),
            answer: None,
            waker: None,
        });
        let shared = Arc::new(Shared { device, state });
        let device = &shared.device;
        let mut state = unpoisoned(shared.state.lock());
        let association = Association::default();
        let owner = Arc::clone(&shared) as Arc<dyn Owner>;
        let wait = |request: &mut Request| {
            request.wait_named_pipe(device, name, milliseconds(longest).max(1))
        };
        let issued = port::issue(&association, device, owner, &mut state.request, wait);
        drop(state);
        match issued {
            Ok(Ok(None)) => Ok(Waiting(shared)),
            Ok(Ok(Some(_))) => Err(Answer::Listening),
            Ok(Err(code)) => Err(answer(Err(code))),
            // Without a port there is no pause either, which returns the error.
            Err(_) => Err(Answer::CannotWait),
        }
    }
}

fn answer(result: Result<(), Code>) -> Answer {
    match result {
        Ok(()) => Answer::Listening,
        Err(Code::SEM_TIMEOUT) => Answer::TimedOut,
        Err(_) => Answer::CannotWait,
    }
}

impl Owner for Shared {
    fn packet(self: Arc<Shared>, address: usize) {
        let mut state = unpoisoned(self.state.lock());
        let is_mine = state.request.address() == address;
        match is_mine.then(|| state.request.arrived()) {
            None | Some(Arrival::Foreign) => return,
            Some(Arrival::Free) => {}
            Some(Arrival::Over(result)) => state.answer = Some(answer(result.map(drop))),
        }
        let waker = state.waker.take();
        let issued = port::take_off(address);
        drop(state);
        drop(issued);
        wake(waker);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _records = record::hold();
        let mut state = unpoisoned(self.0.state.lock());
        state.request.cancel(&self.0.device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::WinListener;
    use crate::sys::fault;

    #[test]
    fn where_waiting_is_not_possible_an_async_client_pauses_between_its_attempts() {
        let path = format!(r"\\.\pipe\winpipe-async-container-{}", std::process::id());
        let listener = WinListener::options().backlog(1).bind(&path).unwrap();
        let _client = WinStream::connect(&path).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut options = ConnectOptions::new();
        options.timeout(Duration::from_millis(200));
        // Without a timer, and on this thread, whose calls fail.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.build().unwrap();
        // The answer in Windows containers.
        fault::inject_times("NtFsControlFile", Code::FILE_NOT_FOUND, u32::MAX);
        let error = runtime.block_on(connect(&addr, &options)).unwrap_err();
        let attempts = u32::MAX - fault::call_off();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        assert!((1..=20).contains(&attempts), "{attempts} attempts");
    }
}
