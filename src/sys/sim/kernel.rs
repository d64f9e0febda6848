//! The named pipe file system: names, instances, and the two queues of each instance. Numbers in
//! brackets refer to facts in the ledger.
//!
//! A request is completed only under the lock of its instance. No records are written here, because
//! a logger must not run under a lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::operation::{Done, Issued, Request};
use super::unpoisoned;
use crate::sys::error::Code;

/// For each folded name, the instances whose server's end is open, in the order in which they began to
/// listen.
type Names = BTreeMap<Vec<u16>, Vec<Arc<Instance>>>;

/// The namespace. Its lock is taken before an instance's.
static NAMES: Mutex<Names> = Mutex::new(BTreeMap::new());

/// Notified when an instance begins to listen, and when a name becomes free.
static NAMES_CHANGED: Condvar = Condvar::new();

/// One of the two ends of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Server = 0,
    Client = 1,
}

/// [5.3] The state of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Listening,
    Connected,
    /// One end is closed.
    Closing,
}

/// What is set when an instance is created, whether it's the first of its name or not.
pub(super) struct Settings {
    pub(super) is_message_type: bool,
    /// The quotas in the directions to the server and to the client. [3.7] Each instance has its
    /// own.
    pub(super) quotas: [usize; 2],
    /// How many instances the name may have.
    pub(super) limit: usize,
}

struct Instance {
    /// Folded.
    name: Option<Vec<u16>>,
    settings: Settings,
    pipe: Mutex<Pipe>,
    /// Notified when the peer has read something or is closed.
    drained: Condvar,
}

struct Pipe {
    state: State,
    client: Client,
    /// The pending `ConnectNamedPipe`s.
    connects: Vec<Arc<Request>>,
    /// The directions to the server and to the client.
    ways: [Way; 2],
}

/// [11.7] Whether the server knows the client's identity.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// It's known from the time when the client opened the pipe.
    Known,
    /// It will be known when the server has read a message.
    KnownWhenRead,
    /// [16.1] `ConnectNamedPipe` has forgotten it.
    Forgotten,
}

/// The direction to one end. Either its queue is empty or there are no pending reads.
struct Way {
    quota: usize,
    reads_by_message: bool,
    /// [3.4] Each write is one entry.
    queue: VecDeque<Entry>,
    /// The bytes in it.
    unread: usize,
    /// The pending reads on that end, with their lengths.
    reads: VecDeque<(usize, Arc<Request>)>,
    /// Whether that end was closed with unread entries.
    is_cut_off: bool,
}

struct Entry {
    data: Vec<u8>,
    taken: usize,
    /// The write that queued this entry, while it's pending.
    writer: Option<Arc<Request>>,
}

/// One end. [1.1, 14.1] It's closed when it's dropped, with the last of its handles. What it has
/// sent stays.
pub(super) struct End {
    instance: Arc<Instance>,
    side: Side,
}

/// [12.1] Two names are the same if they differ only in case. Of what isn't ASCII, this folds only what
/// stays one unit.
fn fold(name: &[u16]) -> Vec<u16> {
    let fold = |&unit: &u16| match u8::try_from(unit) {
        Ok(ascii) if ascii.is_ascii() => ascii.to_ascii_lowercase().into(),
        _ => {
            let lower = char::from_u32(unit.into()).map(|unit| unit.to_lowercase().to_string());
            let lower: Vec<u16> = lower
                .iter()
                .flat_map(|lower| lower.encode_utf16())
                .collect();
            if let [lower] = lower[..] { lower } else { unit }
        }
    };
    name.iter().map(fold).collect()
}

/// Creates an instance, which listens [8.1], with or without a name.
pub(super) fn create(name: Option<&[u16]>, first: bool, settings: Settings) -> Result<End, Code> {
    let name = name.map(fold);
    let mut names = unpoisoned(NAMES.lock());
    let existing = name.as_ref().and_then(|name| names.get(name));
    match existing.map(|instances| (instances.len(), instances[0].settings.limit)) {
        Some((count, limit)) if count >= limit => return Err(Code::PIPE_BUSY), // [8.8, 16.6]
        Some(_) if first => return Err(Code::ACCESS_DENIED),                   // [8.7, 16.6]
        None if !first => return Err(Code::FILE_NOT_FOUND),                    // [11.4]
        _ => {}
    }
    let way = |side| Way {
        quota: settings.quotas[side as usize],
        reads_by_message: side == Side::Server && settings.is_message_type,
        queue: VecDeque::new(),
        unread: 0,
        reads: VecDeque::new(),
        is_cut_off: false,
    };
    let pipe = Pipe {
        state: State::Listening,
        client: Client::Known,
        connects: Vec::new(),
        ways: [way(Side::Server), way(Side::Client)],
    };
    let instance = Arc::new(Instance {
        name: name.clone(),
        settings,
        pipe: Mutex::new(pipe),
        drained: Condvar::new(),
    });
    if let Some(name) = name {
        names.entry(name).or_default().push(Arc::clone(&instance));
        NAMES_CHANGED.notify_all(); // [8.6]
    }
    Ok(End {
        instance,
        side: Side::Server,
    })
}

