//! What the grammar would have accepted, in words that people use.

use crate::grammar::{Error, ErrorVariant, Rule};

/// At most so many things are named as expected.
pub(crate) const NOUNS_MAX: usize = 3;

/// Something that could stand at a place, in the order in which it is worth naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Noun {
    Declaration,
    Statement,
    TestStatement,
    Case,
    Step,
    Name,
    Kind,
    Type,
    Value,
    Number,
    Text,
    Regex,
    Setting,
    Settings,
    Block,
    Assign,
    Arrow,
    Operator,
    Ability,
    Guarantee,
    End,
}

impl Noun {
    pub fn text(self) -> &'static str {
        match self {
            Noun::Declaration => "a declaration",
            Noun::Statement => "a statement",
            Noun::TestStatement => "`send` or `expect`",
            Noun::Case => "a case",
            Noun::Step => "a channel, sink or interceptor",
            Noun::Name => "a name",
            Noun::Kind => "a kind or a name",
            Noun::Type => "a type",
            Noun::Value => "a value",
            Noun::Number => "a number",
            Noun::Text => "a text in quotes",
            Noun::Regex => "a regex",
            Noun::Setting => "a setting",
            Noun::Settings => "settings in `{ }`",
            Noun::Block => "a block in `{ }`",
            Noun::Assign => "`=`",
            Noun::Arrow => "`->`",
            Noun::Operator => "an operator",
            Noun::Ability => "`can` or `sets`",
            Noun::Guarantee => "`at_least_once` or another claim",
            Noun::End => "the end of the statement",
        }
    }

    pub fn is_name(self) -> bool {
        matches!(self, Noun::Name | Noun::Kind | Noun::Step | Noun::Value)
    }

    /// Whether it only continues something that is complete already.
    pub fn continues(self) -> bool {
        matches!(
            self,
            Noun::End | Noun::Arrow | Noun::Operator | Noun::Settings | Noun::Ability | Noun::Setting
        )
    }
}

/// The nouns of an error, without doubles, the best first.
pub(crate) fn nouns(error: &Error<Rule>) -> Vec<Noun> {
    let ErrorVariant::ParsingError { positives, .. } = &error.variant else { return Vec::new() };
    let mut nouns: Vec<Noun> = positives.iter().filter_map(|rule| noun(*rule)).collect();
    nouns.sort();
    nouns.dedup();
    // a value covers its kinds; a declaration covers the chain that it could be
    if nouns.contains(&Noun::Value) {
        nouns.retain(|noun| {
            !matches!(noun, Noun::Number | Noun::Text | Noun::Regex | Noun::Name | Noun::Kind)
        });
    }
    if nouns.contains(&Noun::Declaration) {
        nouns.retain(|noun| !matches!(noun, Noun::Name | Noun::Kind | Noun::Step));
    }
    if nouns.contains(&Noun::Step) || nouns.contains(&Noun::Kind) {
        nouns.retain(|noun| *noun != Noun::Name);
    }
    nouns
}

fn noun(rule: Rule) -> Option<Noun> {
    Some(match rule {
        Rule::item | Rule::items => Noun::Declaration,
        Rule::stmt => Noun::Statement,
        Rule::test_stmt | Rule::t_send | Rule::t_expect => Noun::TestStatement,
        Rule::arm | Rule::match_arm | Rule::patterns | Rule::pattern | Rule::arm_else | Rule::guard => {
            Noun::Case
        }
        Rule::place | Rule::route | Rule::fan | Rule::branch | Rule::pipeline => Noun::Step,
        Rule::name | Rule::word | Rule::ident | Rule::typo_word | Rule::extern_name => Noun::Name,
        Rule::path | Rule::ctor | Rule::flow_ctor | Rule::flow_place => Noun::Kind,
        Rule::type_expr | Rule::type_word | Rule::record_type | Rule::generic_type | Rule::one_of_type => {
            Noun::Type
        }
        Rule::expr
        | Rule::expr_nomap
        | Rule::operand
        | Rule::operand_nm
        | Rule::literal
        | Rule::name_ref
        | Rule::agent_ref
        | Rule::list
        | Rule::paren
        | Rule::if_expr
        | Rule::lambda
        | Rule::call_arg
        | Rule::bound
        | Rule::fallback_value
        | Rule::value_block
        | Rule::kw_drop
        | Rule::kw_pass => Noun::Value,
        Rule::number | Rule::int | Rule::digits | Rule::minus_number | Rule::t_count => Noun::Number,
        Rule::string | Rule::raw_string | Rule::text_lit => Noun::Text,
        Rule::regex => Noun::Regex,
        Rule::entry | Rule::key | Rule::dotted | Rule::extern_entry | Rule::extern_setting | Rule::field => {
            Noun::Setting
        }
        Rule::map | Rule::extern_body | Rule::t_none => Noun::Settings,
        Rule::block | Rule::arms | Rule::match_arms | Rule::test_block => Noun::Block,
        Rule::assign_op => Noun::Assign,
        Rule::arrow | Rule::arrow_mark => Noun::Arrow,
        Rule::bin_op | Rule::call | Rule::index | Rule::member | Rule::fallback | Rule::kw_else => {
            Noun::Operator
        }
        Rule::can_clause | Rule::ability | Rule::unless | Rule::sets_clause | Rule::extern_clause => {
            Noun::Ability
        }
        Rule::guarantee => Noun::Guarantee,
        Rule::EOI | Rule::NL => Noun::End,
        _ => return None,
    })
}
