//! What an operation costs, counted and not timed: it's the same on every machine.
//!
//! System calls: of winpipe its own records of them (`log`), of the raw calls what is written there;
//! nobody knows those of the others. Kernel handles: of the whole process, after minus before.
//! Allocations: of the thread that does it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cases::{self, Size, with_server};
use crate::report::quote;
use crate::ways::{Timeouts, Way, read_exact};
use crate::worker::Kind;

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub enum Operation {
    /// A listener is made.
    Bind,
    /// A client connects to a listener that waits for it.
    Connect,
    /// A client that has connected is accepted.
    Accept,
    /// 64 B are written that find room.
    Write,
    /// 64 B are read that are there.
    Read,
    /// 64 B are read that come later.
    WaitingRead,
    /// 64 KiB are written that find room later.
    WaitingWrite,
    /// A read waits for 20 ms.
    TimedOutRead,
    /// A read doesn't wait, as there is nothing.
    NothingToRead,
    /// A stream is dropped.
    Drop,
}

impl Operation {
    const ALL: [(Operation, &str); 10] = [
        (Operation::Bind, "bind"),
        (Operation::Connect, "connect"),
        (Operation::Accept, "accept"),
        (Operation::Write, "write 64 B"),
        (Operation::Read, "read 64 B"),
        (Operation::WaitingRead, "read, waiting"),
        (Operation::WaitingWrite, "write 64 KiB, waiting"),
        (Operation::TimedOutRead, "read, timed out"),
        (Operation::NothingToRead, "read, nonblocking, nothing there"),
        (Operation::Drop, "drop a stream"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(operation, _)| *operation == self);
        found.map_or("", |(_, name)| name)
    }
}

/// How the system calls of a way are known.
#[cfg_attr(unix, expect(dead_code, reason = "these are Windows' ways"))]
pub enum Calls {
    /// They aren't.
    Unknown,
    /// It records each.
    Recorded,
    /// It was written so.
    Known(fn(Operation) -> usize),
}

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static RECORDS: Cell<usize> = const { Cell::new(0) };
}

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(windows)]
struct Records;

#[cfg(windows)]
impl log::Log for Records {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "winpipe" {
            let _ = RECORDS.try_with(|count| count.set(count.get() + 1));
        }
    }

    fn flush(&self) {}
}

/// How many kernel handles this process has.
#[cfg(windows)]
fn handles() -> usize {
    use windows_sys::Win32::Foundation::GetHandleInformation;
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};
    let mut count = 0;
    // SAFETY: this process's pseudo-handle is always valid, and `count` is a place for a number.
    unsafe { GetProcessHandleCount(GetCurrentProcess(), &mut count) };
    if count > 0 {
        return count as usize;
    }
    // Wine 8 and 10 always answer 0. Handles are multiples of 4, and the lowest that is free is given out.
    let (mut open, mut closed) = (0, 0);
    let mut handle = 4;
    while closed < 256 {
        let mut flags = 0;
        let at = std::ptr::without_provenance_mut(handle);
        // SAFETY: a handle that isn't one is an error, and `flags` is a place for a number.
        match unsafe { GetHandleInformation(at, &mut flags) } {
            0 => closed += 1,
            _ => (open, closed) = (open + 1, 0),
        }
        handle += 4;
    }
    open
}

/// How many file descriptors this process has, where that can be seen.
#[cfg(unix)]
fn handles() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[derive(Clone, Copy)]
struct Cost {
    records: usize,
    handles: isize,
    allocations: usize,
}

fn cost<T>(operation: impl FnOnce() -> io::Result<T>) -> io::Result<(Cost, T)> {
    let before = (handles(), RECORDS.get(), ALLOCATIONS.get());
    let result = operation()?;
    let cost = Cost {
        allocations: ALLOCATIONS.get() - before.2,
        records: RECORDS.get() - before.1,
        handles: handles().wrapping_sub(before.0) as isize,
    };
    Ok((cost, result))
}

/// What the server's thread is to do, and to tell the cost of.
enum Step {
    Accept,
    Read(usize),
    Write(usize),
}

