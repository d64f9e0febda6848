//! The logger of this program: on each thread it does what that thread has asked for, and nothing on
//! the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Once;

struct Logger;

type AtRecord = Rc<dyn Fn(&log::Record<'_>)>;

thread_local! {
    /// What this thread's logger does at each record.
    static AT_RECORD: RefCell<Option<AtRecord>> = const { RefCell::new(None) };
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let action = AT_RECORD.with_borrow(Option::clone);
        if let Some(action) = action {
            action(record);
        }
    }

    fn flush(&self) {}
}

/// Takes the action away at the end, after a panic too.
struct Until;

impl Drop for Until {
    fn drop(&mut self) {
        // Not `set`, which drops what was there while it's borrowed: that may leave records.
        drop(AT_RECORD.take());
    }
}

fn with_action<T>(action: AtRecord, calls: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    AT_RECORD.set(Some(action));
    let _until = Until;
    calls()
}

/// Runs `calls` with a logger that does `action` at each record of this thread.
pub fn logging<T>(action: impl Fn(&str) + 'static, calls: impl FnOnce() -> T) -> T {
    let action = move |record: &log::Record<'_>| action(&record.args().to_string());
    with_action(Rc::new(action), calls)
}

/// The records of `calls` on this thread.
pub fn records<T>(calls: impl FnOnce() -> T) -> (Vec<String>, T) {
    let records = Rc::new(RefCell::new(Vec::new()));
    let to = records.clone();
    let keep = move |record: &log::Record<'_>| {
        let (level, target) = (record.level(), record.target().to_owned());
        to.borrow_mut()
            .push((level, target, record.args().to_string()));
    };
    let result = with_action(Rc::new(keep), calls);
    // Not in the logger, whose panics end in the crate.
    let text = |(level, target, text): (_, String, _)| {
        assert_eq!((level, &*target), (log::Level::Trace, "winpipe"));
        text
    };
    (records.take().into_iter().map(text).collect(), result)
}

/// The name of the system call that left this record.
pub fn call(record: &str) -> &str {
    record.split('(').next().unwrap_or_default()
}
