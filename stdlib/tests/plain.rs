//! The plain forms of functions give the answers of the functions: for every example of a declaration, for ordinary
//! arguments (where they must answer), and for random and hostile ones (where they may be unsure).

use std::collections::BTreeSet;

use flow_plan::Value;
use flow_plan::eval::{duration_from_text, size_from_text, time_from_text, values_equal};
use flow_plan::function::{CallContext, EvalError, Functions, Plain, PlainAnswer};
use proptest::prelude::*;

struct NoLambda;

impl CallContext for NoLambda {
    fn call_lambda<'a>(&mut self, _: &Value<'a>, _: Value<'a>) -> Result<Value<'a>, EvalError> {
        Err(EvalError::new("no lambda"))
    }

    fn now_ms(&self) -> i64 {
        1_795_428_000_000
    }
}

/// An argument that lives as long as the test wants.
#[derive(Clone, Debug)]
enum Arg {
    Text(Vec<u8>),
    Other(Plain<'static>),
}

impl Arg {
    fn plain(&self) -> Plain<'_> {
        match self {
            Arg::Text(text) => Plain::Text(text),
            Arg::Other(plain) => *plain,
        }
    }
}

fn text(text: &str) -> Arg {
    Arg::Text(text.as_bytes().to_vec())
}

fn int(number: i64) -> Arg {
    Arg::Other(Plain::Int(number))
}

fn value(plain: Plain<'_>) -> Value<'_> {
    match plain {
        Plain::Null => Value::Null,
        Plain::Bool(value) => Value::Bool(value),
        Plain::Int(number) => Value::Int(number),
        Plain::Float(number) => Value::Float(number),
        Plain::Text(text) => Value::Text(text.into()),
        Plain::Time(ms) => Value::Time(ms),
        Plain::Duration(ns) => Value::Duration(ns),
        Plain::Size(bytes) => Value::Size(bytes),
    }
}

/// Equal and of the same type; NaN is NaN, and zero has a sign.
fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => {
            left.to_bits() == right.to_bits() || (left.is_nan() && right.is_nan())
        }
        _ => std::mem::discriminant(left) == std::mem::discriminant(right) && values_equal(left, right),
    }
}

/// Holds the plain form of a call to the function. Gives whether it answered.
fn hold(functions: &Functions, name: &str, args: &[Arg], constant: &[bool]) -> Result<bool, String> {
    let plains: Vec<Plain<'_>> = args.iter().map(Arg::plain).collect();
    let constants: Vec<Option<Plain<'_>>> = plains
        .iter()
        .zip(constant.iter().chain(std::iter::repeat(&false)))
        .map(|(plain, constant)| constant.then_some(*plain))
        .collect();
    let Some(form) = functions.plain(name, &constants) else { return Ok(false) };
    let function = functions.get(name).ok_or("there is no such function")?;
    let expected = function(&mut NoLambda, plains.iter().map(|plain| value(*plain)).collect());
    // What an earlier call has left behind must make no difference.
    let mut buffer = Vec::new();
    for _ in 0..2 {
        buffer.clear();
        let answer = form.call(&plains, &mut buffer);
        let agrees = match (&answer, &expected) {
            (PlainAnswer::Unsure, _) => return Ok(false),
            (PlainAnswer::Fails, expected) => expected.is_err(),
            (PlainAnswer::Value(answer), Ok(expected)) => same(&value(*answer), expected),
            (PlainAnswer::Written, Ok(expected)) => same(&Value::Text(buffer.as_slice().into()), expected),
            _ => false,
        };
        if !agrees {
            return Err(format!(
                "`{name}` of {args:?}: {answer:?}, buffer {:?}; the function gave {expected:?}",
                String::from_utf8_lossy(&buffer)
            ));
        }
    }
    Ok(true)
}

/// Types and defaults of parameters.
type Params = Vec<(String, Option<String>)>;