/// Counts, and prints a line for each operation: its name, calls, handles and allocations.
pub fn run<W: Way>() -> io::Result<()> {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(60));
        eprintln!("winpipe-bench: counting hangs");
        std::process::exit(1);
    });
    #[cfg(windows)]
    log::set_logger(&Records).map_err(|_| io::Error::other("there is a logger"))?;
    // The records allocate, so the allocations are counted without them.
    let mut costs = Costs::default();
    count::<W>(&mut costs)?;
    for (operation, cost) in costs.0 {
        let calls = match W::CALLS {
            Calls::Unknown => "–".into(),
            Calls::Recorded => cost.records.to_string(),
            Calls::Known(calls) => calls(operation).to_string(),
        };
        let name = operation.name();
        // While one thread waits the other works, and the handles are those of both.
        let handles = match operation {
            Operation::WaitingRead | Operation::WaitingWrite => "–".into(),
            _ => cost.handles.to_string(),
        };
        println!("{name}\t{calls}\t{handles}\t{}", cost.allocations);
    }
    count_open::<W>()
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    /// What is made once for each thread is made in this.
    WarmUp,
    Recorded,
    Silent,
}

impl Pass {
    fn begin(self) {
        #[cfg(windows)]
        log::set_max_level(match self {
            Pass::Recorded => log::LevelFilter::Trace,
            Pass::WarmUp | Pass::Silent => log::LevelFilter::Off,
        });
    }
}

#[derive(Default)]
struct Costs(Vec<(Operation, Cost)>);

impl Costs {
    fn add(&mut self, pass: Pass, operation: Operation, cost: Cost) {
        let known = self.0.iter_mut().find(|(known, _)| *known == operation);
        match (pass, known) {
            (Pass::Recorded, _) => self.0.push((operation, cost)),
            (Pass::Silent, Some((_, known))) => {
                (known.handles, known.allocations) = (cost.handles, cost.allocations);
            }
            _ => {}
        }
    }
}

/// Does every operation once in each pass.
fn count<W: Way>(costs: &mut Costs) -> io::Result<()> {
    let (go, steps) = mpsc::channel::<Step>();
    let (answer, answers) = mpsc::channel();
    with_server::<W, _>(
        move |listener| {
            let mut streams = Vec::new();
            for step in steps {
                let done = match (step, streams.last_mut()) {
                    (Step::Accept, _) => {
                        let (cost, stream) = cost(|| W::accept(listener))?;
                        streams.push(stream);
                        cost
                    }
                    (Step::Read(size), Some(stream)) => {
                        let mut buf = vec![0; size];
                        cost(|| read_exact::<W>(stream, &mut buf))?.0
                    }
                    (Step::Write(size), Some(stream)) => {
                        let bytes = vec![0; size];
                        cost(|| W::write_all(stream, &bytes))?.0
                    }
                    _ => return Err(io::ErrorKind::NotConnected.into()),
                };
                let _ = answer.send(done);
            }
            Ok(())
        },
        move |path| {
            let ask = |step| go.send(step).map_err(io::Error::other);
            let answered = || answers.recv().map_err(io::Error::other);
            let a_while = || thread::sleep(Duration::from_millis(50));
            for pass in [Pass::WarmUp, Pass::Recorded, Pass::Silent] {
                pass.begin();
                let mut report = |operation, cost| costs.add(pass, operation, cost);
                let (bind, listener) = cost(|| W::bind(&cases::fresh_path()))?;
                drop(listener);
                report(Operation::Bind, bind);

                if !W::HAS_BACKLOG {
                    ask(Step::Accept)?;
                    a_while();
                }
                let (connect, mut stream) = cost(|| W::connect(path))?;
                if W::HAS_BACKLOG {
                    report(Operation::Connect, connect);
                    ask(Step::Accept)?;
                    report(Operation::Accept, answered()?);
                } else {
                    answered()?;
                }

                let bytes = [0; 64];
                let (write, ()) = cost(|| W::write_all(&mut stream, &bytes))?;
                report(Operation::Write, write);
                ask(Step::Read(bytes.len()))?;
                report(Operation::Read, answered()?);

                ask(Step::Read(bytes.len()))?;
                a_while();
                W::write_all(&mut stream, &bytes)?;
                report(Operation::WaitingRead, answered()?);

                let mut full = vec![0; 64 << 10];
                ask(Step::Write(full.len()))?;
                answered()?;
                ask(Step::Write(full.len()))?;
                a_while();
                read_exact::<W>(&mut stream, &mut full)?;
                read_exact::<W>(&mut stream, &mut full)?;
                report(Operation::WaitingWrite, answered()?);

                if W::TIMEOUTS == Timeouts::Kept {
                    W::set_timeouts(&stream, Duration::from_millis(20))?;
                    let mut byte = [0];
                    let (timed_out, _) = cost(|| Ok(W::read(&mut stream, &mut byte)))?;
                    report(Operation::TimedOutRead, timed_out);
                }
                let (dropped, ()) = cost(|| {
                    drop(stream);
                    Ok(())
                })?;
                report(Operation::Drop, dropped);

                if !W::HAS_BACKLOG {
                    ask(Step::Accept)?;
                    a_while();
                }
                let mut stream = W::connect(path)?;
                if W::HAS_BACKLOG {
                    ask(Step::Accept)?;
                }
                answered()?;
                if W::set_nonblocking(&stream).is_ok() {
                    let mut byte = [0];
                    let (nothing, _) = cost(|| Ok(W::try_read(&mut stream, &mut byte)))?;
                    report(Operation::NothingToRead, nothing);
                }
            }
            Ok(())
        },
    )
}

