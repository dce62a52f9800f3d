//! A scanner that knows only words, strings, regexes, comments and brackets.
//!
//! It reads any text, loses nothing and never fails, which is why everything that must work on broken text stands
//! on it: the splitter, spans, the formatter, the prompt. It does not know the grammar.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or a word of the language.
    Word,
    /// A number with its unit, or a timestamp.
    Number,
    /// `"…"` or `"""…"""`.
    String,
    /// `'…'`.
    RawString,
    /// `/…/flags`.
    Regex,
    /// `“…”`: quotes from a word processor.
    SmartString,
    /// A string without its closing quote; it ends with the line.
    UnclosedString,
    /// A regex without its closing `/`; it ends with the line.
    UnclosedRegex,
    /// `"""` without an end; it ends with the text.
    UnclosedBlock,
    /// `( [ {`
    Open(u8),
    /// `) ] }`
    Close(u8),
    /// Any other mark, the longest known one (`->`, `..`, `==`).
    Mark,
    /// `# …`, without the line end.
    Comment,
    /// One line end.
    Newline,
}

/// A piece of text: `text[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub fn text(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or("")
    }

    pub fn is_trivia(self) -> bool {
        matches!(self.kind, TokenKind::Comment | TokenKind::Newline)
    }
}

/// Deepest nesting of strings in `${…}` in strings that is followed; deeper text counts as not closed.
const STRING_NESTING_MAX: usize = 64;

const MARKS: [&str; 22] = [
    "-->", "...", "->", "=>", "|>", "~>", "==", "!=", "<=", ">=", "!~", "??", "..", "&&", "||", "+=", "-=",
    "→", "-", "=", ":", ",",
];

/// Cuts a text into tokens, in order, without gaps except blanks.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, out: Vec::with_capacity(text.len() / 5), no_regex_before: 0 };
    lexer.run();
    lexer.out
}

/// Blanks and characters that nobody sees; they separate, and the visible ones are warned about elsewhere.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r') || is_invisible(c)
}

/// Characters that look like a blank or like nothing (F0025).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{A0}' | '\u{FEFF}' | '\u{200B}'..='\u{200F}' | '\u{2060}') || is_bidi(c)
}

/// Marks that change the direction of writing and make text look like something else.
pub(crate) fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    out: Vec<Token>,
    /// No regex ends before this position: without it a line of slashes costs quadratic time.
    no_regex_before: usize,
}

