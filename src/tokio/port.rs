//! How the async half waits: one completion port and one thread for the whole process, both made at
//! the first wait.
//!
//! **A request is on the list from before it's issued until its packet has come.** The list keeps
//! what owns it alive meanwhile. A packet counts only if its request is on the list, for the handle
//! whose key it has, and if its owner finds that the request is over (`sys::port`).
//!
//! **The user's code runs under no lock**: a waker is cloned before a lock is taken, and woken or
//! dropped after. If a waker panics, the panic ends in [`wake`].

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use std::os::windows::io::AsHandle;

use crate::lock::unpoisoned;
use crate::sys::error::{Code, Doing};
use crate::sys::operation::Transferred;
use crate::sys::port::{self, CompletionPort, Packet, Request};
use crate::sys::record;
use crate::wait::milliseconds;

/// What owns a request.
pub(crate) trait Owner: Send + Sync {
    /// Called when a packet with the request's address has come, under no lock. If the request is
    /// over, the owner takes it [off the list](take_off) before it can be issued again.
    fn packet(self: Arc<Self>, address: usize);
}

/// The completion port of this process.
pub(crate) struct Port {
    port: CompletionPort,
    requests: Mutex<HashMap<usize, Issued>>,
    /// The tasks that pause, by the time at which they go on.
    pauses: Mutex<BTreeMap<(Instant, u64), Waker>>,
}

/// A request on the list. It's to be dropped under no lock, as it may be the last of its owner.
pub(crate) struct Issued {
    key: usize,
    owner: Arc<dyn Owner>,
}

impl Port {
    /// Returns the port. The first call creates it, and its thread.
    fn of_this_process() -> io::Result<&'static Port> {
        static PORT: OnceLock<Arc<Port>> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());

        if let Some(port) = PORT.get() {
            return Ok(port);
        }
        let _starting = unpoisoned(STARTING.lock());
        if let Some(port) = PORT.get() {
            return Ok(port);
        }
        port::pin_module().map_err(|code| code.explain(Doing::Using))?;
        let new = Arc::new(Port {
            port: CompletionPort::new().map_err(|code| code.explain(Doing::Using))?,
            requests: Mutex::default(),
            pauses: Mutex::default(),
        });
        let port = Arc::clone(&new);
        #[expect(
            clippy::disallowed_methods,
            reason = "the one thread of the async half"
        )]
        thread::Builder::new()
            .name("winpipe".into())
            .spawn(move || port.run())?;
        Ok(PORT.get_or_init(|| new))
    }

    /// Handles packets and pauses, for as long as the process runs.
    fn run(&self) {
        let mut packets = Vec::new();
        loop {
            let _records = record::hold();
            if let Err(code) = self.port.wait(&mut packets, self.until_next_pause()) {
                if code != Code::WAIT_TIMEOUT {
                    // Somebody has closed the port's handle. Nothing can be done, but slowly.
                    thread::park_timeout(Duration::from_millis(100));
                }
            }
            for packet in packets.drain(..) {
                self.handle(packet);
            }
            self.end_pauses();
        }
    }

    fn handle(&self, packet: Packet) {
        let owner = match self.requests().get(&packet.address) {
            Some(issued) if issued.key == packet.key => Arc::clone(&issued.owner),
            _ => return,
        };
        owner.packet(packet.address);
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<usize, Issued>> {
        unpoisoned(self.requests.lock())
    }

    fn pauses(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), Waker>> {
        unpoisoned(self.pauses.lock())
    }

    fn until_next_pause(&self) -> u32 {
        match self.pauses().first_key_value() {
            None => u32::MAX,
            Some(((end, _), _)) => milliseconds(end.saturating_duration_since(Instant::now())),
        }
    }

    fn end_pauses(&self) {
        let now = Instant::now();
        let mut pauses = self.pauses();
        let later = pauses.split_off(&(now, u64::MAX));
        let over = std::mem::replace(&mut *pauses, later);
        drop(pauses);
        wake(over.into_values());
    }
}

/// Whether a file object is associated with the port, and by which key. Duplicates of a handle share
/// the file object, so they must share this, too.
#[derive(Debug, Default)]
pub(crate) struct Association(AtomicUsize);

