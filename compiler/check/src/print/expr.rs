//! IR back to text, for people: short, close to the language, and never a reason to fail. What has no short form is
//! shown as `…`.

use flow_plan::ir::{ArithOp, CompareOp, Const, Expr, Fallback, TemplatePart};

/// Deeper than this is `…`.
const DEPTH_MAX: usize = 12;

/// An expression as one would write it; header names by slot.
pub(crate) fn expr_text(expr: &Expr, slots: &[String]) -> String {
    text(expr, slots, 0)
}

fn text(expr: &Expr, slots: &[String], depth: usize) -> String {
    if depth > DEPTH_MAX {
        return "…".to_owned();
    }
    let sub = |expr: &Expr| text(expr, slots, depth + 1);
    let list = |items: &[Expr]| items.iter().map(sub).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Const(value) => const_text(value),
        Expr::Local(0) => "it".to_owned(),
        Expr::Local(_) => "…".to_owned(),
        Expr::Header(slot) => match slots.get(slot.0 as usize) {
            Some(name) => format!("header.{name}"),
            None => "header.…".to_owned(),
        },
        Expr::Headers => "header".to_owned(),
        Expr::Body => "body".to_owned(),
        Expr::Time => "time".to_owned(),
        Expr::EventId => "event.id".to_owned(),
        Expr::EventSource => "event.source".to_owned(),
        Expr::EventSize => "event.size".to_owned(),
        Expr::Now => "now()".to_owned(),
        Expr::Not(value) => format!("not {}", sub(value)),
        Expr::Neg { value, .. } => format!("-{}", sub(value)),
        Expr::And(one, two) => format!("{} and {}", sub(one), sub(two)),
        Expr::Or(one, two) => format!("{} or {}", sub(one), sub(two)),
        Expr::Coalesce(one, two) => format!("{} ?? {}", sub(one), sub(two)),
        Expr::Compare { op, left, right } => {
            let op = match op {
                CompareOp::Eq => "==",
                CompareOp::Ne => "!=",
                CompareOp::Lt => "<",
                CompareOp::Le => "<=",
                CompareOp::Gt => ">",
                CompareOp::Ge => ">=",
            };
            format!("{} {op} {}", sub(left), sub(right))
        }
        Expr::Arith { op, left, right, .. } => {
            let op = match op {
                ArithOp::Add => "+",
                ArithOp::Sub => "-",
                ArithOp::Mul => "*",
                ArithOp::Div => "/",
                ArithOp::Rem => "%",
            };
            format!("{} {op} {}", sub(left), sub(right))
        }
        Expr::Matches { value, regex } => {
            format!("{} ~ {}", sub(value), regex_text(&regex.pattern, &regex.flags))
        }
        Expr::MatchesDynamic { value, regex, .. } => format!("{} ~ {}", sub(value), sub(regex)),
        Expr::In { value, list } => format!("{} in {}", sub(value), sub(list)),
        Expr::Between { value, low, high } => format!("{} in {}..{}", sub(value), sub(low), sub(high)),
        Expr::If { condition, .. } => format!("if {} {{ … }}", sub(condition)),
        Expr::Call { function, args, .. } => format!("{function}({})", list(args)),
        Expr::List(items) => format!("[{}]", list(items)),
        Expr::Member { object, name } => format!("{}.{name}", sub(object)),
        Expr::Index { object, index, .. } => format!("{}[{}]", sub(object), sub(index)),
        Expr::Range { low, high, .. } => format!("{}..{}", sub(low), sub(high)),
        Expr::Template(parts) => {
            let mut out = String::from("\"");
            for part in parts {
                match part {
                    TemplatePart::Text(text) => out.push_str(text),
                    TemplatePart::Expr { value, format: None } => {
                        out.push_str(&format!("${{{}}}", sub(value)));
                    }
                    TemplatePart::Expr { value, format: Some(format) } => {
                        out.push_str(&format!("${{{}:{format}}}", sub(value)));
                    }
                }
            }
            out.push('"');
            out
        }
        Expr::Else { value, fallback } => match fallback {
            Fallback::Drop => format!("{} else drop", sub(value)),
            Fallback::Pass => format!("{} else pass", sub(value)),
            Fallback::Fail { .. } => format!("{} else fail", sub(value)),
            Fallback::Value(other) => format!("{} else {}", sub(value), sub(other)),
        },
        Expr::CallUser { .. } | Expr::Lambda { .. } | Expr::Map(_) | Expr::Decode { .. } => "…".to_owned(),
    }
}

fn const_text(value: &Const) -> String {
    match value {
        Const::Null => "null".to_owned(),
        Const::Bool(value) => value.to_string(),
        Const::Int(value) => value.to_string(),
        Const::Float(value) => value.to_string(),
        Const::Text(value) => format!("\"{}\"", value.escape_debug()),
        Const::Time(value) => format!("@{value}"),
        Const::Duration(value) => u64::try_from(*value).map_or("…".to_owned(), duration_text),
        Const::Size(value) => size_text(*value),
        Const::Regex(regex) => regex_text(&regex.pattern, &regex.flags),
    }
}

/// `/pattern/flags`
pub(crate) fn regex_text(pattern: &str, flags: &str) -> String {
    format!("/{}/{flags}", pattern.replace('/', "\\/"))
}

/// `1h30min`, from nanoseconds.
pub(crate) fn duration_text(ns: u64) -> String {
    const UNITS: [(u64, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let mut rest = ns;
    let mut out = String::new();
    for (unit, name) in UNITS {
        if rest >= unit {
            out.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// `64MiB`, `200GB` or plain bytes.
pub(crate) fn size_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1_000_000_000_000, "TB"),
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "KB"),
    ];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_the_largest_that_fit() {
        assert_eq!(duration_text(5_400_000_000_000), "1h30min");
        assert_eq!(duration_text(0), "0s");
        assert_eq!(duration_text(1_500_000), "1ms500us");
        assert_eq!(size_text(64 << 20), "64MiB");
        assert_eq!(size_text(200_000_000_000), "200GB");
        assert_eq!(size_text(1_234), "1234B");
    }
}
