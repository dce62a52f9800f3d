//! One token deleted, doubled or swapped with the next in the examples: the message must stand where the mistake
//! is, and one mistake must not give a heap of messages.

mod common;

use common::{Random, flow_files};
use flow_diag::FileId;
use flow_syntax::lex::{Token, tokens};
use flow_syntax::parse_file;

const MUTATIONS: usize = 1_500;

/// A text with one mistake, and the lines (from 0) where a message about it is right.
struct Mutation {
    text: String,
    lines: std::ops::RangeInclusive<usize>,
    what: String,
}

fn mutate(text: &str, random: &mut Random) -> Mutation {
    let tokens: Vec<Token> = tokens(text).into_iter().filter(|token| !token.is_trivia()).collect();
    let at = random.below(tokens.len() - 1);
    let (token, next) = (tokens[at], tokens[at + 1]);
    let (this, that) = (token.text(text), next.text(text));
    let line = |position: usize| text[..position].matches('\n').count();
    match random.below(3) {
        0 => Mutation {
            text: format!("{}{}", &text[..token.start], &text[token.end..]),
            lines: line(token.start)..=line(token.start),
            what: format!("`{this}` deleted"),
        },
        1 => Mutation {
            text: format!("{} {this}{}", &text[..token.end], &text[token.end..]),
            lines: line(token.start)..=line(token.end),
            what: format!("`{this}` doubled"),
        },
        _ => Mutation {
            text: format!(
                "{}{that}{}{this}{}",
                &text[..token.start],
                &text[token.end..next.start],
                &text[next.end..]
            ),
            lines: line(token.start)..=line(next.end),
            what: format!("`{this}` and `{that}` swapped"),
        },
    }
}

#[test]
fn messages_about_one_wrong_token_are_few_and_in_the_right_place() {
    let examples = flow_files("tests/flows");
    let mut random = Random::new(20_261_123);
    let (mut reported, mut on_line, mut few) = (0, 0, 0);
    let mut log = String::new();
    for _ in 0..MUTATIONS {
        let (path, text) = &examples[random.below(examples.len())];
        let mutation = mutate(text, &mut random);
        let diagnostics = parse_file(FileId(0), &mutation.text).diagnostics;
        if diagnostics.is_empty() {
            continue;
        }
        reported += 1;
        let lines: Vec<usize> = diagnostics
            .iter()
            .map(|diagnostic| mutation.text[..diagnostic.primary.span.start as usize].matches('\n').count())
            .collect();
        let right = lines.iter().any(|line| mutation.lines.contains(line));
        on_line += usize::from(right);
        few += usize::from(diagnostics.len() <= 2);
        if !right || diagnostics.len() > 2 {
            log += &format!(
                "{}:{}: {} -> {:?}\n",
                path.file_name().unwrap_or_default().display(),
                mutation.lines.start() + 1,
                mutation.what,
                diagnostics
                    .iter()
                    .zip(&lines)
                    .map(|(d, line)| (line + 1, d.code, &d.title))
                    .collect::<Vec<_>>()
            );
        }
    }
    println!(
        "{reported} of {MUTATIONS} reported, {on_line} on the line, {few} with at most two messages\n{log}"
    );
    assert!(reported >= 1_000, "only {reported} reported");
    assert!(on_line * 100 >= reported * 94, "{on_line} of {reported} on the right line\n{log}");
    assert!(few * 100 >= reported * 95, "{few} of {reported} with at most two messages\n{log}");
}
