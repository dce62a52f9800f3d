//! Lists and maps.

use std::borrow::Cow;
use std::cmp::Ordering;

use flow_plan::Value;
use flow_plan::eval::values_equal;
use flow_plan::function::{CallContext, EvalError, Functions};

use super::args::{Answer, Entries, check_items, fail, list, map as entries, string, take, unexpected};
use super::json::last_wins;
use super::numbers::compare;

pub fn add(functions: &mut Functions) {
    functions.add("keys", keys);
    functions.add("values", values);
    functions.add("has", has);
    functions.add("get", get);
    functions.add("map", map);
    functions.add("filter", filter);
    functions.add("any", any);
    functions.add("all", all);
    functions.add("sort", sort);
    functions.add("unique", unique);
    functions.add("sum", sum);
    functions.add("flatten", flatten);
    functions.add("concat", concat);
    functions.add("append", append);
    functions.add("merge", merge);
    functions.add("pick", pick);
    functions.add("omit", omit);
}

/// `unique` compares every item with every other one; a longer list fails.
const UNIQUE_ITEMS_MAX: usize = 10_000;

fn keys<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let text = |key| match key {
        Cow::Borrowed(key) => Value::text(key),
        Cow::Owned(key) => Value::string(key),
    };
    Ok(Value::List(entries(value)?.into_iter().map(|(key, _)| text(key)).collect()))
}

fn values<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::List(entries(value)?.into_iter().map(|(_, value)| value).collect()))
}

fn has<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, key] = take(args)?;
    let key = string(key)?;
    Ok(Value::Bool(match value {
        Value::Map(entries) => entries.iter().any(|(known, _)| *known == key),
        _ => false,
    }))
}

fn get<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let mut args = args.into_iter();
    let (Some(value), Some(key), otherwise, None) = (args.next(), args.next(), args.next(), args.next())
    else {
        return fail("expected 2 or 3 arguments");
    };
    let key = string(key)?;
    let found = match value {
        Value::Map(entries) => entries.into_iter().find(|(known, _)| *known == key).map(|(_, value)| value),
        _ => None,
    };
    Ok(found.or(otherwise).unwrap_or(Value::Null))
}

fn map<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, f] = take(args)?;
    let items: Result<Vec<_>, EvalError> =
        list(items)?.into_iter().map(|item| context.call_lambda(&f, item)).collect();
    Ok(Value::List(items?))
}

/// Whether the lambda is true for an item.
fn holds<'a>(context: &mut dyn CallContext, check: &Value<'a>, item: Value<'a>) -> Result<bool, EvalError> {
    match context.call_lambda(check, item)? {
        Value::Bool(holds) => Ok(holds),
        other => Err(unexpected("a bool", &other)),
    }
}

fn filter<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, keep] = take(args)?;
    let mut kept = Vec::new();
    for item in list(items)? {
        if holds(context, &keep, item.clone())? {
            kept.push(item);
        }
    }
    Ok(Value::List(kept))
}

fn any<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, check] = take(args)?;
    for item in list(items)? {
        if holds(context, &check, item)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn all<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, check] = take(args)?;
    for item in list(items)? {
        if !holds(context, &check, item)? {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

/// A value with what it is sorted by.
type Keyed<'a> = (Value<'a>, Value<'a>);

fn sort<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let mut args = args.into_iter();
    let (Some(items), by, None) = (args.next(), args.next(), args.next()) else {
        return fail("expected 1 or 2 arguments");
    };
    let items = list(items)?;
    let keyed: Result<Vec<Keyed<'a>>, EvalError> = match &by {
        None => Ok(items.into_iter().map(|item| (item, Value::Null)).collect()),
        Some(by) => {
            items.into_iter().map(|item| Ok((item.clone(), context.call_lambda(by, item)?))).collect()
        }
    };
    let key = |keyed: &Keyed<'a>| if by.is_none() { keyed.0.clone() } else { keyed.1.clone() };
    let mut keyed = keyed?;
    // Refused before sorting: every item must compare with the first, and then all do with each other, unless
    // there is a NaN, which compares with nothing and so not with itself either.
    if let Some(first) = keyed.first().map(&key) {
        for other in &keyed {
            compare(&key(other), &key(other))?;
            compare(&first, &key(other))?;
        }
    }
    keyed.sort_by(|left, right| {
        let (left, right) = if by.is_none() { (&left.0, &right.0) } else { (&left.1, &right.1) };
        compare(left, right).unwrap_or(Ordering::Equal)
    });
    Ok(Value::List(keyed.into_iter().map(|(item, _)| item).collect()))
}

fn unique<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items] = take(args)?;
    let items = list(items)?;
    if items.len() > UNIQUE_ITEMS_MAX {
        return fail(format!("a list of {} items is more than {UNIQUE_ITEMS_MAX}", items.len()));
    }
    let mut unique: Vec<Value<'a>> = Vec::new();
    for item in items {
        if !unique.iter().any(|known| values_equal(known, &item)) {
            unique.push(item);
        }
    }
    Ok(Value::List(unique))
}

fn sum<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items] = take(args)?;
    let mut whole: i64 = 0;
    let mut broken: Option<f64> = None;
    for item in list(items)? {
        match item {
            Value::Int(number) => match whole.checked_add(number) {
                Some(sum) => whole = sum,
                None => return fail("the sum does not fit into an int"),
            },
            Value::Float(number) => *broken.get_or_insert(0.0) += number,
            other => return Err(unexpected("a number", &other)),
        }
    }
    Ok(match broken {
        None => Value::Int(whole),
        Some(broken) => Value::Float(whole as f64 + broken),
    })
}

