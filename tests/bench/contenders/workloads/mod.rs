//! What is measured: the work, who does it, and what is asked of us.

mod chain;
mod date;
mod fields;
mod filter;
mod json;
mod route;

use crate::measure::Named;
use crate::rows::{Data, Kind};

pub const REGEX: &str = "regex crate";
pub const PCRE2: &str = "PCRE2 JIT";
pub const VRL: &str = "VRL";
pub const HAND: &str = "hand-written";

pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    pub rows: Kind,
    pub contenders: for<'d> fn(&'d Data) -> Vec<Named<'d>>,
    /// The contenders that the others are compared with.
    pub bases: &'static [&'static str],
    pub targets: &'static [Target],
}

/// So many times faster than a contender ours is to be.
pub struct Target {
    /// `must` or `aim`
    pub word: &'static str,
    pub than: &'static str,
    pub times: f64,
}

const fn must(times: f64, than: &'static str) -> Target {
    Target { word: "must", than, times }
}

const fn aim(times: f64, than: &'static str) -> Target {
    Target { word: "aim", than, times }
}

pub const ALL: &[Workload] = &[
    Workload {
        name: "filter",
        title: "drop by /GET \\/health|kube-probe/",
        rows: Kind::Access,
        contenders: filter::plain,
        bases: &[REGEX, VRL],
        targets: &[must(1.3, REGEX), aim(2.8, REGEX)],
    },
    Workload {
        name: "awkward",
        title: "drop by /^(.*GET \\/health.*|.*kube-probe.*)$/",
        rows: Kind::Access,
        contenders: filter::awkward,
        bases: &[REGEX, VRL],
        targets: &[must(5.0, REGEX), aim(8.0, REGEX)],
    },
    Workload {
        name: "fields",
        title: "ten groups of the combined log",
        rows: Kind::Access,
        contenders: fields::contenders,
        bases: &[REGEX, VRL],
        targets: &[must(8.0, REGEX), aim(1.0, HAND)],
    },
    Workload {
        name: "date",
        title: "time by %d/%b/%Y:%H:%M:%S %z",
        rows: Kind::Dates,
        contenders: date::contenders,
        bases: &[VRL],
        targets: &[],
    },
    Workload {
        name: "json",
        title: "three fields of a JSON object of eight",
        rows: Kind::Json,
        contenders: json::contenders,
        bases: &[VRL],
        targets: &[],
    },
    Workload {
        name: "route",
        title: "the first of eight regexes",
        rows: Kind::Access,
        contenders: route::contenders,
        bases: &[REGEX, VRL],
        targets: &[],
    },
    Workload {
        name: "chain",
        title: "filter, fields, time, host, numeric test, eight-way route",
        rows: Kind::Access,
        contenders: chain::contenders,
        bases: &[REGEX, VRL],
        targets: &[must(10.0, VRL), aim(25.0, VRL), aim(1.0, HAND)],
    },
];

pub use chain::{flow as chain_flow, remap as chain_remap};

/// # Panics
///
/// As [`pcre2_of`], when it is no regex.
pub fn regex_of(pattern: &str) -> regex::bytes::Regex {
    regex::bytes::Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

pub fn pcre2_of(pattern: &str) -> pcre2::bytes::Regex {
    let built = pcre2::bytes::RegexBuilder::new().jit(true).build(pattern);
    built.unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

/// A regex as the text of a program has it.
fn flow_regex(pattern: &str) -> String {
    format!("/{}/", pattern.replace('/', r"\/"))
}
