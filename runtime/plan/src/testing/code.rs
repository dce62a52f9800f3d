//! Random IR over hostile values: mostly not well typed, so that every refusal is met.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{AT, text};
use crate::batch::Slot;
use crate::ir::{
    ArithOp, Code, CompareOp, Const, Expr, ExtractGroup, Fallback, OnMiss, PathStep, Stmt, TemplatePart, Type,
};
use crate::settings::RegexSetting;

/// Locals of the frames of random code.
pub const LOCALS: u32 = 4;

fn call(function: &str, args: Vec<Expr>) -> Expr {
    Expr::Call { function: function.into(), args, origin: AT }
}

fn regex() -> impl Strategy<Value = RegexSetting> {
    let pattern = prop_oneof![
        Just("a"),
        Just("^(?P<g>[a-z]*)(?P<h>\\d+)?"),
        Just("(?P<g>.)(?P<h>.)?$"),
        Just(""),
        Just("\\xff|é"),
    ];
    (pattern, prop_oneof![Just(""), Just("i"), Just("ms")])
        .prop_map(|(pattern, flags)| RegexSetting { pattern: pattern.into(), flags: flags.into() })
}

/// Has the groups `g` and `h`.
fn regex_with_groups() -> impl Strategy<Value = RegexSetting> {
    prop_oneof![Just("^(?P<g>[a-z]*)(?P<h>\\d+)?"), Just("(?P<g>.)(?P<h>.)?$"), Just("(?P<g>b)|(?P<h>)x")]
        .prop_map(|pattern| RegexSetting { pattern: pattern.into(), flags: String::new() })
}

fn constant() -> impl Strategy<Value = Const> {
    prop_oneof![
        Just(Const::Null),
        any::<bool>().prop_map(Const::Bool),
        prop_oneof![-3..3i64, Just(i64::MIN), Just(i64::MAX), 0..2_000_000i64].prop_map(Const::Int),
        prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(1.5), Just(1e300)]
            .prop_map(Const::Float),
        prop_oneof![Just(""), Just("a"), Just("abc12"), Just("é"), Just("{\"a\":[1]}")]
            .prop_map(|text| Const::Text(text.into())),
        prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), Just(1_790_000_000_000)].prop_map(Const::Time),
        prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), Just(3_600_000_000_000)]
            .prop_map(Const::Duration),
        prop_oneof![Just(0), Just(u64::MAX), Just(1024)].prop_map(Const::Size),
        regex().prop_map(Const::Regex),
    ]
}

fn ty() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Any),
        Just(Type::Bool),
        Just(Type::Int),
        Just(Type::Float),
        Just(Type::Text),
        Just(Type::Time),
        Just(Type::Duration),
        Just(Type::Size),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|ty| Type::List(Box::new(ty))),
            inner.clone().prop_map(|ty| Type::Map(Box::new(ty))),
            inner.clone().prop_map(|ty| Type::Optional(Box::new(ty))),
            vec((prop_oneof![Just("a".to_string()), Just("b".to_string())], inner), 0..2)
                .prop_map(|fields| Type::Record { name: None, fields }),
        ]
    })
}

/// A text read as JSON, checked against a type or not.
fn json() -> impl Strategy<Value = Expr> {
    let text = prop_oneof![
        2 => Just(Expr::Body),
        1 => slot().prop_map(Expr::Header),
        1 => prop_oneof![
            Just(r#"{"a":1,"b":"x"}"#), Just(r#"{"a":null,"b":{"a":[]}}"#), Just(r#"{"a":"\u0041"}"#), Just("[1]"),
            Just("{")
        ].prop_map(text),
    ];
    let field = || {
        prop_oneof![
            Just(Type::Int),
            Just(Type::Text),
            Just(Type::Float),
            Just(Type::Bool),
            Just(Type::Time),
            Just(Type::Optional(Box::new(Type::Int))),
            Just(Type::List(Box::new(Type::Any))),
        ]
    };
    let record = (field(), option::of(field())).prop_map(|(a, b)| {
        let b = b.map(|b| ("b".to_string(), b));
        Type::Record { name: None, fields: std::iter::once(("a".to_string(), a)).chain(b).collect() }
    });
    let fallback = prop_oneof![
        Just(Fallback::Drop),
        Just(Fallback::Pass),
        Just(Fallback::Fail { message: None, origin: AT }),
        Just(Fallback::Value(Box::new(Expr::Const(Const::Null)))),
    ];
    (text, option::of(record), option::of(fallback)).prop_map(|(text, ty, fallback)| {
        let mut expr = call("json", vec![text]);
        if let Some(ty) = ty {
            expr = Expr::Decode { value: Box::new(expr), ty, origin: AT };
        }
        match fallback {
            Some(fallback) => Expr::Else { value: Box::new(expr), fallback },
            None => expr,
        }
    })
}

fn local() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..LOCALS, 1 => Just(LOCALS + 1)]
}

