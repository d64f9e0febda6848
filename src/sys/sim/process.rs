//! Other processes. There are none here.

/// A handle to any object. It has no values, because no peer can send one.
pub(crate) enum Handle {}
