//! Mistakes of one token in programs that are right: a message or two on the right line, and never a panic.
//!
//! Seeded; `FLOW_MUTATIONS=20000` is the long form.

#[path = "support/checking.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod checking;
#[path = "support/logs.rs"]
#[allow(dead_code, reason = "only its random numbers are needed")]
mod logs;

use std::fs;
use std::path::Path;

use checking::{Texts, check, library};
use logs::Random;

/// Mutations in the short form.
const MUTATIONS: u64 = 1_500;

/// Tokens as a person sees them: words, numbers, strings, single marks.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    let pattern = regex::Regex::new(r#""[^"\n]*"|'[^'\n]*'|[A-Za-z_]\w*|\d[\w.]*|->|\.\.|[^\s\w]"#).unwrap();
    let comments = regex::Regex::new(r"(?m)^\s*#.*$|\s#[^{].*$").unwrap();
    let comment: Vec<_> = comments.find_iter(text).map(|found| found.range()).collect();
    let all = pattern.find_iter(text).map(|found| found.range());
    all.filter(|token| !comment.iter().any(|comment| comment.contains(&token.start))).collect()
}

fn plants() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flows");
    let mut plants: Vec<(String, String)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "flow"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    plants.sort();
    plants
}

#[test]
fn one_token_mistakes_are_reported_where_they_are() {
    let wanted = std::env::var("FLOW_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(MUTATIONS);
    let library = library();
    let plants = plants();
    let mut random = Random::new(2026);
    let (mut reported, mut on_line, mut few) = (0_u64, 0_u64, 0_u64);
    let mut misses = Vec::new();
    for _ in 0..wanted {
        let (name, text) = &plants[random.below(plants.len() as u64) as usize];
        let tokens = tokens(text);
        let at = random.below(tokens.len() as u64 - 1) as usize;
        let (token, next) = (tokens[at].clone(), tokens[at + 1].clone());
        let mutated = match random.below(3) {
            0 => format!("{}{}", &text[..token.start], &text[token.end..]),
            1 => format!("{} {}", &text[..token.end], &text[token.start..]),
            _ => format!(
                "{}{}{}{}{}",
                &text[..token.start],
                &text[next.clone()],
                &text[token.end..next.start],
                &text[token.clone()],
                &text[next.end..]
            ),
        };
        let found = check(&library, name, &mutated, Texts::default());
        let lines: Vec<u32> = found
            .checked
            .diagnostics
            .iter()
            .filter(|one| one.code.to_string() != "F0116")
            .filter(|one| one.severity == flow_diag::Severity::Error)
            .map(|one| found.files.location(one.primary.span.file, one.primary.span.start).line)
            .collect();
        if lines.is_empty() {
            continue;
        }
        reported += 1;
        let first = text[..token.start].matches('\n').count() as u32 + 1;
        let last = text[..next.end].matches('\n').count() as u32 + 1;
        let right = lines.iter().any(|line| (first..=last).contains(line));
        on_line += u64::from(right);
        few += u64::from(lines.len() <= 2);
        if (!right || lines.len() > 2) && misses.len() < 12 {
            let line = mutated.lines().nth(first as usize - 1).unwrap_or("");
            misses.push(format!("line {first}: {line}\n{}", found.shown()));
        }
    }
    println!(
        "{wanted} mutations, {reported} reported: {on_line} on the line, {few} with one or two messages"
    );
    assert!(reported > wanted / 3, "only {reported} of {wanted} mutations were noticed");
    let shown = misses.join("\n");
    assert!(on_line * 100 >= reported * 94, "{on_line} of {reported} on the right line:\n{shown}");
    assert!(few * 100 >= reported * 95, "{few} of {reported} with one or two messages:\n{shown}");
}
