//! Security descriptors, and the one user there is. There are no access checks here.

use std::io;

use crate::sys::record::trace;

/// `S-1-5-21-1-2-3-1001`, the user.
pub(super) const USER: [u8; 28] = [
    1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0xe9, 3, 0, 0,
];

/// A security descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor;

impl Descriptor {
    /// Accepts any text as a descriptor.
    pub(crate) fn from_sddl(sddl: &str) -> io::Result<Descriptor> {
        let _ = sddl;
        trace!("ConvertStringSecurityDescriptorToSecurityDescriptorW({sddl:?}) = 1");
        Ok(Descriptor)
    }
}
