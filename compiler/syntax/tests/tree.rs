//! What the tree says: strengths of operators, units, strings, documentation, what broken text leaves behind.

use flow_diag::{Code, FileId};
use flow_syntax::ast::{BinaryOp, Expr, ExprKind, Item, Literal, TemplatePart, UnaryOp};
use flow_syntax::split::split;
use flow_syntax::{parse_expr, parse_file};

fn expr(text: &str) -> Expr {
    let parsed = parse_expr(FileId(0), text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.value.expect("it was read")
}

/// The expression with all parentheses.
fn shape(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Binary { op, left, right, .. } => {
            let op = match op {
                BinaryOp::Range => "..",
                BinaryOp::Coalesce => "??",
                BinaryOp::Or => "or",
                BinaryOp::And => "and",
                BinaryOp::Eq => "==",
                BinaryOp::Matches => "~",
                BinaryOp::In => "in",
                BinaryOp::Add => "+",
                BinaryOp::Sub => "-",
                BinaryOp::Mul => "*",
                BinaryOp::Div => "/",
                other => return format!("{other:?}"),
            };
            format!("({} {op} {})", shape(left), shape(right))
        }
        ExprKind::Unary { op: UnaryOp::Neg, value, .. } => format!("(-{})", shape(value)),
        ExprKind::Unary { op: UnaryOp::Not, value, .. } => format!("(not {})", shape(value)),
        ExprKind::Name(name) => name.text.clone(),
        ExprKind::Member { object, name } => format!("{}.{}", shape(object), name.text),
        ExprKind::Literal(Literal::Int(value)) => value.to_string(),
        ExprKind::Regex(regex) => format!("/{}/", regex.pattern),
        ExprKind::Else { value, .. } => format!("({} else …)", shape(value)),
        ExprKind::Lambda { param, body } => format!("({} => {})", param.text, shape(body)),
        other => format!("{other:?}"),
    }
}

#[test]
fn operators_bind_as_the_grammar_says() {
    for (text, wanted) in [
        ("a or b and c", "(a or (b and c))"),
        ("not a == b and c", "((not (a == b)) and c)"),
        ("a.b ?? c == d", "((a.b ?? c) == d)"),
        ("a ?? b ?? c", "(a ?? (b ?? c))"),
        ("x in 1..n + 1", "(x in (1 .. (n + 1)))"),
        ("a - b - c", "((a - b) - c)"),
        ("a + b * c / d", "(a + ((b * c) / d))"),
        ("-a.b * c", "((-a.b) * c)"),
        ("a - -b", "(a - (-b))"),
        ("a ~ /x/ or b", "((a ~ /x/) or b)"),
        ("m => m + 1", "(m => (m + 1))"),
        ("a or b else drop", "((a or b) else …)"),
        ("(a or b) and c", "((a or b) and c)"),
    ] {
        assert_eq!(shape(&expr(text)), wanted, "{text}");
    }
}

#[test]
fn numbers_have_their_units_applied() {
    for (text, wanted) in [
        ("10_000", Literal::Int(10_000)),
        ("0.5", Literal::Float(0.5)),
        ("80%", Literal::Float(0.8)),
        ("5min", Literal::Duration(300_000_000_000)),
        ("1h30min", Literal::Duration(5_400_000_000_000)),
        ("1.5s", Literal::Duration(1_500_000_000)),
        ("250us", Literal::Duration(250_000)),
        ("64MiB", Literal::Size(64 << 20)),
        ("1.5KB", Literal::Size(1_500)),
        ("@1970-01-02", Literal::Time(86_400_000)),
    ] {
        assert_eq!(expr(text).kind, ExprKind::Literal(wanted), "{text}");
    }
}

