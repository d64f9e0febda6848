//! System calls that fail on request, for tests in which they can't be made to fail otherwise.

use std::cell::Cell;

use super::error::Code;

thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Fault {
    call: &'static str,
    code: Code,
    times: u32,
}

/// Makes the next system call of that name, on this thread, fail with that code.
pub(crate) fn inject(call: &'static str, code: Code) {
    inject_times(call, code, 1);
}

/// Makes the next `times` system calls of that name, on this thread, fail with that code.
pub(crate) fn inject_times(call: &'static str, code: Code, times: u32) {
    FAULT.set(Some(Fault { call, code, times }));
}

/// Removes the faults, and returns how many were left.
pub(crate) fn call_off() -> u32 {
    FAULT.take().map_or(0, |fault| fault.times)
}

/// Fails if a fault was injected here. A function that can have faults calls this first.
pub(super) fn strike(call: &str) -> Result<(), Code> {
    match FAULT.get() {
        Some(fault) if fault.call == call => {
            let times = fault.times - 1;
            FAULT.set((times > 0).then_some(Fault { times, ..fault }));
            Err(fault.code)
        }
        _ => Ok(()),
    }
}
