//! Invalid input, and how errors quote it.

use std::io;

/// The most characters of invalid input that an error quotes: the input may be a gigabyte long.
const LONGEST_QUOTE: usize = 200;

/// Creates the error for invalid input, with a message that says what is wrong with it.
pub(crate) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Quotes invalid input: in quotation marks, with unprintable characters escaped, and cut if it's
/// long.
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