/// Opens the client's end of the instance that has been listening longest [8.3].
pub(super) fn open(name: &[u16], tracking: bool) -> Result<End, Code> {
    let names = unpoisoned(NAMES.lock());
    let instances = names.get(&fold(name));
    let instances = instances.ok_or(Code::FILE_NOT_FOUND)?; // [8.5]
    let opened = instances
        .iter()
        .find_map(|instance| open_instance(instance, tracking).ok());
    opened.ok_or(Code::PIPE_BUSY) // [8.4, 8.5]
}

fn open_instance(instance: &Arc<Instance>, tracking: bool) -> Result<End, Code> {
    let mut pipe = unpoisoned(instance.pipe.lock());
    if pipe.state != State::Listening {
        return Err(Code::PIPE_BUSY); // [8.4]
    }
    pipe.state = State::Connected;
    if tracking {
        pipe.client = Client::KnownWhenRead;
    }
    for connect in pipe.connects.drain(..) {
        connect.complete(Ok(Done::default()));
    }
    Ok(End {
        instance: Arc::clone(instance),
        side: Side::Client,
    })
}

/// Waits until an instance is listening [8.6].
pub(super) fn wait(name: &[u16], limit: Duration) -> Result<(), Code> {
    let name = fold(name);
    let deadline = Instant::now() + limit;
    let mut names = unpoisoned(NAMES.lock());
    loop {
        let instances = names.get(&name).ok_or(Code::FILE_NOT_FOUND)?;
        let is_listening =
            |instance: &Arc<Instance>| unpoisoned(instance.pipe.lock()).state == State::Listening;
        if instances.iter().any(is_listening) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Code::SEM_TIMEOUT);
        }
        let waited = NAMES_CHANGED.wait_timeout(names, left);
        names = unpoisoned(waited).0;
    }
}

impl End {
    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn state(&self) -> State {
        self.lock().state
    }

    pub(super) fn is_message_type(&self) -> bool {
        self.instance.settings.is_message_type
    }

    /// The quota for what this end sends.
    pub(super) fn write_quota(&self) -> usize {
        self.instance.settings.quotas[self.peer()]
    }

    pub(super) fn reads_by_message(&self) -> bool {
        self.lock().ways[self.side as usize].reads_by_message
    }

    pub(super) fn set_reads_by_message(&self, by_message: bool) {
        self.lock().ways[self.side as usize].reads_by_message = by_message;
    }

    /// Opens the other end of this instance.
    pub(super) fn open_peer(&self) -> Result<End, Code> {
        open_instance(&self.instance, false)
    }

    /// [11.7, 16.1] Whether the server can act as its client.
    pub(super) fn impersonate(&self) -> Result<(), Code> {
        let pipe = self.lock();
        match (self.side, pipe.state) {
            (Side::Client, _) => Err(Code::INVALID_FUNCTION),
            (Side::Server, State::Listening) => Err(Code::CANNOT_IMPERSONATE),
            _ if pipe.client == Client::Known => Ok(()),
            _ => Err(Code::CANNOT_IMPERSONATE),
        }
    }

    pub(super) fn connect(&self, request: &Arc<Request>) -> Issued {
        let mut pipe = self.lock();
        match (self.side, pipe.state) {
            (Side::Client, _) => return Some(Err(Code::INVALID_FUNCTION)), // [9]
            (Side::Server, State::Listening) => {
                pipe.connects.push(Arc::clone(request));
                return None;
            }
            _ => {}
        }
        pipe.client = Client::Forgotten; // [16.1]
        Some(Err(match pipe.state {
            State::Closing => Code::NO_DATA, // [8.2]
            _ => Code::PIPE_CONNECTED,       // [8.1]
        }))
    }

