//! Other processes, of which there are none here.

/// A handle to any object: no peer can send one.
pub(crate) enum Handle {}