/// Signatures of the functions, by name.
fn signatures() -> Vec<(String, Params)> {
    let (_, declared) = flow_stdlib::DECLARATIONS[0];
    let lines = declared.lines().filter_map(|line| line.strip_prefix("extern fn "));
    let signatures = lines.filter_map(|line| {
        let (name, rest) = line.split_once('(')?;
        let (params, _) = rest.split_once(") ->")?;
        let params = split(params).into_iter().map(|param| {
            let (_, rest) = param.split_once(':').expect("a type");
            let (ty, default) = rest.split_once('=').map_or((rest, None), |(ty, value)| (ty, Some(value)));
            (ty.trim().to_owned(), default.map(|value| value.trim().to_owned()))
        });
        Some((name.to_owned(), params.collect()))
    });
    signatures.collect()
}

/// Parts of a list in parentheses, at its own commas.
fn split(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for c in list.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote.is_some() => escaped = true,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if quote == Some(c) => quote = None,
            '(' | '[' | '{' | '<' if quote.is_none() => depth += 1,
            ')' | ']' | '}' | '>' if quote.is_none() => depth -= 1,
            ',' if quote.is_none() && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("a part").push(c);
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A literal of the language that is a plain value.
fn literal(code: &str) -> Option<Arg> {
    let code = code.trim();
    if let Some(raw) = code.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Some(text(raw));
    }
    if let Some(quoted) = code.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return (!quoted.contains('\\') && !quoted.contains('"')).then(|| text(quoted));
    }
    let plain = match code {
        "null" => Plain::Null,
        "true" => Plain::Bool(true),
        "false" => Plain::Bool(false),
        _ => match code.strip_prefix('@') {
            Some(time) => Plain::Time(time_from_text(time)?),
            None => {
                let digits = code.replace('_', "");
                if let Ok(number) = digits.parse() {
                    Plain::Int(number)
                } else if let Some(number) = digits.parse().ok().filter(|_| !digits.contains("in")) {
                    Plain::Float(number)
                } else if let Some(ns) = duration_from_text(&digits) {
                    Plain::Duration(ns)
                } else {
                    Plain::Size(size_from_text(&digits)?)
                }
            }
        },
    };
    Some(Arg::Other(plain))
}

#[test]
fn every_example_of_a_declaration_agrees() {
    let functions = flow_stdlib::registry().functions;
    let signatures = signatures();
    let plain: BTreeSet<&str> = functions.plain_names().collect();
    let (_, declared) = flow_stdlib::DECLARATIONS[0];
    let mut answered = BTreeSet::new();
    for line in declared.lines().filter_map(|line| line.strip_prefix("##     ")) {
        let call = line.strip_prefix("not ").unwrap_or(line);
        let Some((name, rest)) = call.split_once('(') else { continue };
        let Some(name) = plain.get(name) else { continue };
        // The call ends where its parenthesis does.
        let ends = rest.char_indices().filter(|(_, c)| *c == ')').map(|(at, _)| &rest[..at]);
        let args = ends.map(|args| split(args).iter().map(|arg| literal(arg)).collect::<Option<Vec<Arg>>>());
        let Some(args) = args.flatten().next() else { continue };
        for (_, params) in
            signatures.iter().filter(|(other, params)| other == name && params.len() >= args.len())
        {
            let defaults = params[args.len()..].iter().map(|(_, default)| literal(default.as_deref()?));
            let Some(defaults) = defaults.collect::<Option<Vec<Arg>>>() else { continue };
            let args: Vec<Arg> = args.iter().cloned().chain(defaults).collect();
            for constant in [[false; 3], [false, true, true]] {
                let answer = hold(&functions, name, &args, &constant);
                if answer.unwrap_or_else(|error| panic!("{line}: {error}")) {
                    answered.insert(*name);
                }
            }
        }
    }
    // Those without an example of plain literals.
    let without: Vec<&&str> = plain.difference(&answered).collect();
    assert!(without.len() <= 2, "no example was answered for {without:?}");
}