    pub(super) fn read(&self, len: usize, request: &Arc<Request>) -> Issued {
        let mut pipe = self.lock();
        let state = pipe.state;
        let way = &mut pipe.ways[self.side as usize];
        // [1.1] Data comes first, whatever the state.
        if way.queue.is_empty() {
            return match state {
                State::Listening => Some(Err(Code::PIPE_LISTENING)), // [9]
                State::Closing => Some(Err(Code::BROKEN_PIPE)),      // [9]
                State::Connected => {
                    way.reads.push_back((len, Arc::clone(request)));
                    None
                }
            };
        }
        let done = way.take(len, false);
        way.settle();
        self.was_read(&mut pipe, self.side);
        Some(Ok(done))
    }

    pub(super) fn write(&self, data: &[u8], request: &Arc<Request>) -> Issued {
        let mut pipe = self.lock();
        match pipe.state {
            State::Listening => return Some(Err(Code::PIPE_LISTENING)), // [9]
            State::Closing => return Some(Err(Code::NO_DATA)),          // [9]
            State::Connected => {}
        }
        let written = Done {
            count: data.len(),
            ..Done::default()
        };
        if data.is_empty() && !self.is_message_type() {
            return Some(Ok(written)); // [4.1]
        }
        let way = &mut pipe.ways[self.peer()];
        let before = way.unread;
        way.unread += data.len();
        way.queue.push_back(Entry {
            data: data.to_vec(), // [3.6]
            taken: 0,
            writer: None,
        });
        let has_reads = !way.reads.is_empty();
        while !way.queue.is_empty() {
            let Some((len, read)) = way.reads.pop_front() else {
                break;
            };
            let done = way.take(len, true);
            read.complete(Ok(done));
        }
        let quota = way.quota;
        let issued = match way.queue.back_mut() {
            // [3.1] What is left after the pending reads must fit. [4.2] An empty rest always fits.
            Some(entry) if entry.left() > quota.saturating_sub(before) => {
                entry.writer = Some(Arc::clone(request));
                None
            }
            _ => Some(Ok(written)),
        };
        if has_reads {
            self.was_read(&mut pipe, self.other());
        }
        issued
    }

    /// Copies what could be read, and takes nothing. `more` says whether part of the first message
    /// is left.
    pub(super) fn peek(&self, len: usize) -> Result<Done, Code> {
        let pipe = self.lock();
        let way = &pipe.ways[self.side as usize];
        let mut data = match (way.queue.front(), pipe.state) {
            // [5.6] The first message only.
            (Some(entry), _) if self.is_message_type() => entry.data[entry.taken..].to_vec(),
            (Some(_), _) => {
                let rests = way.queue.iter().map(|entry| &entry.data[entry.taken..]);
                rests.flatten().copied().collect()
            }
            (None, State::Listening) => return Err(Code::BAD_PIPE), // [9]
            (None, State::Closing) => return Err(Code::BROKEN_PIPE), // [9]
            (None, State::Connected) => Vec::new(),
        };
        let more = self.is_message_type() && data.len() > len;
        data.truncate(len);
        let count = data.len();
        Ok(Done { data, count, more })
    }

    /// [10.1, 10.4] Waits until the peer has read everything, including empty messages.
    pub(super) fn flush(&self) -> Result<(), Code> {
        let pipe = self.lock();
        if pipe.state != State::Connected {
            return Ok(()); // [9]
        }
        let is_unread = |pipe: &mut Pipe| !pipe.ways[self.peer()].queue.is_empty();
        let drained = self.instance.drained.wait_while(pipe, is_unread);
        let pipe = unpoisoned(drained);
        match pipe.ways[self.peer()].is_cut_off {
            true => Err(Code::BROKEN_PIPE),
            false => Ok(()),
        }
    }

    /// Cancels a request of this end that is still pending [7.2].
    pub(super) fn cancel(&self, request: &Arc<Request>) {
        let mut pipe = self.lock();
        let aborted = || request.complete(Err(Code::OPERATION_ABORTED)); // [9]
        let is_it = |other: &Arc<Request>| Arc::ptr_eq(other, request);
        if let Some(at) = pipe.connects.iter().position(is_it) {
            pipe.connects.remove(at);
            return aborted();
        }
        let reads = &mut pipe.ways[self.side as usize].reads;
        if let Some(at) = reads.iter().position(|(_, read)| is_it(read)) {
            reads.remove(at); // [2.6] Nothing was taken.
            return aborted();
        }
        let way = &mut pipe.ways[self.peer()];
        let is_its = |entry: &Entry| entry.writer.as_ref().is_some_and(is_it);
        if let Some(at) = way.queue.iter().position(is_its) {
            // [2.5] The unread rest is discarded, and later writes stay.
            let rest = way.queue.remove(at).map_or(0, |entry| entry.left());
            way.unread -= rest;
            aborted();
            way.settle();
            self.instance.drained.notify_all();
        }
    }