fn flatten<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items] = take(args)?;
    let mut flat = Vec::new();
    for item in list(items)? {
        flat.append(&mut list(item)?);
        check_items(flat.len())?;
    }
    Ok(Value::List(flat))
}

fn concat<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [first, second] = take(args)?;
    let mut items = list(first)?;
    items.append(&mut list(second)?);
    check_items(items.len())?;
    Ok(Value::List(items))
}

fn append<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, item] = take(args)?;
    let mut items = list(items)?;
    items.push(item);
    check_items(items.len())?;
    Ok(Value::List(items))
}

fn merge<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [first, second] = take(args)?;
    let mut merged = entries(first)?;
    merged.append(&mut entries(second)?);
    Ok(Value::Map(last_wins(merged)))
}

/// The entries whose keys are in the list, or those whose keys are not.
fn select<'a>(args: Vec<Value<'a>>, listed: bool) -> Answer<'a> {
    let [value, wanted] = take(args)?;
    let wanted: Result<std::collections::HashSet<Cow<'a, str>>, EvalError> =
        list(wanted)?.into_iter().map(string).collect();
    let wanted = wanted?;
    let selected: Entries<'a> =
        entries(value)?.into_iter().filter(|(key, _)| wanted.contains(key) == listed).collect();
    Ok(Value::Map(selected))
}

fn pick<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    select(args, true)
}

fn omit<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    select(args, false)
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;
    use flow_plan::function::EvalError;

    use super::UNIQUE_ITEMS_MAX;
    use crate::functions::testing::{call, call_with, error, f, i, ints, lambda, t, texts};

    fn record() -> Value<'static> {
        Value::Map(vec![("a".into(), i(1)), ("b".into(), Value::Null)])
    }

    #[test]
    fn keys_and_values_of_maps() {
        assert_eq!(call("keys", vec![record()]), r#"["a", "b"]"#);
        assert_eq!(call("values", vec![record()]), "[1, null]");
        assert_eq!(call("has", vec![record(), t("b")]), "true");
        assert_eq!(call("has", vec![i(1), t("b")]), "false");
        assert_eq!(call("get", vec![record(), t("a")]), "1");
        assert_eq!(call("get", vec![record(), t("x"), i(7)]), "7");
        assert_eq!(call("get", vec![i(1), t("x")]), "null");
        assert_eq!(error("keys", vec![i(1)]), "expected a map, found an int");
        assert_eq!(call("pick", vec![record(), texts(&["b", "x"])]), "{b: null}");
        assert_eq!(call("omit", vec![record(), texts(&["b", "x"])]), "{a: 1}");
        assert_eq!(call("merge", vec![record(), Value::Map(vec![("a".into(), i(2))])]), "{a: 2, b: null}");
    }

    #[test]
    fn lambdas_see_every_item() {
        let above_one = |value| match value {
            Value::Int(number) => Ok(Value::Bool(number > 1)),
            _ => Err(EvalError::new("no number")),
        };
        let call = |name| call_with(name, vec![ints(&[1, 2, 3]), lambda()], &above_one).expect(name);
        assert_eq!(call("map"), "[false, true, true]");
        assert_eq!(call("filter"), "[2, 3]");
        assert_eq!(call("any"), "true");
        assert_eq!(call("all"), "false");
        let failing = call_with("map", vec![texts(&["a"]), lambda()], &above_one);
        assert_eq!(failing, Err("no number".into()));
        let no_bool = call_with("filter", vec![ints(&[1]), lambda()], &Ok);
        assert_eq!(no_bool, Err("expected a bool, found an int".into()));
    }

    #[test]
    fn sorting_needs_an_order() {
        assert_eq!(call("sort", vec![Value::List(vec![i(3), f(1.5), i(2)])]), "[1.5, 2, 3]");
        assert_eq!(call("sort", vec![ints(&[])]), "[]");
        let length = |value| match value {
            Value::Text(text) => Ok(Value::Int(text.len() as i64)),
            other => Ok(other),
        };
        let by_length = call_with("sort", vec![texts(&["bbb", "a", "cc"]), lambda()], &length);
        assert_eq!(by_length, Ok(r#"["a", "cc", "bbb"]"#.into()));
        for items in [vec![i(1), t("a")], vec![f(f64::NAN)], vec![i(1), f(f64::NAN)], vec![Value::Null]] {
            assert!(error("sort", vec![Value::List(items)]).contains("no order"));
        }
    }

    #[test]
    fn lists_are_put_together() {
        assert_eq!(call("concat", vec![ints(&[1]), ints(&[2])]), "[1, 2]");
        assert_eq!(call("append", vec![ints(&[1]), i(2)]), "[1, 2]");
        assert_eq!(call("flatten", vec![Value::List(vec![ints(&[1]), ints(&[])])]), "[1]");
        assert_eq!(error("flatten", vec![ints(&[1])]), "expected a list, found an int");
        assert_eq!(call("unique", vec![Value::List(vec![i(1), f(1.0), t("1"), i(1)])]), "[1, \"1\"]");
        error("unique", vec![Value::List(vec![Value::Null; UNIQUE_ITEMS_MAX + 1])]);
    }

    #[test]
    fn sums() {
        assert_eq!(call("sum", vec![ints(&[1, 2])]), "3");
        assert_eq!(call("sum", vec![Value::List(vec![i(1), f(0.5)])]), "1.5");
        assert_eq!(call("sum", vec![ints(&[])]), "0");
        error("sum", vec![ints(&[i64::MAX, 1])]);
        error("sum", vec![texts(&["1"])]);
    }
}
