//! A row goes to the place of the first regex that it matches, else to the last place.

use std::fmt::Write as _;

use regex::bytes::RegexSet;

use super::{HAND, PCRE2, REGEX, VRL, flow_regex, pcre2_of, regex_of};
use crate::hand::Cases;
use crate::measure::{Contender, Named};
use crate::ours::Flow;
use crate::patterns::CASES;
use crate::remap::{Remap, Says};
use crate::rows::Data;
use crate::rowwise::rowwise;

pub fn contenders(data: &Data) -> Vec<Named<'_>> {
    let (first, set, cases) = (by_regex(), by_set(), Cases::new());
    let text = format!("message = string!(.message)\n{}", remap_cases());
    let remap = Remap { text: &text, says: Says::Route, fields: &[], time: None };
    let mut all = vec![
        (REGEX, keep_route(data, first)),
        ("regex crate, RegexSet", keep_route(data, set)),
        (PCRE2, keep_route(data, by_pcre2())),
        (VRL, remap.contender(data)),
        (HAND, keep_route(data, move |row| cases.first(row))),
    ];
    all.extend(Flow { items: "", chain: &flow_cases(), fields: &[], time: false }.contenders(data));
    all
}

pub fn by_regex() -> impl FnMut(&[u8]) -> usize {
    let cases = CASES.map(regex_of);
    move |row| cases.iter().position(|case| case.is_match(row)).unwrap_or(CASES.len())
}

fn by_set() -> impl FnMut(&[u8]) -> usize {
    let set = RegexSet::new(CASES).unwrap_or_else(|error| panic!("{error}"));
    move |row| set.matches(row).iter().next().unwrap_or(CASES.len())
}

pub fn by_pcre2() -> impl FnMut(&[u8]) -> usize {
    let cases = CASES.map(pcre2_of);
    move |row| {
        let first = cases.iter().position(|case| case.is_match(row).expect("within its limits"));
        first.unwrap_or(CASES.len())
    }
}

/// An expression that gives the number of the case that `message` fits.
pub fn remap_cases() -> String {
    let mut text = String::new();
    for (route, case) in CASES.iter().enumerate() {
        let _ = write!(text, "if match(message, r'{case}') {{ {route} }} else ");
    }
    let _ = write!(text, "{{ {} }}", CASES.len());
    text
}

/// The route of the body to `r0`, `r1`, …
pub fn flow_cases() -> String {
    let mut text = String::from("route body {\n");
    for (route, case) in CASES.iter().enumerate() {
        let _ = writeln!(text, "  {} -> r{route}", flow_regex(case));
    }
    let _ = write!(text, "  else -> r{}\n}}", CASES.len());
    text
}

fn keep_route<'d>(data: &'d Data, mut route: impl FnMut(&[u8]) -> usize + 'd) -> Box<dyn Contender + 'd> {
    rowwise(data, move |text, row, kept| {
        kept.rows.push(row);
        kept.routed[route(text)].push(row);
    })
}