pub fn slot() -> impl Strategy<Value = Slot> {
    (0..6u32).prop_map(Slot)
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("body"), Just("time"), Just("header.host"), Just("header.x"), Just("header")]
        .prop_map(String::from)
}

pub fn expr() -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![
        4 => constant().prop_map(Expr::Const),
        3 => local().prop_map(Expr::Local),
        2 => slot().prop_map(Expr::Header),
        2 => Just(Expr::Body),
        1 => Just(Expr::Headers),
        1 => prop_oneof![
            Just(Expr::Time), Just(Expr::EventId), Just(Expr::EventSource), Just(Expr::EventSize), Just(Expr::Now)
        ],
    ];
    leaf.boxed()
        .prop_recursive(4, 24, 3, |inner| {
            let one = inner.clone().prop_map(Box::new);
            let two = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
            let three = (
                inner.clone().prop_map(Box::new),
                inner.clone().prop_map(Box::new),
                inner.clone().prop_map(Box::new),
            );
            let op = prop_oneof![
                Just(CompareOp::Eq),
                Just(CompareOp::Ne),
                Just(CompareOp::Lt),
                Just(CompareOp::Ge)
            ];
            let arith = prop_oneof![
                Just(ArithOp::Add),
                Just(ArithOp::Sub),
                Just(ArithOp::Mul),
                Just(ArithOp::Div),
                Just(ArithOp::Rem)
            ];
            let logic = prop_oneof![
                one.clone().prop_map(Expr::Not),
                one.clone().prop_map(|value| Expr::Neg { value, origin: AT }),
                two().prop_map(|(left, right)| Expr::And(left, right)),
                two().prop_map(|(left, right)| Expr::Or(left, right)),
                two().prop_map(|(left, right)| Expr::Coalesce(left, right)),
                (op, two()).prop_map(|(op, (left, right))| Expr::Compare { op, left, right }),
                (arith, two()).prop_map(|(op, (left, right))| Expr::Arith { op, left, right, origin: AT }),
            ]
            .boxed();
            let tests = prop_oneof![
                (one.clone(), regex()).prop_map(|(value, regex)| Expr::Matches { value, regex }),
                two().prop_map(|(value, regex)| Expr::MatchesDynamic { value, regex, origin: AT }),
                two().prop_map(|(value, list)| Expr::In { value, list }),
                three.clone().prop_map(|(value, low, high)| Expr::Between { value, low, high }),
                three.prop_map(|(condition, then, otherwise)| Expr::If { condition, then, otherwise }),
            ]
            .boxed();
            let calls = prop_oneof![
                (prop_oneof![Just("twice"), Just("first"), Just("clock")], vec(inner.clone(), 0..3))
                    .prop_map(|(name, args)| call(name, args)),
                (inner.clone(), inner.clone(), local()).prop_map(|(list, body, param)| {
                    call("map", vec![list, Expr::Lambda { param, body: Box::new(body) }])
                }),
            ]
            .boxed();
            let data = prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Expr::List),
                vec((key(), inner.clone()), 0..3).prop_map(Expr::Map),
                (one.clone(), key()).prop_map(|(object, name)| Expr::Member { object, name }),
                (local(), prop_oneof![Just("a"), Just("b")]).prop_map(|(local, name)| Expr::Member {
                    object: Box::new(Expr::Local(local)),
                    name: name.into(),
                }),
                two().prop_map(|(object, index)| Expr::Index { object, index, origin: AT }),
                two().prop_map(|(low, high)| Expr::Range { low, high, origin: AT }),
                (one.clone(), ty()).prop_map(|(value, ty)| Expr::Decode { value, ty, origin: AT }),
                (inner.clone(), option::of(prop_oneof![Just("%Y-%S"), Just("%f%q"), Just("%")])).prop_map(
                    |(value, format)| {
                        let part = TemplatePart::Expr { value, format: format.map(String::from) };
                        Expr::Template(vec![TemplatePart::Text("t".into()), part])
                    }
                ),
            ]
            .boxed();
            let fallback = prop_oneof![
                Just(Fallback::Drop),
                Just(Fallback::Pass),
                Just(Fallback::Fail { message: None, origin: AT }),
                one.clone().prop_map(|message| Fallback::Fail { message: Some(message), origin: AT }),
                one.clone().prop_map(Fallback::Value),
            ]
            .boxed();
            let or_else =
                (one, fallback).prop_map(|(value, fallback)| Expr::Else { value, fallback }).boxed();
            prop_oneof![3 => logic, 2 => tests, 2 => calls, 3 => data, 1 => or_else]
        })
        .boxed()
}