impl Association {
    pub(crate) fn is_made(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Associates the handle, unless that has been done. Calls for the same file object must not
    /// overlap.
    fn make(&self, port: &Port, handle: &impl AsHandle) -> io::Result<usize> {
        static LAST: AtomicUsize = AtomicUsize::new(0);

        match self.0.load(Ordering::Relaxed) {
            0 => {
                let key = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                port.port
                    .associate(handle, key)
                    .map_err(Code::explain_association)?;
                self.0.store(key, Ordering::Relaxed);
                Ok(key)
            }
            key => Ok(key),
        }
    }
}

/// Issues a request on `handle`: calls `issue`, whose packet then goes to `owner`. Called under the
/// lock that also guards `request` in [`Owner::packet`]. The error in the result is that of the
/// request. If the request can't be waited for at all, the call fails with the outer one.
pub(crate) fn issue(
    association: &Association,
    handle: &impl AsHandle,
    owner: Arc<dyn Owner>,
    request: &mut Request,
    issue: impl FnOnce(&mut Request) -> Result<Option<Transferred>, Code>,
) -> io::Result<Result<Option<Transferred>, Code>> {
    let port = Port::of_this_process()?;
    let key = association.make(port, handle)?;
    let address = request.address();
    port.requests().insert(address, Issued { key, owner });
    let issued = issue(request);
    if issued.is_err() {
        let issued = port.requests().remove(&address);
        drop(issued);
    }
    Ok(issued)
}

/// Takes a request that is over off the list. Called under the lock that guards the request.
#[must_use]
pub(crate) fn take_off(address: usize) -> Option<Issued> {
    let port = Port::of_this_process().ok()?;
    port.requests().remove(&address)
}

/// Wakes tasks. Called under no lock.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            // The panic's payload is also the user's, and may panic when it's dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        }
    }
}

/// Who waits: a future, or all that is polled through a stream or a listener, of which the task that
/// polled last is woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter(u64);