impl<'t> Lexer<'t> {
    fn run(&mut self) {
        while let Some(c) = self.peek() {
            let start = self.at;
            if is_blank(c) && !self.rest().starts_with("\r\n") {
                self.at += c.len_utf8();
                continue;
            }
            let kind = self.token(c);
            debug_assert!(self.at > start);
            self.out.push(Token { kind, start, end: self.at });
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn token(&mut self, c: char) -> TokenKind {
        let rest = self.rest();
        match c {
            '\r' | '\n' => {
                self.at += if c == '\r' { 2 } else { 1 };
                TokenKind::Newline
            }
            '#' => {
                self.at = line_end(self.text, self.at);
                TokenKind::Comment
            }
            '"' | '\'' => self.quoted(),
            '“' | '”' | '‘' | '’' => {
                let line = &self.text[self.at..line_end(self.text, self.at)];
                let inner = &line[c.len_utf8()..];
                self.at += c.len_utf8();
                self.at += match inner.char_indices().find(|(_, c)| matches!(c, '“' | '”' | '‘' | '’' | '"'))
                {
                    Some((k, close)) => k + close.len_utf8(),
                    None => inner.len(),
                };
                TokenKind::SmartString
            }
            '(' | '[' | '{' => {
                self.at += 1;
                TokenKind::Open(c as u8)
            }
            ')' | ']' | '}' => {
                self.at += 1;
                TokenKind::Close(c as u8)
            }
            '/' => self.slash(),
            '@' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.at += 1 + run_of(&rest[1..], |c| {
                    c.is_ascii_digit() || matches!(c, '-' | 'T' | ':' | '.' | 'Z' | '+')
                });
                TokenKind::Number
            }
            _ if c.is_ascii_digit() => {
                self.number();
                TokenKind::Number
            }
            _ if is_word_start(c) => {
                self.at += run_of(rest, is_word);
                TokenKind::Word
            }
            _ => {
                self.at += MARKS
                    .iter()
                    .find(|mark| rest.starts_with(**mark))
                    .map_or(c.len_utf8(), |mark| mark.len());
                TokenKind::Mark
            }
        }
    }

    fn quoted(&mut self) -> TokenKind {
        let block = self.rest().starts_with("\"\"\"");
        if let Some(end) = string_end(self.text, self.at) {
            let raw = self.rest().starts_with('\'');
            self.at = end;
            return if raw { TokenKind::RawString } else { TokenKind::String };
        }
        if block {
            self.at = self.text.len();
            return TokenKind::UnclosedBlock;
        }
        self.at = line_end(self.text, self.at);
        TokenKind::UnclosedString
    }

    fn slash(&mut self) -> TokenKind {
        if self.at >= self.no_regex_before && slash_begins_regex(self.text, self.at, self.out.last().copied())
        {
            if let Some(end) = regex_end(self.text, self.at) {
                self.at = end;
                return TokenKind::Regex;
            }
            let end = line_end(self.text, self.at);
            self.no_regex_before = end;
            // after a value it may still divide, unless it goes on like no number or name does
            let rest = &self.text[self.at + 1..end];
            let surely = !ends_value(self.text, self.out.last().copied()) || rest.starts_with(['^', '\\']);
            if surely && !rest.is_empty() && !rest.starts_with([' ', '/', '\t']) {
                self.at = end;
                return TokenKind::UnclosedRegex;
            }
        }
        self.at += 1;
        TokenKind::Mark
    }

    fn number(&mut self) {
        let rest = self.rest();
        let mut n = run_of(rest, is_word);
        if rest[n..].starts_with('.') && rest[n + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            n += 1;
            n += run_of(&rest[n..], is_word);
        }
        if rest[n..].starts_with('%') && !rest[n + 1..].starts_with(|c: char| is_word(c) || c == '(') {
            n += 1;
        }
        self.at += n;
    }
}

/// Whether a `/` here can begin a regex: not right after a value, unless it looks like an argument (blank before,
/// none after).
fn slash_begins_regex(text: &str, at: usize, before: Option<Token>) -> bool {
    if !ends_value(text, before) {
        return true;
    }
    // `tail /x/` and `a / b`, `a/b` are told apart by the blanks
    let next = text[at + 1..].chars().next();
    before.is_some_and(|token| token.end < at) && next.is_some_and(|c| !is_blank(c) && c != '\n')
}

/// Whether a value ends with this token.
fn ends_value(text: &str, before: Option<Token>) -> bool {
    before.is_some_and(|token| match token.kind {
        TokenKind::Word => !OPERATOR_WORDS.contains(&token.text(text)),
        TokenKind::Number | TokenKind::String | TokenKind::RawString | TokenKind::Regex => true,
        TokenKind::Close(c) => c != b'}',
        _ => false,
    })
}

/// Words after which a value begins.
const OPERATOR_WORDS: [&str; 11] =
    ["and", "or", "not", "in", "when", "else", "return", "if", "match", "emit", "fail"];

fn run_of(text: &str, accept: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accept(c)).unwrap_or(text.len())
}

/// The byte position of the end of the line, before `\n` or `\r\n`.
pub(crate) fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |k| at + k);
    if end > at && end < text.len() && text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
}

/// The end of the regex that starts at `at`, flags included; `None` when its line ends first.
fn regex_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut i = at + 1;
    if matches!(bytes.get(i), None | Some(b'/')) {
        return None;
    }
    // a `[` counts as a class only when the class is closed on the line; one failure answers for all later ones
    let mut classes = true;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'\n' => return None,
            b'\r' if bytes.get(i + 1) == Some(&b'\n') => return None,
            b'\\' => i += if bytes.get(i + 1) == Some(&b'\n') { 1 } else { 2 },
            b'[' if classes => match class_end(bytes, i) {
                Some(end) => i = end,
                None => {
                    classes = false;
                    i += 1;
                }
            },
            b'/' => return Some(i + 1 + run_of(&text[i + 1..], is_word)),
            _ => i += 1,
        }
    }
    None
}

