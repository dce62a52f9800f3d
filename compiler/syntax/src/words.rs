//! The words of the language, for suggestions and for finding the starts of statements.

/// Words that begin a declaration.
pub const ITEM_WORDS: [&str; 21] = [
    "import",
    "param",
    "secret",
    "type",
    "fn",
    "interceptor",
    "source",
    "channel",
    "sink",
    "group",
    "topic",
    "consumer",
    "cluster",
    "ensemble",
    "agent",
    "flow",
    "template",
    "use",
    "runtime",
    "deliver",
    "test",
];

/// Words that cannot be names.
pub const RESERVED_WORDS: [&str; 42] = [
    "import",
    "param",
    "secret",
    "type",
    "fn",
    "interceptor",
    "source",
    "channel",
    "sink",
    "group",
    "topic",
    "consumer",
    "cluster",
    "ensemble",
    "agent",
    "flow",
    "template",
    "use",
    "runtime",
    "deliver",
    "test",
    "route",
    "else",
    "when",
    "as",
    "let",
    "if",
    "for",
    "in",
    "and",
    "or",
    "not",
    "true",
    "false",
    "null",
    "drop",
    "pass",
    "fail",
    "emit",
    "return",
    "remove",
    "match",
];

/// Words that begin a statement of a test.
pub const TEST_WORDS: [&str; 10] =
    ["send", "expect", "stop", "start", "slow", "full", "kill", "restart", "advance", "set"];

/// Whether a word cannot be a name.
pub fn is_reserved(word: &str) -> bool {
    RESERVED_WORDS.contains(&word)
}

/// The declaration word that a misspelt one is nearest to.
pub fn nearest_item_word(word: &str) -> Option<&'static str> {
    flow_diag::suggest(word, ITEM_WORDS)
}