#[test]
fn ordinary_arguments_are_answered() {
    let functions = flow_stdlib::registry().functions;
    let ms = Arg::Other(Plain::Time(1_795_428_000_123));
    let null = Arg::Other(Plain::Null);
    let float = |number| Arg::Other(Plain::Float(number));
    let duration = Arg::Other(Plain::Duration(1_500_000_000));
    let parse = |value, format| ("parse_time", vec![text(value), text(format), text("UTC")]);
    let mut calls = vec![
        ("int", vec![text("200")]),
        ("int", vec![text(" -7 ")]),
        ("int", vec![text("x")]),
        ("int", vec![null.clone()]),
        ("int", vec![float(2.5)]),
        ("float", vec![text("0.003")]),
        ("float", vec![text("1e-7")]),
        ("text", vec![int(-5)]),
        ("text", vec![float(0.1)]),
        ("text", vec![ms.clone()]),
        ("bool", vec![text("Yes")]),
        ("lower", vec![text("GET /Index.HTML")]),
        ("lower", vec![text("ÄÖ")]),
        ("upper", vec![text("get")]),
        ("trim", vec![text("  a b ")]),
        ("trim", vec![text("[a]"), text("[]")]),
        ("contains", vec![text("a warning"), text("warn")]),
        ("len", vec![text("añb")]),
        ("slice", vec![text("abcdef"), int(1), null.clone()]),
        ("truncate", vec![text("abcdef"), int(4), text("…")]),
        ("index_of", vec![text("añb"), text("z")]),
        ("is_blank", vec![null]),
        ("min", vec![int(1), float(0.5)]),
        ("clamp", vec![int(12), int(0), int(10)]),
        ("replace", vec![text("a.b"), text("."), text("-")]),
        ("replace_all", vec![text("abc"), text("."), text("-")]),
        ("md5", vec![text("abc")]),
        ("mask_ip", vec![text("10.1.2.3"), int(24), int(48)]),
        ("is_private_ip", vec![text("10.1.2.3")]),
        ("ip_in_cidr", vec![text("10.1.2.3"), text("10.0.0.0/8")]),
        ("seconds", vec![duration.clone()]),
        ("milliseconds", vec![duration]),
        ("from_unix_ms", vec![int(5)]),
        ("unix", vec![ms.clone()]),
        ("format_time", vec![ms.clone(), text("%FT%T%.3fZ"), text("UTC")]),
        ("format_time", vec![ms.clone(), text("%A %e %B"), text("Europe/Paris")]),
        ("parse_time", vec![text("2026-11-23T10:00:00Z")]),
        ("parse_time", vec![text("2026-11-23T10:00:00.123+01:00")]),
        ("parse_time", vec![text("2026-11-23 10:00:00.123456789")]),
        ("parse_time", vec![text("2026-11-23 10:00:00,500"), text("%F %T,%3f"), text("Europe/Paris")]),
        parse("23/Nov/2026:10:00:01 +0000", "%d/%b/%Y:%H:%M:%S %z"),
        parse("29/Feb/2024:23:59:59 -0930", "%d/%b/%Y:%H:%M:%S %z"),
        parse("2026-11-23T10:00:00+0100", "%Y-%m-%dT%H:%M:%S%z"),
        parse("2026-11-23 10:00:00", "%Y-%m-%d %H:%M:%S"),
        parse("20261123", "%Y%m%d"),
        parse("2026112310", "%Y%m%d%H"),
    ];
    let parts = ["year", "month", "day", "day_of_year", "weekday", "hour", "minute", "second"];
    calls.extend(parts.map(|name| (name, vec![ms.clone(), text("UTC")])));
    calls.extend(parts.map(|name| (name, vec![ms.clone(), text("Asia/Tokyo")])));
    for (name, args) in calls {
        let answered = hold(&functions, name, &args, &[false, true, true]);
        assert_eq!(answered, Ok(true), "`{name}` of {args:?}");
    }
}