fn class_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'\n' => return None,
            b'\\' => i += if bytes.get(i + 1) == Some(&b'\n') { 1 } else { 2 },
            b']' => return Some(i + 1),
            _ => i += 1,
        }
    }
    None
}

enum Inside {
    /// Between quotes; `true` for `"""`.
    Quotes(bool),
    /// Between `${` and `}`, with so many `{` open.
    Braces(usize),
}

/// The end of the string that starts at `at`, `None` when it is not closed. Strings in `${…}` in strings are
/// followed with a stack of bounded depth.
fn string_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes[at] == b'\'' {
        return raw_end(bytes, at);
    }
    let is_block = |i: usize| text[i..].starts_with("\"\"\"");
    let mut stack = vec![Inside::Quotes(is_block(at))];
    let mut lines = is_block(at);
    let mut i = at + if lines { 3 } else { 1 };
    while let Some(&b) = bytes.get(i) {
        if b == b'\n' && !lines {
            return None;
        }
        match stack.last_mut()? {
            Inside::Quotes(block) => {
                let block = *block;
                match b {
                    b'\\' => i += if bytes.get(i + 1) == Some(&b'\n') { 1 } else { 2 },
                    b'$' if bytes.get(i + 1) == Some(&b'{') => {
                        if stack.len() >= STRING_NESTING_MAX {
                            return None;
                        }
                        stack.push(Inside::Braces(0));
                        i += 2;
                    }
                    b'"' if block && !is_block(i) => i += 1,
                    b'"' => {
                        i += if block { 3 } else { 1 };
                        stack.pop();
                        if stack.is_empty() {
                            return Some(i);
                        }
                        lines = stack.iter().all(|inside| !matches!(inside, Inside::Quotes(false)));
                    }
                    _ => i += 1,
                }
            }
            Inside::Braces(depth) => match b {
                b'{' => {
                    *depth += 1;
                    i += 1;
                }
                b'}' if *depth == 0 => {
                    stack.pop();
                    i += 1;
                }
                b'}' => {
                    *depth -= 1;
                    i += 1;
                }
                // the format after `:` ends at `}`; quotes do not occur in it
                b'"' => {
                    if stack.len() >= STRING_NESTING_MAX {
                        return None;
                    }
                    let block = is_block(i);
                    stack.push(Inside::Quotes(block));
                    lines &= block;
                    i += if block { 3 } else { 1 };
                }
                b'\'' => i = raw_end(bytes, i)?,
                _ => i += 1,
            },
        }
    }
    None
}

fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'\'' => return Some(i + 1),
            b'\n' => return None,
            _ => i += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
        tokens(text).into_iter().map(|token| (token.kind, token.text(text))).collect()
    }

    #[test]
    fn a_string_in_an_interpolation_in_a_string_is_one_token() {
        assert_eq!(kinds(r#""a ${b ?? "}"} c""#), [(TokenKind::String, r#""a ${b ?? "}"} c""#)]);
    }

    #[test]
    fn a_slash_after_a_value_divides_unless_it_looks_like_an_argument() {
        assert_eq!(kinds("a / b").len(), 3);
        assert_eq!(kinds("a/b/c").len(), 5);
        assert_eq!(kinds("extract /b c/i")[1], (TokenKind::Regex, "/b c/i"));
        assert_eq!(kinds("x ~ /[/]/")[2], (TokenKind::Regex, "/[/]/"));
    }

    #[test]
    fn an_unclosed_quote_ends_with_its_line() {
        assert_eq!(
            kinds("a \"b\nc"),
            [
                (TokenKind::Word, "a"),
                (TokenKind::UnclosedString, "\"b"),
                (TokenKind::Newline, "\n"),
                (TokenKind::Word, "c")
            ]
        );
    }

    #[test]
    fn tokens_cover_everything_but_blanks() {
        let text = "é→\u{a0}@2026-11-23T10:00:00Z ${ 1.5h% \"\"\"x";
        let mut at = 0;
        for token in tokens(text) {
            assert!(text[at..token.start].chars().all(is_blank));
            at = token.end;
        }
        assert_eq!(at, text.len());
    }
}