pub fn statements() -> BoxedStrategy<Vec<Stmt>> {
    vec(statement(), 0..4).boxed()
}

fn statement() -> BoxedStrategy<Stmt> {
    let group = |name: &'static str| {
        (slot(), option::of(expr()), local()).prop_map(move |(slot, convert, value_local)| ExtractGroup {
            group: name.into(),
            slot,
            convert,
            value_local,
        })
    };
    let plain = |name: &'static str| {
        slot().prop_map(move |slot| ExtractGroup { group: name.into(), slot, convert: None, value_local: 0 })
    };
    let groups = prop_oneof![
        (group("g"), group("h")).prop_map(|(g, h)| vec![g, h]),
        (plain("g"), plain("h")).prop_map(|(g, h)| vec![g, h])
    ];
    let on_miss = prop_oneof![Just(OnMiss::Pass), Just(OnMiss::Drop), Just(OnMiss::Fail)];
    let subject = prop_oneof![2 => Just(Expr::Body), 1 => slot().prop_map(Expr::Header), 1 => expr()];
    let leaf = prop_oneof![
        (local(), expr()).prop_map(|(local, value)| Stmt::Set { local, value }),
        (local(), json()).prop_map(|(local, value)| Stmt::Set { local, value }),
        (slot(), expr()).prop_map(|(slot, value)| Stmt::SetHeader { slot, value }),
        (slot(), constant()).prop_map(|(slot, value)| Stmt::SetHeader { slot, value: Expr::Const(value) }),
        slot().prop_map(|slot| Stmt::RemoveHeader { slot }),
        option::of(regex()).prop_map(|matching| Stmt::RemoveHeaders { names: vec!["host".into()], matching }),
        expr().prop_map(|value| Stmt::SetBody { value }),
        prop_oneof![Just(Expr::Now), expr()].prop_map(|value| Stmt::SetTime { value }),
        (
            local(),
            vec(prop_oneof![key().prop_map(PathStep::Member), expr().prop_map(PathStep::Index)], 0..3),
            expr()
        )
            .prop_map(|(local, path, value)| Stmt::SetPath { local, path, value, origin: AT }),
        (subject, regex_with_groups(), groups, on_miss).prop_map(|(subject, regex, groups, on_miss)| {
            Stmt::Extract { subject, regex, groups, on_miss, origin: AT }
        }),
        Just(Stmt::Drop),
        Just(Stmt::Pass),
        expr().prop_map(|message| Stmt::Fail { message, origin: AT }),
        vec((key(), expr()), 0..3).prop_map(|entries| Stmt::Emit { event: Expr::Map(entries), origin: AT }),
        option::of(expr()).prop_map(|value| Stmt::Return { value }),
        expr().prop_map(|value| Stmt::Expr { value }),
    ];
    leaf.boxed()
        .prop_recursive(2, 8, 3, |inner| {
            let block = || vec(inner.clone(), 0..3);
            prop_oneof![
                (expr(), block(), block()).prop_map(|(condition, then, otherwise)| Stmt::If {
                    condition,
                    then,
                    otherwise
                }),
                regex().prop_map(|regex| Stmt::If {
                    condition: Expr::Matches { value: Box::new(Expr::Body), regex },
                    then: vec![Stmt::Drop],
                    otherwise: vec![],
                }),
                (local(), option::of(local()), vec(expr(), 0..4), block()).prop_map(
                    |(item, index, list, body)| {
                        Stmt::For { item, index, list: Expr::List(list), body, origin: AT }
                    }
                ),
            ]
        })
        .boxed()
}

