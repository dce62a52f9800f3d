//! JSON on demand: a text is judged as [`value_from_json`](super::value_from_json) judges it, and what it holds is
//! found by names, without a value for each part of it. The tape is used again for text after text and then
//! allocates nothing. It must not know the IR.

use super::json::{JSON_DEPTH_MAX, number, unescape};
use crate::function::Plain;

/// Values of one text; of a text with more of them the tape does not judge.
pub const TAPE_ENTRIES_MAX: usize = 65_536;

/// What is said of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is JSON, and the tape knows what is in it.
    Read,
    /// It is no JSON, or nested too deeply, or a number is out of range.
    Refused,
    /// Only [`value_from_json`](super::value_from_json) can tell: a key has an escape or is not UTF-8, or there is
    /// too much in it.
    Unsure,
}

/// A map or list of the text that was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonNode(u32);

/// A value of the text that was read last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'t> {
    /// There is no such member or item.
    Absent,
    Null,
    /// A bool, an int, a float, or a text that stands in the JSON as it is.
    Plain(Plain<'t>),
    /// A text with escapes: what it stands for was appended to the buffer.
    Written,
    Map(JsonNode),
    List(JsonNode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    True,
    False,
    Int,
    Float,
    Text,
    EscapedText,
    Map,
    List,
}

/// A value, after the map or list it is in and before what is in it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    /// Bytes of the value: a number, or the inside of a string.
    start: u32,
    end: u32,
    /// Bytes of the inside of the key of a member.
    key_start: u32,
    key_end: u32,
    /// The entry behind all that is in it.
    next: u32,
}

/// Where the values of a text stand.
#[derive(Clone, Debug, Default)]
pub struct JsonTape {
    entries: Vec<Entry>,
}

impl JsonTape {
    pub fn new() -> JsonTape {
        JsonTape::default()
    }

    /// Reads a text. What the other methods give is of this text, which has to be handed to them again; unless it
    /// was read, they find nothing.
    pub fn parse(&mut self, text: &[u8]) -> Reading {
        self.entries.clear();
        if u32::try_from(text.len()).is_err() {
            return Reading::Unsure;
        }
        let mut reader = Reader { bytes: text, at: 0, entries: &mut self.entries };
        let stop = reader.document().err();
        let Some(reading) = stop else { return Reading::Read };
        self.entries.clear();
        reading
    }

    /// The whole.
    pub fn root<'t>(&self, text: &'t [u8], buffer: &mut Vec<u8>) -> Found<'t> {
        self.found(text, 0, buffer)
    }

    /// A member of a map, the last one of this name.
    pub fn member<'t>(&self, text: &'t [u8], map: JsonNode, name: &str, buffer: &mut Vec<u8>) -> Found<'t> {
        self.position(text, map, name).map_or(Found::Absent, |at| self.found(text, at, buffer))
    }

    /// A member of a member of the whole, and so on, by their names; absent when there is no map on the way.
    pub fn path<'t>(&self, text: &'t [u8], names: &[&str], buffer: &mut Vec<u8>) -> Found<'t> {
        let position = names.iter().try_fold(0, |at, name| match self.entries.get(at)?.kind {
            Kind::Map => self.position(text, JsonNode(at as u32), name),
            _ => None,
        });
        position.map_or(Found::Absent, |at| self.found(text, at, buffer))
    }

    /// An item of a list, from 0.
    pub fn item<'t>(&self, text: &'t [u8], list: JsonNode, index: usize, buffer: &mut Vec<u8>) -> Found<'t> {
        let position = self.inside(list, Kind::List).nth(index);
        position.map_or(Found::Absent, |at| self.found(text, at, buffer))
    }

    /// Items of a list, or members of a map, each key as often as it is there.
    pub fn count(&self, node: JsonNode) -> usize {
        self.entries.get(node.0 as usize).map_or(0, |entry| self.inside(node, entry.kind).count())
    }

    /// The entries directly inside a map or list.
    fn inside(&self, node: JsonNode, kind: Kind) -> impl Iterator<Item = usize> {
        let at = node.0 as usize;
        let entry = self.entries.get(at).filter(|entry| entry.kind == kind);
        let end = entry.map_or(0, |entry| entry.next as usize);
        let mut next = at + 1;
        std::iter::from_fn(move || {
            let at = next;
            next = self.entries.get(at).filter(|_| at < end)?.next as usize;
            Some(at)
        })
    }

    fn position(&self, text: &[u8], map: JsonNode, name: &str) -> Option<usize> {
        let is_named = |at: &usize| {
            let entry = &self.entries[*at];
            (entry.key_end - entry.key_start) as usize == name.len()
                && text.get(entry.key_start as usize..entry.key_end as usize) == Some(name.as_bytes())
        };
        self.inside(map, Kind::Map).filter(is_named).last()
    }

    fn found<'t>(&self, text: &'t [u8], at: usize, buffer: &mut Vec<u8>) -> Found<'t> {
        let Some(entry) = self.entries.get(at) else { return Found::Absent };
        let Some(bytes) = text.get(entry.start as usize..entry.end as usize) else { return Found::Absent };
        match entry.kind {
            Kind::Null => Found::Null,
            Kind::True => Found::Plain(Plain::Bool(true)),
            Kind::False => Found::Plain(Plain::Bool(false)),
            Kind::Text => Found::Plain(Plain::Text(bytes)),
            Kind::Map => Found::Map(JsonNode(at as u32)),
            Kind::List => Found::List(JsonNode(at as u32)),
            Kind::EscapedText => {
                // With the closing quote.
                let quoted = text.get(entry.start as usize..entry.end as usize + 1);
                unescape(quoted.unwrap_or(bytes), buffer);
                Found::Written
            }
            Kind::Int | Kind::Float => {
                let number =
                    str::from_utf8(bytes).ok().and_then(|text| number(text, entry.kind == Kind::Int));
                number.map_or(Found::Absent, Found::Plain)
            }
        }
    }
}

