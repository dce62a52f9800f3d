//! Base64, hexadecimal digits, percent encoding, queries and URLs.

use std::borrow::Cow;

use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{DecodeError, Engine};
use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::args::{Answer, Entries, Text, fail, lossy, shorten, shown, string, take, text};

pub fn add(functions: &mut Functions) {
    functions.add("base64", base64);
    functions.add("base64_decode", base64_decode);
    functions.add("hex", hex);
    functions.add("hex_decode", hex_decode);
    functions.add("url_encode", url_encode);
    functions.add("url_decode", url_decode);
    functions.add("parse_query", parse_query);
    functions.add("parse_url", parse_url);
}

/// What RFC 3986 calls unreserved stays.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_ALPHABET: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_ALPHABET: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Appends base64 with padding.
pub fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // Four digits for three bytes, rounded up.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// Appends what base64 stands for.
pub fn write_base64_decoded(digits: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let in_url_alphabet = digits.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if in_url_alphabet { URL_ALPHABET } else { STANDARD_ALPHABET };
    engine.decode_vec(digits.trim_ascii(), out)
}

fn base64<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut encoded = Vec::new();
    write_base64(&text(value)?, &mut encoded);
    Ok(Value::Text(Cow::Owned(encoded)))
}

fn base64_decode<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let value = text(value)?;
    let mut bytes = Vec::new();
    match write_base64_decoded(&value, &mut bytes) {
        Ok(()) => Ok(Value::Text(Cow::Owned(bytes))),
        Err(error) => fail(format!("`{}` is not base64: {}", shown(&value), lower_first(&error.to_string()))),
    }
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Appends two hexadecimal digits for each byte.
pub fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    // The room is exactly what it takes.
    let encoded = hex::encode_to_slice(bytes, &mut out[start..]);
    debug_assert!(encoded.is_ok());
}

/// Appends what pairs of hexadecimal digits stand for; false when they are none.
pub fn write_hex_decoded(digits: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + digits.len() / 2, 0);
    hex::decode_to_slice(digits, &mut out[start..]).is_ok()
}

fn hex<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut digits = Vec::new();
    write_hex(&text(value)?, &mut digits);
    Ok(Value::Text(Cow::Owned(digits)))
}

fn hex_decode<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let value = text(value)?;
    let mut bytes = Vec::new();
    match write_hex_decoded(&value, &mut bytes) {
        true => Ok(Value::Text(Cow::Owned(bytes))),
        false => fail(format!("`{}` is not pairs of hexadecimal digits", shown(&value))),
    }
}

/// Appends a text with `%XX` for what is not unreserved.
pub fn write_url_encoded(bytes: &[u8], out: &mut Vec<u8>) {
    percent_encode(bytes, ENCODED).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
}

fn url_encode<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut encoded = Vec::new();
    write_url_encoded(&text(value)?, &mut encoded);
    Ok(Value::Text(Cow::Owned(encoded)))
}

fn url_decode<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Text(decoded(text(value)?)))
}

fn decoded(text: Text<'_>) -> Text<'_> {
    match text {
        Cow::Borrowed(bytes) => percent_decode(bytes).into(),
        Cow::Owned(bytes) => Cow::Owned(percent_decode(&bytes).collect()),
    }
}

fn parse_query<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let value = text(value)?;
    let query = value.strip_prefix(b"?").unwrap_or(&value);
    let field = |field: &[u8]| percent_decode(&plus_to_blank(field)).collect::<Vec<u8>>();
    let mut entries = Entries::new();
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let key = lossy(Cow::Owned(field(&pair[..equals])));
        let value = field(pair.get(equals + 1..).unwrap_or(b""));
        entries.push((key, Value::Text(Cow::Owned(value))));
    }
    Ok(Value::Map(super::json::last_wins(entries)))
}

fn plus_to_blank(field: &[u8]) -> Vec<u8> {
    field.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
}

fn parse_url<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let url = string(value)?;
    match split_url(url.trim()) {
        Ok(entries) => Ok(Value::Map(entries)),
        Err(why) => fail(format!("`{}` is not a URL: {}", shorten(&url), why.message)),
    }
}

