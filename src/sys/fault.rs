//! System calls that fail in a test as they can't be made to fail otherwise.

use std::cell::Cell;

use super::error::Code;

thread_local! {
    static FAULT: Cell<Option<(&'static str, Code)>> = const { Cell::new(None) };
}

/// Makes the next system call of that name, on this thread, fail with that code.
pub(crate) fn inject(call: &'static str, code: Code) {
    FAULT.set(Some((call, code)));
}

/// Fails if a fault was injected here. A call for which there can be faults asks first.
pub(super) fn strike(call: &str) -> Result<(), Code> {
    match FAULT.get() {
        Some((name, code)) if name == call => {
            FAULT.set(None);
            Err(code)
        }
        _ => Ok(()),
    }
}
