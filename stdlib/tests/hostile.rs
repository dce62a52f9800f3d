//! Whatever arguments a function is given, it answers or fails: it does not panic, and gives nothing that is larger
//! than texts and lists may be.

use flow_plan::Value;
use flow_plan::eval::{LIST_ITEMS_MAX, TEXT_BYTES_MAX};
use flow_plan::function::{CallContext, EvalError};
use flow_stdlib::registry;
use proptest::prelude::*;

/// Lambdas give back what they get.
struct Echo;

impl CallContext for Echo {
    fn call_lambda<'a>(&mut self, _: &Value<'a>, argument: Value<'a>) -> Result<Value<'a>, EvalError> {
        Ok(argument)
    }

    fn now_ms(&self) -> i64 {
        1_795_428_000_000
    }
}

fn texts() -> impl Strategy<Value = Value<'static>> {
    let bytes = prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..40),
        // Close to what the functions read.
        prop::sample::select(vec![
            "2026-11-23T10:00:00Z",
            "%Y-%m-%d %H:%M:%S",
            "%",
            "UTC",
            "Europe/Paris",
            "1h30min",
            "64KiB",
            "-0",
            "1e309",
            "10.0.0.0/8",
            "::ffff:1.2.3.4",
            "h[01-40].x",
            "h[0-",
            "a=1 b=\"c",
            "{\"a\":[1,{}]}",
            "aGk=",
            "https://u:p@[::1]:80/a?b#c",
            "<34>Oct 11 22:14:15 h a[1]: m",
            "<34>1 - - - - - [a b=\"\\\"\"] m",
            "$1",
            "::1 - - [23/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 -",
            ",",
            "\"a,\"\"b\"",
            "\u{1b}[1m",
            "ñ",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    bytes.prop_map(|bytes| Value::Text(bytes.into()))
}

fn ints() -> impl Strategy<Value = i64> {
    prop_oneof![-20i64..20, prop::sample::select(vec![i64::MIN, i64::MAX, 1 << 53, -1]), any::<i64>()]
}

fn values() -> impl Strategy<Value = Value<'static>> {
    let regex =
        |pattern| Value::Regex(std::sync::Arc::new(regex::bytes::Regex::new(pattern).expect("a regex")));
    let leaves = prop_oneof![
        4 => texts(),
        2 => ints().prop_map(Value::Int),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY)].prop_map(Value::Float),
        1 => ints().prop_map(Value::Time),
        1 => ints().prop_map(Value::Duration),
        1 => any::<u64>().prop_map(Value::Size),
        1 => Just(Value::Lambda(0)),
        2 => prop::sample::select(vec!["", "a", r"(?<n>\w)(\d)?", "x*", r"(?-u)\xff"]).prop_map(regex),
    ];
    leaves.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(|entries| {
                Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
            }),
        ]
    })
}

/// No text or list inside is larger than it may be.
fn check(value: &Value<'_>) {
    match value {
        Value::Text(text) => assert!(text.len() <= TEXT_BYTES_MAX),
        Value::List(items) => {
            assert!(items.len() <= LIST_ITEMS_MAX);
            items.iter().for_each(check);
        }
        Value::Map(entries) => entries.iter().for_each(|(_, value)| check(value)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_function_panics(args in proptest::collection::vec(values(), 0..4)) {
        let functions = registry().functions;
        for name in functions.names() {
            let function = functions.get(name).expect("it was listed");
            match function(&mut Echo, args.clone()) {
                Ok(value) => check(&value),
                Err(error) => prop_assert!(!error.message.is_empty(), "{name} fails without a word"),
            }
        }
    }
}
