//! Which bracket closes which, also in text where some are missing.
//!
//! First all brackets are paired as they come. Only when that does not come out even, the layout decides where
//! one was forgotten: a declaration at the start of a line, or a closing bracket further left than the line that
//! opened, are proof that an inner bracket was left open.

use flow_diag::{Code, Diagnostic, Span};

use crate::lex::{Token, TokenKind};
use crate::source::Source;
use crate::words::ITEM_WORDS;

/// Deepest nesting of brackets that is read.
pub(crate) const NESTING_MAX: usize = 200;

/// Where a bracket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partner {
    /// Not a bracket.
    None,
    /// The token with the matching bracket.
    At(usize),
    /// Never closed: what belongs to it ends before this token.
    Before(usize),
    /// A closing bracket that closes nothing.
    Stray,
}

/// The brackets of one text, by token.
pub(crate) struct Brackets {
    pub partners: Vec<Partner>,
    /// How many brackets are open around each token.
    pub depths: Vec<u32>,
    pub deepest: usize,
    pub diagnostics: Vec<Diagnostic>,
}

struct Open {
    token: usize,
    bracket: u8,
    line: usize,
    /// Blanks before the first word of the line with the bracket.
    indent: usize,
    /// Holds declarations: the body of an agent, a flow or a template.
    holds_items: bool,
    /// Blanks before the first declaration inside.
    inner: Option<usize>,
}

pub(crate) fn pair(source: &Source<'_>) -> Brackets {
    let plain = Pairing::new(source, false).run();
    if plain.diagnostics.is_empty() { plain } else { Pairing::new(source, true).run() }
}

struct Pairing<'a> {
    source: &'a Source<'a>,
    layout: bool,
    stack: Vec<Open>,
    out: Brackets,
    line: usize,
    indent: usize,
    /// The first word of the statement at depth 0 of the innermost bracket.
    statement_word: &'a str,
}