fn texts() -> impl Strategy<Value = Arg> {
    let bytes = prop_oneof![
        4 => "[ -~]{0,12}".prop_map(String::into_bytes),
        2 => "[ \t\u{a0}]{0,3}[aäÀßŉΣ.%\\-+0-9]{0,8}[ \u{2003}]{0,2}".prop_map(String::into_bytes),
        2 => "[+-]?[0-9]{0,22}(\\.[0-9]{0,20})?(e-?[0-9]{1,3})?".prop_map(String::into_bytes),
        1 => any::<String>().prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => "([0-9]{1,3}\\.){3}[0-9]{1,3}(/[0-9]{1,2})?".prop_map(String::into_bytes),
        1 => (any::<u8>(), 0usize..5_000).prop_map(|(byte, count)| vec![byte; count]),
        3 => prop::sample::select(vec![
            "", "-", "+", ".", "5.", ".5", "-0", "-0.0", "nan", "inf", "infinity", "1e309", "0x-1", "-0x8000000000000000",
            "9223372036854775807", "-9223372036854775808", "9223372036854775808", "000000000000000000000000007",
            "true", " OFF\n", "aGk=", "a-_b", "6A", "%41%", "%zz", "::1", "::ffff:1.2.3.4", "10.0.0.0/8", "10.0.0.0/33",
            "1h30min", "64KiB", "17", "UTC", "Europe/Paris", "Mars/Olympus", "%d/%b/%Y:%H:%M:%S %z", "%F %T", "%s", "%",
            "%FT%T%.3fZ", "%Y-%m-%dT%H:%M:%S%z", "2026-11-23T10:00:00Z", "ñ", "\u{1b}[1m", "\u{85}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    bytes.prop_map(Arg::Text)
}

fn ints() -> impl Strategy<Value = i64> {
    let edges = vec![i64::MIN, i64::MIN + 1, i64::MAX, 1 << 53, (1 << 53) + 1, 0, -1];
    prop_oneof![
        -20i64..50,
        prop::sample::select(edges),
        any::<i64>(),
        -4_000_000_000_000i64..4_000_000_000_000
    ]
}

fn floats() -> impl Strategy<Value = f64> {
    let edges =
        vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.5, 2.5, 1e19, 9_223_372_036_854_775_808.0];
    prop_oneof![any::<f64>(), prop::sample::select(edges), -50f64..50.0]
}

/// Any value; of the type most of the time.
fn of_type(ty: &str) -> BoxedStrategy<Arg> {
    let other = |plain: Plain<'static>| Arg::Other(plain);
    let times = prop_oneof![ints(), -70_000_000_000_000i64..260_000_000_000_000]
        .prop_map(Plain::Time)
        .prop_map(other);
    let typed: BoxedStrategy<Arg> = match ty.trim_end_matches('?') {
        "string" => texts().boxed(),
        "int" => ints().prop_map(Plain::Int).prop_map(other).boxed(),
        "float" => floats().prop_map(Plain::Float).prop_map(other).boxed(),
        "time" => times.clone().boxed(),
        "duration" => ints().prop_map(Plain::Duration).prop_map(other).boxed(),
        "size" => prop_oneof![0u64..20, any::<u64>()].prop_map(Plain::Size).prop_map(other).boxed(),
        _ => prop_oneof![texts(), ints().prop_map(Plain::Int).prop_map(other)].boxed(),
    };
    let any = prop_oneof![
        texts(),
        ints().prop_map(Plain::Int).prop_map(other),
        floats().prop_map(Plain::Float).prop_map(other),
        times,
        ints().prop_map(Plain::Duration).prop_map(other),
        any::<u64>().prop_map(Plain::Size).prop_map(other),
        any::<bool>().prop_map(Plain::Bool).prop_map(other),
        Just(other(Plain::Null)),
    ];
    prop_oneof![9 => typed, 1 => any].boxed()
}

/// Calls of all functions with a plain form: the name and arguments, more or fewer than it takes once in a while.
fn calls() -> impl Strategy<Value = (String, Vec<Arg>)> {
    let functions = flow_stdlib::registry().functions;
    let plain: BTreeSet<&str> = functions.plain_names().collect();
    let signatures: Vec<_> =
        signatures().into_iter().filter(|(name, _)| plain.contains(name.as_str())).collect();
    prop::sample::select(signatures).prop_flat_map(|(name, params)| {
        let args: Vec<BoxedStrategy<Arg>> = params.iter().map(|(ty, _)| of_type(ty)).collect();
        let args = (args, 0u8..40, of_type("any")).prop_map(|(mut args, change, more)| {
            match change {
                0 => args.push(more),
                1 => drop(args.pop()),
                _ => {}
            }
            args
        });
        (Just(name), args)
    })
}

/// Formats of fixed width and others, and times that fit them more or less.
fn times() -> impl Strategy<Value = Vec<Arg>> {
    let formats = prop::sample::select(vec![
        "%d/%b/%Y:%H:%M:%S %z",
        "%Y-%m-%dT%H:%M:%S%z",
        "%Y-%m-%d %H:%M:%S",
        "%F %T%.3f",
        "%F %T,%3f",
        "%FT%T.%f%:z",
        "%Y%m%d",
        "%Y%m%d%H",
        "%Y%m%d %H%M",
        "%F %z",
        "%FT%T%.6fZ",
        "%b %d %Y %H:%M:%S",
        "%d.%m.%Y %R",
        "%F %T%.f%z",
        "%Y-%m-%d %M",
        "%H:%M:%S %F",
        "%e %b %Y",
        "%F%f",
        "%F  %T",
        " %F ",
        "%F %T %%",
        "%FT%T%.9f",
    ]);
    let zones =
        prop::sample::select(vec!["UTC", "Europe/Paris", "America/New_York", "Mars/Olympus", "Etc/GMT+5"]);
    let when = prop_oneof![
        4 => 0i64..4_102_444_800_000,
        2 => -62_200_000_000_000i64..253_402_300_800_000,
        1 => (0i64..3000).prop_map(|days| days * 86_400_000),
    ];
    let edit = prop_oneof![
        4 => Just(None),
        6 => (0usize..40, prop::sample::select(b"0123456789 :+-,/TZtbJanFe".to_vec())).prop_map(Some),
    ];
    (formats, zones, when, -1559i32..1559, edit).prop_map(|(format, zone, ms, offset, edit)| {
        let offset = jiff::tz::Offset::from_seconds(offset * 60).unwrap_or(jiff::tz::Offset::UTC);
        let at = jiff::Timestamp::from_millisecond(ms).expect("a year from 0 to 9999");
        let at = at.to_zoned(jiff::tz::TimeZone::fixed(offset));
        let written =
            jiff::fmt::strtime::format(format.replace("%f", "%6f"), &at).expect("a format for writing");
        let mut written = written.into_bytes();
        if let Some((place, byte)) = edit {
            let place = place % (written.len() + 1);
            match byte {
                b',' => drop(written.drain(place..)),
                b'/' => written.insert(place, b'0'),
                byte => written.get_mut(place).into_iter().for_each(|old| *old = byte),
            }
        }
        vec![Arg::Text(written), text(format), text(zone)]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn every_plain_form_agrees_with_its_function(
        (name, args) in calls(),
        constant in prop::array::uniform3(any::<bool>()),
    ) {
        let functions = functions();
        hold(functions, &name, &args, &constant).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn times_are_read_as_by_the_function(args in times()) {
        let functions = functions();
        hold(functions, "parse_time", &args, &[false, true, true]).map_err(TestCaseError::fail)?;
        hold(functions, "parse_time", &args[..1], &[false]).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn times_are_written_as_by_the_function(
        ms in -70_000_000_000_000i64..260_000_000_000_000,
        args in times(),
    ) {
        let mut args = args;
        args[0] = Arg::Other(Plain::Time(ms));
        let written = hold(functions(), "format_time", &args, &[false, true, true]);
        prop_assert_eq!(written.map_err(TestCaseError::fail)?, true);
    }

    #[test]
    fn floats_are_read_as_by_the_standard_library(
        number in "-?[0-9]{0,18}(\\.[0-9]{0,18})?(e[+-]?[0-9]{1,2})?",
    ) {
        let float = functions().plain("float", &[None]).expect("a plain form");
        let answer = match float.call(&[Plain::Text(number.as_bytes())], &mut Vec::new()) {
            PlainAnswer::Value(Plain::Float(number)) => Some(number.to_bits()),
            _ => None,
        };
        prop_assert_eq!(answer, number.parse::<f64>().ok().map(f64::to_bits));
    }
}

fn functions() -> &'static Functions {
    static FUNCTIONS: std::sync::OnceLock<Functions> = std::sync::OnceLock::new();
    FUNCTIONS.get_or_init(|| flow_stdlib::registry().functions)
}
