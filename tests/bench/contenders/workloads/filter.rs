//! Rows that match are dropped.

use super::{HAND, PCRE2, REGEX, VRL, flow_regex, pcre2_of, regex_of};
use crate::hand::Literals;
use crate::measure::{Contender, Named};
use crate::ours::Flow;
use crate::patterns::{AWKWARD, HEALTH};
use crate::remap::{Remap, Says};
use crate::rows::Data;
use crate::rowwise::rowwise;

pub fn plain(data: &Data) -> Vec<Named<'_>> {
    contenders(HEALTH, data)
}

pub fn awkward(data: &Data) -> Vec<Named<'_>> {
    contenders(AWKWARD, data)
}

fn contenders<'d>(pattern: &str, data: &'d Data) -> Vec<Named<'d>> {
    let (regex, pcre2) = (regex_of(pattern), pcre2_of(pattern));
    let literals = Literals::new(&["GET /health", "kube-probe"]);
    let remap = Remap {
        text: &format!("!match!(.message, r'{pattern}')"),
        says: Says::Keep,
        fields: &[],
        time: None,
    };
    let mut all = vec![
        (REGEX, drop_if(data, move |row| regex.is_match(row))),
        (PCRE2, drop_if(data, move |row| pcre2.is_match(row).expect("within its limits"))),
        (VRL, remap.contender(data)),
        (HAND, drop_if(data, move |row| literals.any(row))),
    ];
    let items = format!("interceptor quiet = filter {{ exclude: {} }}", flow_regex(pattern));
    all.extend(Flow { items: &items, chain: "quiet -> r0", fields: &[], time: false }.contenders(data));
    all
}

fn drop_if<'d>(data: &'d Data, mut matches: impl FnMut(&[u8]) -> bool + 'd) -> Box<dyn Contender + 'd> {
    rowwise(data, move |text, row, kept| {
        if !matches(text) {
            kept.rows.push(row);
        }
    })
}