/// RFC 3986, section 3: the parts as they stand, with user, password and host decoded.
fn split_url(url: &str) -> Result<Entries<'static>, EvalError> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return fail("it has no scheme");
    };
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return fail("it has no scheme");
    }
    let (rest, fragment) = cut(rest, '#');
    let (rest, query) = cut(rest, '?');
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    let (user_info, address) = match authority {
        None => (None, None),
        Some(authority) => match authority.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), Some(address)),
            None => (None, Some(authority)),
        },
    };
    let (user, password) = user_info.map_or((None, None), |info| {
        let (user, password) = cut(info, ':');
        (Some(user), password)
    });
    let (host, port) = address.map_or(Ok((None, None)), split_address)?;
    Ok(vec![
        ("scheme".into(), Value::string(scheme.to_ascii_lowercase())),
        ("user".into(), optional(user.map(decoded_text))),
        ("password".into(), optional(password.map(decoded_text))),
        (
            "host".into(),
            optional(host.filter(|host| !host.is_empty()).map(|host| decoded_text(host).to_lowercase())),
        ),
        ("port".into(), port.map_or(Value::Null, |port| Value::Int(i64::from(port)))),
        ("path".into(), Value::string(path.to_owned())),
        ("query".into(), optional(query.map(str::to_owned))),
        ("fragment".into(), optional(fragment.map(str::to_owned))),
    ])
}

/// Before and after the first occurrence of a character.
fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn decoded_text(text: &str) -> String {
    percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()
}

fn optional(text: Option<String>) -> Value<'static> {
    text.map_or(Value::Null, Value::string)
}

/// `host:port` and `[::1]:port`; the brackets are no part of the host.
fn split_address(address: &str) -> Result<(Option<&str>, Option<u16>), EvalError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, after)) => match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return fail("something stands between `]` and the port"),
            },
            None => return fail("`[` is never closed"),
        },
        None => cut(address, ':'),
    };
    match port.filter(|port| !port.is_empty()) {
        None => Ok((Some(host), None)),
        Some(port) => {
            match port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten() {
                Some(port) => Ok((Some(host), Some(port))),
                None => fail(format!("`{}` is not a port", shorten(port))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{call, error, t};

    #[test]
    fn base64_in_every_spelling() {
        assert_eq!(call("base64", vec![t("hello")]), "\"aGVsbG8=\"");
        for text in ["aGVsbG8=", "aGVsbG8", " aGVsbG8=\n"] {
            assert_eq!(call("base64_decode", vec![t(text)]), "\"hello\"");
        }
        assert_eq!(call("base64_decode", vec![t("-_8=")]), "\"\\xfb\\xff\"");
        assert_eq!(call("base64_decode", vec![t("+/8=")]), "\"\\xfb\\xff\"");
        for text in ["a", "a*bc", "-/8="] {
            error("base64_decode", vec![t(text)]);
        }
    }

    #[test]
    fn hexadecimal_digits_of_bytes() {
        assert_eq!(call("hex", vec![Value::Text(b"\x00\xff".as_slice().into())]), "\"00ff\"");
        assert_eq!(call("hex_decode", vec![t("617A")]), "\"az\"");
        error("hex_decode", vec![t("617")]);
        error("hex_decode", vec![t("zz")]);
    }

    #[test]
    fn percent_encoding() {
        assert_eq!(call("url_encode", vec![t("a b&ñ-_.~")]), "\"a%20b%26%C3%B1-_.~\"");
        assert_eq!(call("url_decode", vec![t("a%20b%")]), "\"a b%\"");
        assert_eq!(call("url_decode", vec![t("%ff+")]), "\"\\xff+\"");
    }

    #[test]
    fn queries() {
        assert_eq!(
            call("parse_query", vec![t("?a=1&b=x+y%21&c&a=2&=e&&")]),
            r#"{a: "2", b: "x y!", c: "", : "e"}"#
        );
        assert_eq!(call("parse_query", vec![t("")]), "{}");
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(
            call("parse_url", vec![t("HTTPS://ann:p%40ss@Shop.example:8443/a/b?x=1#top")]),
            r#"{scheme: "https", user: "ann", password: "p@ss", host: "shop.example", port: 8443, path: "/a/b", query: "x=1", fragment: "top"}"#
        );
        assert_eq!(
            call("parse_url", vec![t("redis://[::1]:6379")]),
            r#"{scheme: "redis", user: null, password: null, host: "::1", port: 6379, path: "", query: null, fragment: null}"#
        );
        assert_eq!(
            call("parse_url", vec![t("file:///etc/hosts")]),
            r#"{scheme: "file", user: null, password: null, host: null, port: null, path: "/etc/hosts", query: null, fragment: null}"#
        );
        for text in
            ["", "no url", "//x", "1a:b", "http://[::1", "http://[::1]x", "http://a:99999", "http://a:+1"]
        {
            error("parse_url", vec![t(text)]);
        }
    }
}