    /// Updates what depends on reads, after one or more reads on an end.
    fn was_read(&self, pipe: &mut Pipe, side: Side) {
        if side == Side::Server && pipe.client == Client::KnownWhenRead {
            pipe.client = Client::Known; // [11.7]
        }
        self.instance.drained.notify_all();
    }

    fn other(&self) -> Side {
        match self.side {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        }
    }

    fn peer(&self) -> usize {
        self.other() as usize
    }

    fn lock(&self) -> MutexGuard<'_, Pipe> {
        unpoisoned(self.instance.pipe.lock())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // [8.10, 16.5] The name becomes free with the last server's end, even if there are clients.
        if let (Side::Server, Some(name)) = (self.side, &self.instance.name) {
            let mut names = unpoisoned(NAMES.lock());
            if let Some(instances) = names.get_mut(name) {
                // Listeners drop the oldest first, so it's soon found.
                let is_this = |instance: &_| Arc::ptr_eq(instance, &self.instance);
                if let Some(at) = instances.iter().position(is_this) {
                    instances.remove(at);
                }
                if instances.is_empty() {
                    names.remove(name);
                    NAMES_CHANGED.notify_all(); // [8.6]
                }
            }
        }
        let mut pipe = self.lock();
        pipe.state = State::Closing;
        let broken = |request: Arc<Request>| request.complete(Err(Code::BROKEN_PIPE));
        pipe.connects.drain(..).for_each(broken); // [2.1]
        // [2.1, 9] The reads on both ends end, and so do the peer's writes. [1.1, 2.2] What this
        // end has written stays, even if the write is pending.
        for way in &mut pipe.ways {
            way.reads.drain(..).for_each(|(_, read)| broken(read));
        }
        let way = &mut pipe.ways[self.side as usize];
        way.is_cut_off = !way.queue.is_empty();
        way.unread = 0;
        let unread = way.queue.drain(..);
        unread.filter_map(|entry| entry.writer).for_each(broken);
        self.instance.drained.notify_all();
    }
}

impl Way {
    /// Takes from a queue that isn't empty what a read of `len` bytes returns. `waited` says
    /// whether the read was pending before the data arrived.
    fn take(&mut self, len: usize, waited: bool) -> Done {
        let mut data = Vec::new();
        let mut more = false;
        while let Some(entry) = self.queue.front_mut() {
            let room = len - data.len();
            // [4.8] A read of zero bytes takes no data, and takes an empty message only if it
            // waited for that. [4.4] When its buffer is full, a read by byte doesn't look at what
            // follows.
            if room == 0 && !(waited && len == 0 && entry.left() == 0) {
                more = self.reads_by_message && entry.left() > 0; // [4.8] As from Windows 8.
                break;
            }
            let count = entry.left().min(room);
            data.extend_from_slice(&entry.data[entry.taken..entry.taken + count]);
            entry.taken += count;
            self.unread -= count;
            if entry.left() > 0 {
                more = self.reads_by_message; // [4.5]
                break;
            }
            if let Some(mut read) = self.queue.pop_front() {
                read.finish();
            }
            // [4.5] A read by message takes one message. [4.4] A read by byte joins messages and
            // swallows empty ones. [4.2, 4.3] But an empty message alone ends the read with 0
            // bytes.
            if self.reads_by_message {
                break;
            }
        }
        let count = data.len();
        Done { data, count, more }
    }

    /// [3.3] Completes each write whose unread rest, together with all before it, is within the
    /// quota. Those follow the writes that are complete already.
    fn settle(&mut self) {
        let mut unread = self.unread;
        for entry in self.queue.iter_mut().rev() {
            if unread <= self.quota {
                if entry.writer.is_none() && entry.left() > 0 {
                    break;
                }
                entry.finish();
            }
            unread -= entry.left();
        }
    }
}

impl Entry {
    fn left(&self) -> usize {
        self.data.len() - self.taken
    }

    /// Completes the write, with its full count [3.3].
    fn finish(&mut self) {
        if let Some(writer) = self.writer.take() {
            let count = self.data.len();
            writer.complete(Ok(Done {
                count,
                ..Done::default()
            }));
        }
    }
}
