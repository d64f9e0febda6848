//! Input that can't be used, and how errors speak of it.

use std::io;

/// The most characters of bad input that an error quotes: whoever sent it may have sent a gigabyte.
const LONGEST_QUOTE: usize = 200;

/// The error of input that can't be used, with what is wrong with it.
pub(crate) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Quotes bad input: in quotation marks, with what can't be printed escaped, and cut where it's long.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_at_most_200_characters_of_the_input() {
        assert_eq!(quote(""), r#""""#);
        assert_eq!(quote("a\0\"ü"), r#""a\0\"ü""#);
        let longest = "ü".repeat(200);
        assert_eq!(quote(&longest), format!("{longest:?}"));
        assert_eq!(quote(&format!("{longest}x")), format!("{longest:?}…"));
        assert_eq!(quote(&"🦀".repeat(1 << 20)).chars().count(), 200 + 3);
    }
}