pub fn code() -> impl Strategy<Value = Code> {
    statements().prop_map(|body| Code { locals: LOCALS, body })
}

/// Code as people write it: most rows come through.
pub fn useful_code() -> impl Strategy<Value = Code> {
    let pattern = || prop_oneof![Just("a"), Just("b"), Just("\\d"), Just("^$"), Just("x$")];
    let matches = || {
        pattern().prop_map(|pattern| Expr::Matches {
            value: Box::new(Expr::Body),
            regex: RegexSetting { pattern: pattern.into(), flags: String::new() },
        })
    };
    let when = |then: Stmt| {
        matches().prop_map(move |condition| Stmt::If {
            condition,
            then: vec![then.clone()],
            otherwise: vec![],
        })
    };
    let on_miss = prop_oneof![Just(OnMiss::Pass), Just(OnMiss::Drop), Just(OnMiss::Fail)];
    let subject = prop_oneof![2 => Just(Expr::Body), 1 => slot().prop_map(Expr::Header)];
    let extract = (subject, regex_with_groups(), slot(), slot(), on_miss).prop_map(
        |(subject, regex, g, h, on_miss)| {
            let group =
                |name: &str, slot| ExtractGroup { group: name.into(), slot, convert: None, value_local: 0 };
            Stmt::Extract { subject, regex, groups: vec![group("g", g), group("h", h)], on_miss, origin: AT }
        },
    );
    let template = |first: Expr, text: &str| {
        let part = TemplatePart::Expr { value: first, format: None };
        Expr::Template(vec![part, TemplatePart::Text(text.into())])
    };
    let emit = Stmt::Emit {
        event: Expr::Map(vec![
            ("body".into(), template(Expr::Body, "x")),
            ("header.kind".into(), Expr::Header(Slot(0))),
            ("header.x".into(), text("new")),
        ]),
        origin: AT,
    };
    let member = |slot: u32, name: &str| Stmt::SetHeader {
        slot: Slot(slot),
        value: Expr::Member { object: Box::new(Expr::Local(1)), name: name.into() },
    };
    let statement = prop_oneof![
        2 => json().prop_map(|value| Stmt::Set { local: 1, value }),
        2 => (slot(), prop_oneof![Just("a"), Just("b")]).prop_map(move |(slot, name)| member(slot.0, name)),
        2 => when(Stmt::Drop),
        1 => when(Stmt::Fail { message: template(Expr::Body, " fails"), origin: AT }),
        1 => when(Stmt::Pass),
        3 => extract,
        1 => when(emit.clone()),
        1 => Just(emit),
        2 => slot().prop_map(|slot| Stmt::SetHeader { slot, value: text("constant") }),
        2 => (slot(), slot()).prop_map(move |(to, from)| {
            Stmt::SetHeader { slot: to, value: template(Expr::Header(from), "+") }
        }),
        1 => (slot(), slot()).prop_map(|(to, from)| Stmt::SetHeader { slot: to, value: Expr::Header(from) }),
        1 => slot().prop_map(|slot| Stmt::RemoveHeader { slot }),
        1 => Just(Stmt::SetTime { value: Expr::Now }),
        1 => Just(Stmt::SetBody { value: Expr::Coalesce(
            Box::new(Expr::Header(Slot(1))), Box::new(Expr::Body)
        ) }),
        1 => Just(Stmt::RemoveHeaders { names: vec!["x".into(), "host".into()], matching: None }),
    ];
    prop_oneof![statement.clone().prop_map(|statement| vec![statement]), vec(statement, 1..4)]
        .prop_map(|body| Code { locals: LOCALS, body })
}
