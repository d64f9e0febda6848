//! Text in the form that the system calls take.

#[cfg(not(winpipe_sim))]
use windows_sys::Win32::Foundation::UNICODE_STRING;

/// Converts a path or a name to the form that the calls take, with a NUL at the end.
pub(crate) fn wide(path: &str) -> Vec<u16> {
    let mut wide = Vec::with_capacity(path.len() + 1);
    wide.extend(path.encode_utf16().chain([0]));
    wide
}

/// Refers to the name without the NUL at its end. The NUL is in memory nevertheless: programs that
/// inspect the calls of other programs, as security products do, read the memory up to the NUL,
/// even for an empty name.
#[cfg(not(winpipe_sim))]
pub(super) fn unicode_string(name: &[u16]) -> UNICODE_STRING {
    let name = if name.is_empty() { &[0] } else { name };
    debug_assert_eq!(name.last(), Some(&0));
    // A name has at most 256 units, so its number of bytes fits.
    let bytes = size_of_val(name) as u16;
    UNICODE_STRING {
        Length: bytes - size_of::<u16>() as u16,
        MaximumLength: bytes,
        Buffer: name.as_ptr().cast_mut(),
    }
}

/// Displays a text in the form that the wide calls take, without allocating.
#[cfg(feature = "log")]
pub(super) struct Wide<'a>(pub(super) &'a [u16]);

#[cfg(feature = "log")]
impl std::fmt::Display for Wide<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        let units = self.0.iter().copied().take_while(|&unit| unit != 0);
        char::decode_utf16(units)
            .try_for_each(|char| f.write_char(char.unwrap_or(char::REPLACEMENT_CHARACTER)))
    }
}

#[cfg(all(test, not(winpipe_sim)))]
mod tests {
    use super::*;

    #[test]
    fn every_name_ends_with_a_nul_even_an_empty_one() {
        for (name, length) in [
            (&[][..], 0),
            (&wide(""), 0),
            (&wide("x"), 2),
            (&wide("管🦀"), 6),
        ] {
            let string = unicode_string(name);
            assert_eq!(string.Length, length);
            assert_eq!(string.MaximumLength, length + 2);
            assert!(!string.Buffer.is_null());
            // SAFETY: what is read is within the name, or is a constant in its place.
            let end = unsafe { *string.Buffer.add(usize::from(length / 2)) };
            assert_eq!(end, 0);
        }
    }
}
