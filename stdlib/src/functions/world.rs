//! What a flow may know of where it runs: identifiers by chance, the name of the host, names of hosts.

use std::sync::LazyLock;

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};

use super::args::{Answer, fail, shorten, string, take};

pub fn add(functions: &mut Functions) {
    functions.add_varying("uuid", uuid);
    functions.add_varying("uuid_v7", uuid_v7);
    functions.add("hostname", hostname);
    functions.add("hosts", hosts);
}

/// The most names that `hosts` gives.
const HOSTS_MAX: usize = 10_000;

/// The name of this host, as the system gives it when first asked.
pub fn host_name() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| gethostname::gethostname().to_string_lossy().into_owned());
    &NAME
}

fn uuid<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [] = take(args)?;
    Ok(Value::string(uuid::Uuid::new_v4().to_string()))
}

fn uuid_v7<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [] = take(args)?;
    Ok(Value::string(uuid::Uuid::now_v7().to_string()))
}

fn hostname<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [] = take(args)?;
    Ok(Value::text(host_name()))
}

fn hosts<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [pattern] = take(args)?;
    let names = expand(&string(pattern)?)?;
    Ok(Value::List(names.into_iter().map(Value::string).collect()))
}

/// All names of a pattern like `edge[01-40].example`.
fn expand(pattern: &str) -> Result<Vec<String>, EvalError> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find(['[', ']']) {
        if rest[open..].starts_with(']') {
            return fail(format!("`]` closes nothing in `{}`", shorten(pattern)));
        }
        let Some(close) = rest[open..].find(']').map(|close| open + close) else {
            return fail(format!("`[` is never closed in `{}`", shorten(pattern)));
        };
        let items = expand_items(&rest[open + 1..close])?;
        if names.len() * items.len() > HOSTS_MAX {
            return fail(format!("`{}` stands for more than {HOSTS_MAX} hosts", shorten(pattern)));
        }
        let head = &rest[..open];
        names = names
            .iter()
            .flat_map(|name| items.iter().map(move |item| format!("{name}{head}{item}")))
            .collect();
        rest = &rest[close + 1..];
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

/// The items of a bracket: words and ranges of numbers, separated by commas.
fn expand_items(items: &str) -> Result<Vec<String>, EvalError> {
    let mut expanded = Vec::new();
    for item in items.split(',').map(str::trim) {
        match item.split_once('-') {
            Some((low, high)) => expand_range(item, low.trim(), high.trim(), &mut expanded)?,
            None if item.is_empty() || item.contains('[') => {
                return fail(format!("`[{}]` is not a list of numbers, ranges and words", shorten(items)));
            }
            None => expanded.push(item.to_owned()),
        }
        if expanded.len() > HOSTS_MAX {
            return fail(format!("`[{}]` stands for more than {HOSTS_MAX} hosts", shorten(items)));
        }
    }
    Ok(expanded)
}

fn expand_range(item: &str, low: &str, high: &str, expanded: &mut Vec<String>) -> Result<(), EvalError> {
    let number = |digits: &str| {
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (Some(from), Some(to)) = (number(low) as Option<u32>, number(high) as Option<u32>) else {
        return fail(format!("`{}` is not a range like `01-40`", shorten(item)));
    };
    if from > to {
        return fail(format!("the range `{}` is empty", shorten(item)));
    }
    if (to - from) as usize >= HOSTS_MAX {
        return fail(format!("`{}` stands for more than {HOSTS_MAX} hosts", shorten(item)));
    }
    // Zeros at the front are kept: `01-40` gives two digits throughout.
    let width = if low.starts_with('0') { low.len() } else { 1 };
    expanded.extend((from..=to).map(|number| format!("{number:0width$}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::expand;
    use crate::functions::testing::{call, error, t};

    #[test]
    fn ranges_keep_their_zeros() {
        assert_eq!(call("hosts", vec![t("e[08-10].x")]), r#"["e08.x", "e09.x", "e10.x"]"#);
        assert_eq!(call("hosts", vec![t("m[9-10]")]), r#"["m9", "m10"]"#);
        assert_eq!(call("hosts", vec![t("plain.example")]), r#"["plain.example"]"#);
        assert_eq!(call("hosts", vec![t("r[1,2]-[a,b]")]), r#"["r1-a", "r1-b", "r2-a", "r2-b"]"#);
    }

    #[test]
    fn the_bound_holds_for_every_way_to_pass_it() {
        assert_eq!(expand("h[1-10000]").expect("at the bound").len(), 10_000);
        for pattern in ["h[1-10001]", "h[1-101][1-101]", "h[0-4294967295]", "h[1-9999,1-9999]"] {
            assert!(error("hosts", vec![t(pattern)]).contains("more than 10000 hosts"), "{pattern}");
        }
    }

    #[test]
    fn broken_patterns_fail() {
        for pattern in
            ["h[1-", "h]", "h[]", "h[2-1]", "h[a-b]", "h[1-99999999999]", "h[[1]]", "h[1,]", "h[-1]"]
        {
            error("hosts", vec![t(pattern)]);
        }
    }

    #[test]
    fn identifiers_have_their_versions() {
        assert_eq!(&call("uuid", vec![])[15..16], "4");
        assert_eq!(&call("uuid_v7", vec![])[15..16], "7");
        assert_eq!(call("hostname", vec![]), format!("{:?}", super::host_name()));
    }
}
