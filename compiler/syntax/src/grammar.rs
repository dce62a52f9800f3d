//! The only contact with pest: the generated parser, its limits, and iteration over pairs without blanks.
//!
//! Nothing outside this crate may see [`Rule`].

use std::num::NonZeroUsize;
use std::sync::Once;

use pest::Parser as _;
pub(crate) use pest::error::{Error, ErrorVariant, InputLocation};
pub(crate) use pest::iterators::Pair;

#[derive(pest_derive::Parser)]
#[grammar = "../../../grammar/flow.pest"]
struct FlowParser;

pub(crate) type Node<'t> = Pair<'t, Rule>;

/// Steps of the grammar that one parse may take. Ordinary text needs a few hundred per byte at most, so this is
/// reached only by text made to be slow; the parse then ends with an error like any other.
const CALLS_MAX: NonZeroUsize = NonZeroUsize::new(400_000_000).expect("not zero");

/// Reads the whole `text` as `rule`; the node returned is the one of `rule` itself.
pub(crate) fn parse(rule: Rule, text: &str) -> Result<Node<'_>, Box<Error<Rule>>> {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| pest::set_call_limit(Some(CALLS_MAX)));
    match FlowParser::parse(rule, text) {
        Ok(mut pairs) => pairs.next().ok_or_else(|| {
            let start = pest::Position::from_start(text);
            Box::new(Error::new_from_pos(ErrorVariant::CustomError { message: "empty".into() }, start))
        }),
        Err(error) => Err(Box::new(error)),
    }
}

/// The children of a node without line ends and the end of the text.
pub(crate) fn children<'t>(node: &Node<'t>) -> impl Iterator<Item = Node<'t>> + use<'t> {
    node.clone()
        .into_inner()
        .filter(|child| !matches!(child.as_rule(), Rule::NL | Rule::blank_lines | Rule::EOI))
}