#[test]
fn strings_have_their_escapes_applied_and_blocks_their_indentation_cut() {
    let text = |source: &str| match expr(source).kind {
        ExprKind::Literal(Literal::String(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(text(r#""a\n\t\"\\\$\u{e9}""#), "a\n\t\"\\$é");
    assert_eq!(text(r"'a\n$x'"), r"a\n$x");
    assert_eq!(text("\"\"\"\n    a\n      b\n\n    \"quoted\"\n    \"\"\""), "a\n  b\n\n\"quoted\"\n");
    assert_eq!(text("\"\"\"one line\"\"\""), "one line");
}

#[test]
fn interpolations_have_formats() {
    let ExprKind::Template(parts) = expr(r#""/d/${time:%Y-%m}/${a ?? "}"}""#).kind else {
        panic!("no template")
    };
    let [
        TemplatePart::Text(start),
        TemplatePart::Expr { format: Some(format), .. },
        TemplatePart::Text(_),
        TemplatePart::Expr { format: None, value, .. },
    ] = parts.as_slice()
    else {
        panic!("{parts:?}")
    };
    assert_eq!((start.as_str(), format.text.as_str()), ("/d/", "%Y-%m"));
    assert!(matches!(value.kind, ExprKind::Binary { op: BinaryOp::Coalesce, .. }));
}

#[test]
fn a_regex_is_split_into_pattern_and_flags() {
    let ExprKind::Regex(regex) = expr(r"/a\/[/]b/im").kind else { panic!("no regex") };
    assert_eq!((regex.pattern.as_str(), regex.flags.as_str()), ("a/[/]b", "im"));
}

#[test]
fn documentation_and_allows_belong_to_what_stands_below() {
    let text = "# not this\n\n## First.\n##   Second.\n# flowc: allow F0405 \"kept\"\nchannel a = memory {\n  x: 1\n}\n";
    let file = parse_file(FileId(0), text).value;
    let [Item::Component(channel)] = file.items.as_slice() else { panic!("{:?}", file.items) };
    assert_eq!(channel.doc.as_deref(), Some("First.\n  Second."));
    let [allow] = file.allows.as_slice() else { panic!("{:?}", file.allows) };
    assert_eq!((allow.code.text.as_str(), allow.reason.as_deref()), ("F0405", Some("kept")));
    assert_eq!(&text[allow.covers.range()], "channel a = memory {\n  x: 1\n}");
}

#[test]
fn a_broken_statement_costs_only_itself() {
    let text = "source a = tail \"/x\"\nsink broken = = lost\nagent g {\n  source b = tail \"/y\"\n  c ! d\n  b -> a\n}\n";
    let file = parse_file(FileId(0), text).value;
    let [Item::Component(a), Item::Agent(agent)] = file.items.as_slice() else { panic!("{:?}", file.items) };
    assert_eq!((a.name.text.as_str(), agent.name.text.as_str(), agent.items.len()), ("a", "g", 2));
    let poisoned: Vec<&str> = file.poisoned.iter().map(String::as_str).collect();
    assert_eq!(poisoned, ["broken", "c", "d", "lost"]);
}

#[test]
fn more_than_fifty_mistakes_end_in_one_line() {
    let diagnostics = parse_file(FileId(0), &"source = x\n".repeat(80)).diagnostics;
    assert_eq!(diagnostics.len(), 51);
    let last = diagnostics.last().expect("there are 51");
    assert_eq!((last.code, last.title.as_str()), (Code::F0001, "30 more in this file are not shown"));
}

#[test]
fn the_splitter_knows_what_is_complete() {
    for (text, incomplete) in [
        ("a -> b", false),
        ("a ->", true),
        ("source a =", true),
        ("interceptor f {\n  drop", true),
        ("interceptor f {\n  drop\n}", false),
        ("param a = \"\"\"x", true),
        ("sink a = console )", false),
        ("a -> b # {", false),
    ] {
        assert_eq!(split(text).incomplete, incomplete, "{text}");
    }
    let text = "a -> b\n\n# c\n  -> d\nagent x {\n  e -> f\n}\ng; h";
    let pieces: Vec<&str> = split(text).pieces.into_iter().map(|piece| &text[piece]).collect();
    assert_eq!(pieces, ["a -> b\n\n# c\n  -> d", "agent x {\n  e -> f\n}", "g;", "h"]);
}

/// Every fix that a case offers makes its message go away and none come.
#[test]
fn every_fix_mends() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parse");
    let mut fixes = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of cases is there").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("the case was listed");
        let before = parse_file(FileId(0), &text).diagnostics;
        for diagnostic in before.iter().filter(|diagnostic| !diagnostic.fix.is_empty()) {
            let mut mended = text.clone();
            let mut edits = diagnostic.fix.clone();
            edits.sort_by_key(|edit| std::cmp::Reverse(edit.span.start));
            for edit in edits {
                mended.replace_range(edit.span.range(), &edit.text);
            }
            let after = parse_file(FileId(0), &mended).diagnostics;
            let place = entry.path();
            assert!(after.len() < before.len(), "{}: {diagnostic:?}\n{after:#?}", place.display());
            fixes += 1;
        }
    }
    assert!(fixes >= 40, "only {fixes} fixes tried");
}

/// Read at the same time or one after the other: the same trees, in the same order, also for broken text.
#[test]
fn files_read_at_once_are_as_read_alone() {
    let texts: Vec<String> = (0..20)
        .map(|n| format!("# {n}\nsource s{n} = tail \"{n}\"\n\n  # on\n -> c{n}\n{}", "} ".repeat(n % 3)))
        .collect();
    let texts: Vec<(FileId, &str)> = texts.iter().map(|text| (FileId(0), text.as_str())).collect();
    let at_once = flow_syntax::parse_files(&texts);
    assert_eq!(at_once.len(), texts.len());
    for (parsed, (file, text)) in at_once.iter().zip(texts) {
        let alone = parse_file(file, text);
        assert_eq!(format!("{:?}", parsed.value), format!("{:?}", alone.value), "{text}");
        assert_eq!(parsed.diagnostics, alone.diagnostics, "{text}");
    }
}