impl<'a> Pairing<'a> {
    fn new(source: &'a Source<'a>, layout: bool) -> Pairing<'a> {
        let count = source.tokens.len();
        let out = Brackets {
            partners: vec![Partner::None; count],
            depths: vec![0; count],
            deepest: 0,
            diagnostics: Vec::new(),
        };
        Pairing { source, layout, stack: Vec::new(), out, line: 0, indent: 0, statement_word: "" }
    }

    fn run(mut self) -> Brackets {
        let mut line_start = true;
        for (index, token) in self.source.tokens.iter().enumerate() {
            if token.kind == TokenKind::Newline {
                self.line += 1;
                line_start = true;
            } else if line_start && token.kind != TokenKind::Comment {
                line_start = false;
                self.at_line_start(index, *token);
            }
            self.out.depths[index] = u32::try_from(self.stack.len()).unwrap_or(u32::MAX);
            match token.kind {
                TokenKind::Open(bracket) => self.open(index, bracket),
                TokenKind::Close(bracket) => self.close(index, bracket),
                TokenKind::UnclosedString | TokenKind::UnclosedRegex => self.close_in_text(index, *token),
                _ => {}
            }
        }
        let end = self.source.tokens.len();
        if !self.stack.is_empty() {
            let noticed = self.source.span(self.source.text.len(), self.source.text.len());
            self.unclosed_above(0, end, noticed, "the text ends here");
        }
        self.out
    }

    fn at_line_start(&mut self, index: usize, token: Token) {
        let text = self.source.text;
        let start = text[..token.start].rfind('\n').map_or(0, |k| k + 1);
        self.indent = token.start - start;
        if token.kind == TokenKind::Word {
            self.statement_word = token.text(text);
        }
        if !self.layout || self.stack.is_empty() {
            return;
        }
        let at = self.source.token_span(token);
        if self.declares(index) {
            let keep = self.stack.iter().rposition(|open| {
                open.holds_items
                    && open.inner.map_or(self.indent >= open.indent, |inner| inner == self.indent)
            });
            let alone =
                matches!(token.text(text), "agent" | "template" | "import" | "test") && self.indent == 0;
            let keep = keep.filter(|_| !alone).map_or(0, |keep| keep + 1);
            if keep < self.stack.len() {
                self.unclosed_above(keep, index, at, "a new declaration starts here, so it was not closed");
            }
            if let Some(open) = self.stack.last_mut() {
                open.inner.get_or_insert(self.indent);
            }
        } else if let TokenKind::Close(bracket) = token.kind {
            let indent = self.indent;
            let outer =
                self.stack.iter().rposition(|open| closer(open.bracket) == bracket && open.indent == indent);
            if let Some(outer) = outer
                && self.stack.last().is_some_and(|top| top.indent > indent)
            {
                self.unclosed_above(
                    outer + 1,
                    index,
                    at,
                    "this closes the one outside, so it was not closed",
                );
            }
        }
    }

    /// Whether a declaration starts at this token: its word and a name, not a key `source: …`.
    fn declares(&self, index: usize) -> bool {
        let text = self.source.text;
        let token = self.source.tokens[index];
        if token.kind != TokenKind::Word || !ITEM_WORDS.contains(&token.text(text)) {
            return false;
        }
        self.source.tokens.get(index + 1).is_some_and(|next| match next.kind {
            TokenKind::Word => true,
            TokenKind::String | TokenKind::RawString => matches!(token.text(text), "test" | "import"),
            TokenKind::Open(b'{') => token.text(text) == "runtime",
            _ => false,
        })
    }

    fn open(&mut self, index: usize, bracket: u8) {
        let doubled = index.checked_sub(1).is_some_and(|before| {
            let before = self.source.tokens[before].kind;
            bracket == b'{' && before == TokenKind::Open(b'{')
        });
        if self.layout && doubled {
            // nothing in the language begins with `{{`
            let at = self.source.token_span(self.source.tokens[index]);
            self.out.partners[index] = Partner::Stray;
            self.out.diagnostics.push(
                Diagnostic::new(Code::F0003, at, "`{` is never closed")
                    .label("one too many")
                    .help("remove it")
                    .fix(at, ""),
            );
            return;
        }
        let holds_items = bracket == b'{' && matches!(self.statement_word, "agent" | "flow" | "template");
        self.stack.push(Open {
            token: index,
            bracket,
            line: self.line,
            indent: self.indent,
            holds_items,
            inner: None,
        });
        self.out.deepest = self.out.deepest.max(self.stack.len());
    }

    fn close(&mut self, index: usize, bracket: u8) {
        let at = self.source.token_span(self.source.tokens[index]);
        let found = bracket as char;
        let Some(top) = self.stack.last() else {
            self.out.partners[index] = Partner::Stray;
            self.out.diagnostics.push(
                Diagnostic::new(Code::F0003, at, format!("`{found}` closes nothing"))
                    .label("no matching opening bracket")
                    .help("remove it")
                    .fix(at, ""),
            );
            return;
        };
        if closer(top.bracket) == bracket {
            if self.layout && self.too_early(index, top) {
                self.out.partners[index] = Partner::Stray;
                let opener = self.source.token_span(self.source.tokens[top.token]);
                self.out.diagnostics.push(
                    Diagnostic::new(Code::F0003, at, format!("`{found}` closes nothing"))
                        .label("one too many on this line")
                        .also(opener, "the block that starts here goes on below")
                        .help("remove it")
                        .fix(at, ""),
                );
                return;
            }
            self.pair_top(index);
            return;
        }
        let opened = top.bracket as char;
        let opener = self.source.token_span(self.source.tokens[top.token]);
        let same_line = top.line == self.line;
        let right = closer(top.bracket) as char;
        // looked for near the top only, so that a row of wrong brackets stays linear
        let near = self.stack.iter().rev().take(8).position(|open| closer(open.bracket) == bracket);
        match near {
            Some(above) => {
                // the inner ones are open, this closes one further out
                let keep = self.stack.len() - above;
                self.out.diagnostics.push(
                    Diagnostic::new(Code::F0003, at, format!("`{found}` does not close `{opened}`"))
                        .label(format!("expected `{right}` before this"))
                        .also(opener, "opened here")
                        .help(format!("add the missing `{right}`")),
                );
                self.drop_above(keep, index);
                self.pair_top(index);
            }
            None if same_line => {
                self.out.diagnostics.push(
                    Diagnostic::new(Code::F0003, at, format!("`{found}` does not close `{opened}`"))
                        .label(format!("expected `{right}`"))
                        .also(opener, "opened here")
                        .fix(at, right.to_string()),
                );
                self.pair_top(index);
            }
            None => {
                self.out.partners[index] = Partner::Stray;
                self.out.diagnostics.push(
                    Diagnostic::new(Code::F0003, at, format!("`{found}` closes nothing"))
                        .label("no matching opening bracket")
                        .help("remove it")
                        .fix(at, ""),
                );
            }
        }
    }

    /// Whether a closing bracket at the end of a line would end a block of several lines that goes on below.
    fn too_early(&self, index: usize, top: &Open) -> bool {
        let tokens = &self.source.tokens;
        let block = tokens.get(top.token + 1).is_some_and(|next| next.is_trivia());
        let first_on_line = index == 0 || tokens[index - 1].kind == TokenKind::Newline;
        if !block || first_on_line || top.line == self.line {
            return false;
        }
        let mut newline = false;
        for token in &tokens[index + 1..] {
            match token.kind {
                TokenKind::Newline => newline = true,
                TokenKind::Comment => {}
                _ if !newline => return false,
                kind => {
                    let start = self.source.text[..token.start].rfind('\n').map_or(0, |k| k + 1);
                    let indent = token.start - start;
                    return indent > top.indent || indent == top.indent && kind == TokenKind::Close(b'}');
                }
            }
        }
        false
    }

    fn pair_top(&mut self, index: usize) {
        if let Some(open) = self.stack.pop() {
            self.out.partners[open.token] = Partner::At(index);
            self.out.partners[index] = Partner::At(open.token);
            self.out.depths[index] = self.out.depths[open.token];
        }
    }

    /// A quote without its partner swallows the brackets behind it: those that were opened on the same line
    /// count as closed, or one mistake would be told twice.
    fn close_in_text(&mut self, index: usize, token: Token) {
        let mut inner = 0usize;
        for byte in token.text(self.source.text).bytes() {
            match byte {
                b'(' | b'[' | b'{' => inner += 1,
                b')' | b']' | b'}' if inner > 0 => inner -= 1,
                b')' | b']' | b'}' => {
                    let line = self.line;
                    match self.stack.last() {
                        Some(open) if open.line == line && closer(open.bracket) == byte => {
                            self.out.partners[open.token] = Partner::Before(index + 1);
                            self.stack.pop();
                        }
                        _ => return,
                    }
                }
                _ => {}
            }
        }
    }

    /// Gives up the brackets above `keep`; one message for the innermost.
    fn unclosed_above(&mut self, keep: usize, end: usize, noticed: Span, why: &str) {
        let Some(top) = self.stack.last() else { return };
        let opener = self.source.token_span(self.source.tokens[top.token]);
        let bracket = top.bracket as char;
        self.out.diagnostics.push(
            Diagnostic::new(Code::F0003, opener, format!("`{bracket}` is never closed"))
                .label("opened here")
                .also(noticed, why)
                .help("add the missing closing bracket"),
        );
        let ends = self.layout_end(self.stack.len() - 1, end);
        if let Some(top) = self.stack.pop() {
            self.out.partners[top.token] = Partner::Before(ends);
        }
        self.drop_above(keep, end);
    }

    fn drop_above(&mut self, keep: usize, end: usize) {
        while self.stack.len() > keep {
            if let Some(open) = self.stack.pop() {
                self.out.partners[open.token] = Partner::Before(end);
            }
        }
    }

    /// Where the inside of an open bracket probably ends: before the first line that is not further right than
    /// the line with the bracket.
    fn layout_end(&self, open: usize, end: usize) -> usize {
        let open = &self.stack[open];
        let tokens = &self.source.tokens;
        let text = self.source.text;
        let mut line_start = false;
        for (index, token) in tokens.iter().enumerate().take(end).skip(open.token + 1) {
            if token.kind == TokenKind::Newline {
                line_start = true;
            } else if line_start && token.kind != TokenKind::Comment {
                line_start = false;
                let start = text[..token.start].rfind('\n').map_or(0, |k| k + 1);
                if token.start - start <= open.indent && token.text(text) != "->" {
                    return index;
                }
            }
        }
        end
    }
}

fn closer(bracket: u8) -> u8 {
    match bracket {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}