/// Counts what streams have while they are open.
fn count_open<W: Way>() -> io::Result<()> {
    let size = Size {
        time: Duration::ZERO,
        connections: 100,
    };
    let before = (handles(), BYTES.load(Ordering::Relaxed));
    let ends = 2 * size.connections;
    cases::open::<W>(size, |_, _| {
        // Both lists of streams are on the heap, so this includes the streams themselves.
        let bytes = BYTES.load(Ordering::Relaxed).saturating_sub(before.1);
        let handles = handles().saturating_sub(before.0) as f64 / ends as f64;
        println!("open stream\t–\t{handles:.2}\t{} B", bytes / ends);
        Ok(0.0)
    })?;
    Ok(())
}

/// Counts for each way in a process of its own, and prints a table or JSON.
pub fn print(kinds: &[&'static Kind], json: bool) -> io::Result<()> {
    let mut counts = Vec::new();
    for kind in kinds {
        let output = Command::new(std::env::current_exe()?)
            .args(["--counter", kind.name])
            .stderr(Stdio::inherit())
            .output()?;
        counts.push(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let find = |way: usize, operation: &str| -> Option<Vec<&str>> {
        let fields = |line: &'_ str| line.starts_with(&format!("{operation}\t"));
        let line = counts[way].lines().find(|line| fields(line))?;
        Some(line.split('\t').skip(1).collect())
    };
    let operations = Operation::ALL.iter().map(|(_, name)| *name);
    let operations: Vec<_> = operations.chain(["open stream"]).collect();
    if json {
        let mut rows = Vec::new();
        for operation in operations {
            for (way, kind) in kinds.iter().enumerate() {
                if let Some([calls, handles, heap]) = find(way, operation).as_deref() {
                    rows.push(format!(
                        "  {{\"operation\":{},\"way\":{},\"calls\":{},\"handles\":{},\"heap\":{}}}",
                        quote(operation),
                        quote(kind.name),
                        calls.replace('–', "null"),
                        handles.replace('–', "null"),
                        heap.trim_end_matches(" B"),
                    ));
                }
            }
        }
        println!("[\n{}\n]", rows.join(",\n"));
        return Ok(());
    }
    println!(
        "System calls · kernel handles more than before · allocations (or bytes on the heap).\n"
    );
    print!("| operation |");
    kinds.iter().for_each(|kind| print!(" {} |", kind.title));
    println!("\n|---|{}", "---|".repeat(kinds.len()));
    for operation in operations {
        print!("| {operation} |");
        for way in 0..kinds.len() {
            let cell = find(way, operation).map_or("–".into(), |fields| fields.join(" · "));
            print!(" {cell} |");
        }
        println!();
    }
    Ok(())
}