/// Integers with so many bytes or fewer are finite as floats.
const FINITE_DIGITS_MAX: usize = 300;

struct Reader<'t> {
    bytes: &'t [u8],
    at: usize,
    entries: &'t mut Vec<Entry>,
}

type Step<T> = Result<T, Reading>;

impl Reader<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Step<()> {
        if self.peek() != Some(byte) {
            return Err(Reading::Refused);
        }
        self.at += 1;
        Ok(())
    }

    fn document(&mut self) -> Step<()> {
        self.space();
        self.value((0, 0), 0)?;
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Reading::Refused) }
    }

    /// A value under a key, of which the place is given.
    fn value(&mut self, key: (usize, usize), depth: u32) -> Step<()> {
        if self.entries.len() >= TAPE_ENTRIES_MAX {
            return Err(Reading::Unsure);
        }
        let index = self.entries.len();
        let start = self.at;
        let mut entry = Entry {
            kind: Kind::Null,
            start: start as u32,
            end: start as u32,
            key_start: key.0 as u32,
            key_end: key.1 as u32,
            next: index as u32 + 1,
        };
        match self.peek() {
            Some(b'"') => {
                let (start, end, escaped) = self.string()?;
                (entry.start, entry.end) = (start as u32, end as u32);
                entry.kind = if escaped { Kind::EscapedText } else { Kind::Text };
            }
            Some(b'-' | b'0'..=b'9') => {
                entry.kind = self.number()?;
                entry.end = self.at as u32;
            }
            Some(b't') => entry.kind = self.word(b"true", Kind::True)?,
            Some(b'f') => entry.kind = self.word(b"false", Kind::False)?,
            Some(b'n') => entry.kind = self.word(b"null", Kind::Null)?,
            Some(b'{') => {
                entry.kind = Kind::Map;
                self.entries.push(entry);
                self.members(depth)?;
                self.entries[index].next = self.entries.len() as u32;
                return Ok(());
            }
            Some(b'[') => {
                entry.kind = Kind::List;
                self.entries.push(entry);
                self.items(depth)?;
                self.entries[index].next = self.entries.len() as u32;
                return Ok(());
            }
            _ => return Err(Reading::Refused),
        }
        self.entries.push(entry);
        Ok(())
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Step<Kind> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Reading::Refused);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn items(&mut self, depth: u32) -> Step<()> {
        let depth = enter(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value((0, 0), depth)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => return self.expect(b']'),
            }
        }
    }

    fn members(&mut self, depth: u32) -> Step<()> {
        let depth = enter(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut unsure = false;
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(Reading::Refused);
            }
            let (start, end, escaped) = self.string()?;
            // A key with an escape or that is not UTF-8 can equal one that is written otherwise.
            let key = &self.bytes[start..end];
            unsure |= escaped
                || (!key.iter().fold(0, |all, byte| all | byte).is_ascii() && str::from_utf8(key).is_err());
            self.space();
            self.expect(b':')?;
            self.space();
            self.value((start, end), depth)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.expect(b'}')?;
                    return if unsure { Err(Reading::Unsure) } else { Ok(()) };
                }
            }
        }
    }

    /// The inside of a string, and whether it has an escape.
    #[inline]
    fn string(&mut self) -> Step<(usize, usize, bool)> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_bytes(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok((start, end, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(Reading::Refused),
            }
        }
    }

    /// A surrogate without its other half stands for U+FFFD, so that every code is one.
    fn escape(&mut self) -> Step<()> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(Reading::Refused);
                }
                6
            }
            _ => return Err(Reading::Refused),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Step<Kind> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut kind = Kind::Int;
        let mut in_range = self.at - start <= FINITE_DIGITS_MAX;
        if self.peek() == Some(b'.') {
            kind = Kind::Float;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            kind = Kind::Float;
            in_range = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if !in_range {
            let text = str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Reading::Refused)?;
            number(text, kind == Kind::Int).ok_or(Reading::Refused)?;
        }
        Ok(kind)
    }

    /// One digit or more.
    fn digits(&mut self) -> Step<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Reading::Refused) }
    }
}

