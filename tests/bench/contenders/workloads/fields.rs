//! Ten groups become fields; rows without a match are dropped.

use super::{HAND, PCRE2, REGEX, VRL, flow_regex, pcre2_of, regex_of};
use crate::hand;
use crate::measure::{Contender, Named};
use crate::ours::Flow;
use crate::patterns::{COMBINED, GROUPS};
use crate::remap::{Remap, Says};
use crate::rows::Data;
use crate::rowwise::{Span, rowwise};

pub fn contenders(data: &Data) -> Vec<Named<'_>> {
    let text = format!(". |= parse_regex!(.message, r'{COMBINED}')");
    let remap = Remap { text: &text, says: Says::Nothing, fields: &GROUPS, time: None };
    let mut all = vec![
        (REGEX, keep_fields(data, by_regex())),
        (PCRE2, keep_fields(data, by_pcre2())),
        (VRL, remap.contender(data)),
        (HAND, keep_fields(data, hand::fields)),
    ];
    let items = format!("interceptor fields = extract {} {{ on_miss: drop }}", flow_regex(COMBINED));
    all.extend(Flow { items: &items, chain: "fields -> r0", fields: &GROUPS, time: false }.contenders(data));
    all
}

pub fn by_regex() -> impl FnMut(&[u8]) -> Option<[Span; 10]> {
    let regex = regex_of(COMBINED);
    let mut groups = regex.capture_locations();
    move |row| {
        regex.captures_read(&mut groups, row)?;
        spans(|group| groups.get(group))
    }
}

pub fn by_pcre2() -> impl FnMut(&[u8]) -> Option<[Span; 10]> {
    let regex = pcre2_of(COMBINED);
    let mut groups = regex.capture_locations();
    move |row| {
        regex.captures_read(&mut groups, row).expect("within its limits")?;
        spans(|group| groups.get(group))
    }
}

fn spans(group: impl Fn(usize) -> Option<(usize, usize)>) -> Option<[Span; 10]> {
    let mut spans = [(0, 0); GROUPS.len()];
    for (number, span) in (1..).zip(&mut spans) {
        let (start, end) = group(number)?;
        *span = (start as u32, end as u32);
    }
    Some(spans)
}

fn keep_fields<'d>(
    data: &'d Data,
    mut fields: impl FnMut(&[u8]) -> Option<[Span; 10]> + 'd,
) -> Box<dyn Contender + 'd> {
    rowwise(data, move |text, row, kept| {
        if let Some(fields) = fields(text) {
            kept.rows.push(row);
            kept.fields.extend_from_slice(&fields);
        }
    })
}