impl Waiter {
    /// One that differs from all others.
    pub(crate) fn new() -> Waiter {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Waiter(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The tasks that wait for one thing.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    first: Option<(Waiter, Waker)>,
    /// Usually there are none, and then they take almost no memory.
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others(Vec<(Waiter, Waker)>);

impl Wakers {
    /// Adds a task, in place of the one that the waiter had. Returns a waker to be dropped after the
    /// lock is released.
    #[must_use]
    pub(crate) fn add(&mut self, waiter: Waiter, waker: Waker) -> Option<Waker> {
        let others = self.others.iter_mut().flat_map(|others| &mut others.0);
        let mut all = self.first.iter_mut().chain(others);
        if let Some((_, old)) = all.find(|(it, _)| *it == waiter) {
            return Some(std::mem::replace(old, waker));
        }
        match self.first {
            None => self.first = Some((waiter, waker)),
            Some(_) => self.others.get_or_insert_default().0.push((waiter, waker)),
        }
        None
    }

    /// Removes a task. Returns its waker, to be dropped after the lock is released.
    #[must_use]
    pub(crate) fn remove(&mut self, waiter: Waiter) -> Option<Waker> {
        if self.first.as_ref().is_some_and(|(it, _)| *it == waiter) {
            return self.first.take().map(|(_, waker)| waker);
        }
        let others = &mut self.others.as_mut()?.0;
        let at = others.iter().position(|(it, _)| *it == waiter)?;
        Some(others.swap_remove(at).1)
    }

    /// Takes all of them, to be woken after the lock is released.
    #[must_use]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        let others = self.others.take().map_or(Vec::new(), |others| others.0);
        let all = self.first.take().into_iter().chain(others);
        all.map(|(_, waker)| waker).collect()
    }
}

/// A pause, which needs no timer of a runtime.
pub(crate) struct Pause {
    end: (Instant, u64),
    is_entered: bool,
}

impl Pause {
    pub(crate) fn new(duration: Duration) -> Pause {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Pause {
            end: (Instant::now() + duration, number),
            is_entered: false,
        }
    }
}

impl Future for Pause {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.0 <= Instant::now() {
            return Poll::Ready(Ok(()));
        }
        let port = Port::of_this_process()?;
        let waker = context.waker().clone();
        let mut pauses = port.pauses();
        let _old = pauses.insert(self.end, waker);
        let is_first = pauses.first_key_value().map(|(end, _)| *end) == Some(self.end);
        drop(pauses);
        let is_new = !std::mem::replace(&mut self.is_entered, true);
        // The thread may be waiting for longer.
        if is_first && is_new {
            let posted = port.port.post();
            posted.map_err(|code| code.explain(Doing::Using))?;
        }
        Poll::Pending
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if !self.is_entered {
            return;
        }
        if let Ok(port) = Port::of_this_process() {
            let waker = port.pauses().remove(&self.end);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use crate::sys::pipe::{self, Instance};
    use crate::sys::port::Arrival;

    /// A request, and whether it's over.
    struct One(Mutex<Request>, AtomicBool);

    impl Owner for One {
        fn packet(self: Arc<One>, address: usize) {
            if unpoisoned(self.0.lock()).arrived() != Arrival::Foreign {
                self.1.store(true, Ordering::SeqCst);
                drop(take_off(address));
            }
        }
    }

    #[test]
    fn a_forged_packet_concludes_nothing() {
        let device = pipe::open_device().unwrap();
        let pipe = pipe::create_named_pipe(Instance::unnamed(&device, true, 64)).unwrap();
        let peer = pipe::open_peer(&pipe).unwrap();
        let one = Arc::new(One(Mutex::new(Request::new()), AtomicBool::new(false)));
        let association = Association::default();
        let mut request = one.0.lock().unwrap();
        let owner = Arc::clone(&one) as Arc<dyn Owner>;
        let read = |request: &mut Request| request.read_nothing(&pipe);
        let issued = issue(&association, &pipe, owner, &mut request, read);
        assert_eq!(issued.unwrap().unwrap(), None);
        let (key, address) = (association.0.load(Ordering::Relaxed), request.address());
        drop(request);
        let port = Port::of_this_process().unwrap();
        for packet in [
            Packet { key, address },
            Packet {
                key: key + 1,
                address,
            },
            Packet {
                key,
                address: address + 8,
            },
            Packet { key: 0, address: 0 },
        ] {
            port.handle(packet);
            assert!(!one.1.load(Ordering::SeqCst));
            assert!(port.requests().contains_key(&address), "it's kept alive");
        }
        // One with another handle's key does nothing even when the request is over.
        let request = one.0.lock().unwrap();
        port.requests().get_mut(&address).unwrap().key = usize::MAX;
        peer.write_file(b"x", &mut |_| {}).unwrap();
        drop(request);
        for _ in 0..100 {
            port.handle(Packet { key, address });
        }
        assert!(!one.1.load(Ordering::SeqCst));
        port.handle(Packet {
            key: usize::MAX,
            address,
        });
        assert!(one.1.load(Ordering::SeqCst));
        assert!(!port.requests().contains_key(&address));
    }

    #[test]
    fn every_waiter_is_woken_once_by_its_last_waker() {
        struct Count(AtomicUsize);

        impl Wake for Count {
            fn wake(self: Arc<Count>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }

        let counts: [Arc<Count>; 4] = std::array::from_fn(|_| Arc::new(Count(0.into())));
        let waker = |number: usize| Waker::from(Arc::clone(&counts[number]));
        let [one, two, three] = [(); 3].map(|()| Waiter::new());
        let mut wakers = Wakers::default();
        assert!(wakers.add(one, waker(0)).is_none());
        assert!(wakers.add(two, waker(1)).is_none());
        assert!(wakers.add(three, waker(2)).is_none());
        assert!(wakers.add(two, waker(3)).is_some(), "the old one");
        assert!(wakers.remove(one).is_some());
        assert!(wakers.remove(one).is_none());
        wake(wakers.take());
        wake(wakers.take());
        let woken = counts
            .each_ref()
            .map(|count| count.0.load(Ordering::SeqCst));
        assert_eq!(woken, [0, 0, 1, 1]);
    }
}
