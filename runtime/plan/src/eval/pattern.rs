//! A regex of the code, with the engines of the `regex` crate one layer down: there a loop over rows can bring its
//! own working memory, instead of fetching one from a shared pool for each row, and ask for the groups it reads
//! alone. The meaning is that of `regex::bytes`.

use regex_automata::Input;
use regex_automata::meta::{self, Cache};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;

use super::prepare::REGEX_BYTES_MAX;
use crate::function::EvalError;
use crate::settings::RegexSetting;

/// A compiled regex.
pub(crate) struct Pattern {
    regex: meta::Regex,
    text: Box<str>,
}

/// Working memory of searches for one pattern: every search uses it again.
pub(crate) struct Search {
    cache: Cache,
    /// Where the groups of the last match begin and end, two numbers for each of them.
    slots: Vec<Option<NonMaxUsize>>,
}

impl Pattern {
    /// Compiles as [`super::build_regex`] does, with the same bounds.
    pub fn new(setting: &RegexSetting) -> Result<Pattern, EvalError> {
        let mut flags = syntax::Config::new().utf8(false);
        for flag in setting.flags.chars() {
            flags = match flag {
                'i' => flags.case_insensitive(true),
                'm' => flags.multi_line(true),
                's' => flags.dot_matches_new_line(true),
                'x' => flags.ignore_whitespace(true),
                'u' => flags,
                other => return Err(super::prepare::unknown_flag(other)),
            };
        }
        let config = meta::Config::new()
            .nfa_size_limit(Some(REGEX_BYTES_MAX))
            .hybrid_cache_capacity(2 << 20)
            .utf8_empty(false);
        let built = meta::Builder::new().configure(config).syntax(flags).build(&setting.pattern);
        match built {
            Ok(regex) => Ok(Pattern { regex, text: setting.pattern.as_str().into() }),
            // Its message is the one that users know.
            Err(error) => Err(match super::build_regex(setting) {
                Err(known) => known,
                Ok(_) => EvalError::new(format!("the regex cannot be used: {error}")),
            }),
        }
    }

    /// The regex as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number of a named group.
    pub fn group(&self, name: &str) -> Option<usize> {
        self.regex.group_info().to_index(regex_automata::PatternID::ZERO, name)
    }

    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// Memory for searches that look for the first `groups` groups, the whole match among them.
    pub fn search(&self, groups: usize) -> Box<Search> {
        Box::new(Search { cache: self.regex.create_cache(), slots: vec![None; groups * 2] })
    }

    pub fn is_match_with(&self, search: &mut Search, text: &[u8]) -> bool {
        self.regex.search_half_with(&mut search.cache, &Input::new(text).earliest(true)).is_some()
    }

    /// Finds the first match and the groups that the memory is for; false without a match.
    pub fn find(&self, search: &mut Search, text: &[u8]) -> bool {
        self.regex.search_slots_with(&mut search.cache, &Input::new(text), &mut search.slots).is_some()
    }
}

impl Search {
    /// Where a group of the last match begins and ends; `None` when it took no part.
    #[inline]
    pub fn group(&self, number: usize) -> Option<(usize, usize)> {
        match self.slots.get(number * 2..number * 2 + 2)? {
            [Some(start), Some(end)] => Some((start.get(), end.get())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::eval::build_regex;

    const COMBINED: &str = r#"^(?<ip>\S+) (?<ident>\S+) (?<user>\S+) \[(?<when>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+) (?<protocol>[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-) "(?<referrer>[^"]*)""#;

    const KNOWN: [&str; 9] = [
        COMBINED,
        r"kube-probe|GET /health",
        r"(?<a>a+)(?<b>b*)|(?<c>\w)",
        r"^(?<k>\w+)=(?<v>.*)$",
        r"(?<x>é|\b1)?",
        r"(?-u)(?<raw>[\xf0-\xff]+)",
        r"^$",
        r"(a|ab)(c|bcd)(d*)",
        r"x(?<late>\S+)$",
    ];

    fn patterns() -> impl Strategy<Value = RegexSetting> {
        let pattern = prop_oneof![
            3 => prop::sample::select(&KNOWN).prop_map(str::to_string),
            1 => "[abx.*+?()|\\[\\]^$]{0,8}",
        ];
        let flags = prop_oneof![Just(""), Just("i"), Just("ms"), Just("x"), Just("imsxu")];
        (pattern, flags).prop_map(|(pattern, flags)| RegexSetting { pattern, flags: flags.into() })
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let line =
            br#"203.0.113.9 - frank [23/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "x""#.to_vec();
        let broken = (Just(line.clone()), any::<prop::sample::Index>(), any::<u8>()).prop_map(
            |(mut line, at, byte)| {
                let at = at.index(line.len());
                line[at] = byte;
                line
            },
        );
        prop_oneof![
            Just(line),
            broken,
            "[ab=c\\n x1é]{0,12}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..24),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn every_way_to_search_agrees_with_the_regex_crate(
            setting in patterns(),
            texts in prop::collection::vec(texts(), 1..4),
        ) {
            let known = build_regex(&setting);
            let pattern = Pattern::new(&setting);
            prop_assert_eq!(known.is_ok(), pattern.is_ok());
            let (Ok(known), Ok(pattern)) = (known, pattern) else { return Ok(()) };
            for name in known.capture_names().flatten() {
                let number = known.capture_names().position(|other| other == Some(name));
                prop_assert_eq!(pattern.group(name), number);
            }
            // The same memory for all texts: what one search leaves must not change the next.
            let mut search = pattern.search(known.captures_len());
            let mut locations = known.capture_locations();
            for text in &texts {
                let expected = known.captures_read(&mut locations, text).is_some();
                prop_assert_eq!(pattern.is_match(text), expected);
                prop_assert_eq!(pattern.is_match_with(&mut search, text), expected);
                prop_assert_eq!(pattern.find(&mut search, text), expected);
                if !expected {
                    continue;
                }
                for number in 0..known.captures_len() {
                    let group = locations.get(number);
                    prop_assert_eq!(search.group(number), group);
                    // With memory for the first groups alone.
                    let mut few = pattern.search(number + 1);
                    prop_assert!(pattern.find(&mut few, text));
                    prop_assert_eq!(few.group(number), group);
                }
            }
        }
    }

    #[test]
    fn a_regex_that_cannot_be_built_says_so_in_the_known_words() {
        let setting =
            |pattern: &str, flags: &str| RegexSetting { pattern: pattern.into(), flags: flags.into() };
        for setting in [setting("(", ""), setting("a", "g"), setting(r"(\w{500}){500}", "")] {
            let known = build_regex(&setting).unwrap_err();
            assert_eq!(Pattern::new(&setting).err(), Some(known));
        }
    }
}
