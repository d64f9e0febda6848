//! Locks that a panic has poisoned.

use std::sync::LockResult;

/// Takes what is under a lock even if a panic has poisoned it: nothing in this crate is left half
/// done by a panic.
pub(crate) fn unpoisoned<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(|poisoned| poisoned.into_inner())
}