fn enter(depth: u32) -> Step<u32> {
    if depth >= JSON_DEPTH_MAX { Err(Reading::Refused) } else { Ok(depth + 1) }
}

/// How many bytes come before the next quote, backslash or control character. Eight are looked at together
/// (Mycroft's test for a zero byte: the lowest bit that it sets is right, those above need not be).
#[inline]
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let ends = below(word ^ (ONES * u64::from(b'"')), 1)
            | below(word ^ (ONES * u64::from(b'\\')), 1)
            | below(word, 0x20);
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{value_from_json, value_to_json};
    use super::*;
    use crate::value::Value;

    /// Whether what was found is this value, with all that is in it.
    fn agrees(tape: &JsonTape, text: &[u8], found: Found<'_>, written: &[u8], value: &Value<'_>) -> bool {
        match (found, value) {
            (Found::Null, Value::Null) => true,
            (Found::Plain(Plain::Bool(found)), Value::Bool(value)) => found == *value,
            (Found::Plain(Plain::Int(found)), Value::Int(value)) => found == *value,
            (Found::Plain(Plain::Float(found)), Value::Float(value)) => found.to_bits() == value.to_bits(),
            (Found::Plain(Plain::Text(found)), Value::Text(value)) => found == value.as_ref(),
            (Found::Written, Value::Text(value)) => written == value.as_ref(),
            (Found::Map(node), Value::Map(entries)) => {
                tape.member(text, node, "no such name", &mut Vec::new()) == Found::Absent
                    && entries.iter().all(|(name, value)| {
                        let mut buffer = Vec::new();
                        let found = tape.member(text, node, name, &mut buffer);
                        agrees(tape, text, found, &buffer, value)
                    })
            }
            (Found::List(node), Value::List(items)) => {
                tape.count(node) == items.len()
                    && tape.item(text, node, items.len(), &mut Vec::new()) == Found::Absent
                    && items.iter().enumerate().all(|(index, value)| {
                        let mut buffer = Vec::new();
                        let found = tape.item(text, node, index, &mut buffer);
                        agrees(tape, text, found, &buffer, value)
                    })
            }
            _ => false,
        }
    }

    /// Holds the tape to the reference; gives what it said.
    fn hold(tape: &mut JsonTape, text: &[u8]) -> Reading {
        let reading = tape.parse(text);
        let value = value_from_json(text);
        let shown = String::from_utf8_lossy(text);
        match (reading, &value) {
            (Reading::Read, Ok(value)) => {
                let mut buffer = Vec::new();
                let root = tape.root(text, &mut buffer);
                assert!(agrees(tape, text, root, &buffer, value), "{shown}: {value:?}");
            }
            (Reading::Read, Err(error)) => panic!("{shown}: {}", error.message),
            (Reading::Refused, Ok(value)) => panic!("{shown}: {value:?}"),
            (Reading::Refused, Err(_)) | (Reading::Unsure, _) => {
                assert_eq!(tape.root(text, &mut Vec::new()), Found::Absent);
            }
        }
        reading
    }

    const LOG: &str = r#"{"ts":"2026-11-23T10:00:00.123Z","level":"info","service":"checkout","host":"edge-01","msg":"order \"17\" placed","http":{"method":"POST","path":"/api/orders","status":201},"ms":12.5,"ok":true,"user":null,"tags":["a","b"],"bytes":5123,"trace":"4bf92f3577b34da6a3ce929d0e0e4736"}"#;

    #[test]
    fn members_are_found_by_their_path() {
        let mut tape = JsonTape::new();
        assert_eq!(hold(&mut tape, LOG.as_bytes()), Reading::Read);
        let mut buffer = Vec::new();
        let mut find = |names: &[&str]| tape.path(LOG.as_bytes(), names, &mut buffer);
        assert_eq!(find(&["level"]), Found::Plain(Plain::Text(b"info")));
        assert_eq!(find(&["http", "status"]), Found::Plain(Plain::Int(201)));
        assert_eq!(find(&["ms"]), Found::Plain(Plain::Float(12.5)));
        assert_eq!(find(&["user"]), Found::Null);
        assert_eq!(find(&["nobody"]), Found::Absent);
        assert_eq!(find(&["level", "status"]), Found::Absent);
        assert!(matches!(find(&["http"]), Found::Map(_)));
        assert!(matches!(find(&["tags"]), Found::List(_)));
        assert_eq!(find(&["msg"]), Found::Written);
        assert_eq!(buffer, br#"order "17" placed"#);
    }

    #[test]
    fn a_text_is_judged_as_by_the_reference() {
        let mut tape = JsonTape::new();
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for text in [
            "1",
            " -0 ",
            "-0.0",
            "1e308",
            "9223372036854775807",
            "9223372036854775808",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "\"\"",
            r#"{"a":1,"b":{"a":2},"a":3}"#,
            r#"["\ud83d\ude00","\ud83d","\ud83d\u0041","\u00e9\/\b\f\n\r\t"]"#,
            "[1,[2,[3]],4]",
            "\t{\n\"a\"\r: null }",
            &deep(128),
            &format!("1{}", "0".repeat(307)),
            "{\"ñ\":\"ñ\"}",
        ] {
            assert_eq!(hold(&mut tape, text.as_bytes()), Reading::Read, "{text}");
        }
        for text in [
            "",
            " ",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e999",
            "-1e999",
            "nul",
            "truefalse",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\ud83d\\u12\"",
            "\"a\nb\"",
            "1 2",
            "[1}",
            "{\"a\":1]",
            "\u{feff}1",
            "[\u{a0}1]",
            &deep(129),
            &"[".repeat(100_000),
            &format!("1{}", "0".repeat(309)),
            "\"\\",
            "{\"a\\",
        ] {
            assert_eq!(hold(&mut tape, text.as_bytes()), Reading::Refused, "{text}");
        }
        // Keys that may equal others that are written otherwise are left to the reference.
        assert_eq!(hold(&mut tape, br#"{"\u0061":1,"a":2}"#), Reading::Unsure);
        assert_eq!(hold(&mut tape, b"{\"\xff\":1}"), Reading::Unsure);
        assert_eq!(hold(&mut tape, b"[\"\xff\xc3\"]"), Reading::Read);
        let many = format!("[{}1]", "1,".repeat(TAPE_ENTRIES_MAX));
        assert_eq!(hold(&mut tape, many.as_bytes()), Reading::Unsure);
    }

    #[test]
    fn another_text_than_the_one_that_was_read_gives_no_panic() {
        let mut tape = JsonTape::new();
        assert_eq!(tape.parse(LOG.as_bytes()), Reading::Read);
        for end in 0..LOG.len() {
            let text = &LOG.as_bytes()[end..];
            for name in ["ts", "msg", "ms", "trace"] {
                let _ = tape.path(text, &[name], &mut Vec::new());
            }
        }
        assert_eq!(tape.item(b"", JsonNode(u32::MAX), 0, &mut Vec::new()), Found::Absent);
    }

    fn values() -> impl Strategy<Value = Value<'static>> {
        let leaves = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-100i64..100).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            any::<String>().prop_map(Value::string),
            "[a-z\"\\\\\n]{0,20}".prop_map(Value::string),
        ];
        leaves.prop_recursive(4, 40, 6, |inner| {
            let keys = prop_oneof![4 => "[a-c]{1,2}", 2 => "[a-zñ_]{0,12}", 1 => any::<String>()];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                proptest::collection::vec((keys, inner), 0..8).prop_map(|entries| {
                    // Keys may come twice: they are written as they are.
                    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn whatever_is_written_is_found(value in values()) {
            let mut text = Vec::new();
            value_to_json(&value, &mut text);
            prop_assert_ne!(hold(&mut JsonTape::new(), &text), Reading::Refused);
        }

        #[test]
        fn changed_texts_are_judged_alike(
            value in values(),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..4),
        ) {
            let mut text = Vec::new();
            value_to_json(&value, &mut text);
            for (place, byte, edit) in edits {
                if text.is_empty() {
                    break;
                }
                let place = place.index(text.len());
                let byte = b"\"\\{}[]:,0-.eE9ut \n"[usize::from(byte) % 18];
                match edit {
                    0 => text[place] = byte,
                    1 => text.insert(place, byte),
                    2 => drop(text.remove(place)),
                    _ => text.truncate(place),
                }
                hold(&mut JsonTape::new(), &text);
            }
        }

        #[test]
        fn changed_logs_are_judged_alike(place in 0..LOG.len(), byte in any::<u8>()) {
            let mut text = LOG.as_bytes().to_vec();
            text[place] = byte;
            hold(&mut JsonTape::new(), &text);
        }

        #[test]
        fn numbers_are_judged_alike(number in "-?[0-9]{0,22}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?") {
            hold(&mut JsonTape::new(), number.as_bytes());
        }
    }
}
