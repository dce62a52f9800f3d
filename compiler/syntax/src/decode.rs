//! Bytes to text.

use flow_diag::{Code, Diagnostic, FileId, Span};

/// Bytes that are no UTF-8, and what can be shown of them.
#[derive(Clone, Debug)]
pub struct NotUtf8 {
    /// The first byte that is wrong.
    pub position: usize,
    /// The text with replacement characters; equal to the bytes up to `position`, so that the diagnostic can be
    /// shown in it.
    pub text: String,
    /// F0024.
    pub diagnostic: Diagnostic,
}

/// The text of a file's bytes, or where they stop being UTF-8.
pub fn decode_utf8(file: FileId, bytes: Vec<u8>) -> Result<String, Box<NotUtf8>> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let position = error.utf8_error().valid_up_to();
    let bytes = error.into_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let byte = bytes.get(position).copied().unwrap_or(0);
    let span = Span::new(file, position, position + char::REPLACEMENT_CHARACTER.len_utf8());
    let diagnostic = Diagnostic::new(Code::F0024, span, "this file is not UTF-8")
        .label(format!("byte {position} is 0x{byte:02x}"))
        .help("convert it: iconv -f latin1 -t utf8 old.flow > new.flow");
    Err(Box::new(NotUtf8 { position, text, diagnostic }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_byte_is_named() {
        assert_eq!(decode_utf8(FileId(0), b"a".to_vec()).ok().as_deref(), Some("a"));
        let wrong = decode_utf8(FileId(0), b"sink caf\xe9 = console".to_vec()).expect_err("latin1");
        assert_eq!((wrong.position, wrong.diagnostic.code), (8, Code::F0024));
        assert_eq!(wrong.text.get(wrong.diagnostic.primary.span.range()), Some("\u{FFFD}"));
    }
}
