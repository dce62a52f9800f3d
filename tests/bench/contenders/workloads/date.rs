//! The row is a time, which becomes that of the event; rows that are none are dropped.

use super::{HAND, VRL};
use crate::hand;
use crate::measure::{Contender, Named};
use crate::ours::Flow;
use crate::patterns::DATE;
use crate::remap::{Remap, Says};
use crate::rows::Data;
use crate::rowwise::rowwise;

pub fn contenders(data: &Data) -> Vec<Named<'_>> {
    let text = format!(".timestamp = parse_timestamp!(.message, format: \"{DATE}\")");
    let remap = Remap { text: &text, says: Says::Nothing, fields: &[], time: Some("timestamp") };
    let mut all = vec![
        ("jiff", keep_time(data, by_jiff)),
        (VRL, remap.contender(data)),
        (HAND, keep_time(data, hand::date_ms)),
    ];
    let items = format!("interceptor logged = timestamp {{ from: body, format: \"{DATE}\", on_miss: drop }}");
    all.extend(Flow { items: &items, chain: "logged -> r0", fields: &[], time: true }.contenders(data));
    all
}

fn by_jiff(row: &[u8]) -> Option<i64> {
    let time = jiff::fmt::strtime::parse(DATE, row).ok()?;
    Some(time.to_timestamp().ok()?.as_millisecond())
}

fn keep_time<'d>(data: &'d Data, mut time: impl FnMut(&[u8]) -> Option<i64> + 'd) -> Box<dyn Contender + 'd> {
    rowwise(data, move |text, row, kept| {
        if let Some(time_ms) = time(text) {
            kept.rows.push(row);
            kept.times.push(time_ms);
        }
    })
}
