//! Three fields of a JSON object become fields of the event; rows that are no such object are dropped.

use serde::Deserialize;

use super::{HAND, VRL};
use crate::hand::Json;
use crate::measure::{Contender, Named};
use crate::ours::Flow;
use crate::patterns::JSON_FIELDS;
use crate::remap::{Remap, Says};
use crate::rows::Data;
use crate::rowwise::{Span, rowwise};

const REMAP: &str = "\
parsed = parse_json!(.message)
.level = string!(parsed.level)
.service = string!(parsed.service)
.status = to_int!(parsed.status)
";

const ITEMS: &str = "\
type Request = { level: string, service: string, status: int }
interceptor read {
  let request: Request = json(body) else drop
  header.level   = request.level
  header.service = request.service
  header.status  = text(request.status)
}
";

pub fn contenders(data: &Data) -> Vec<Named<'_>> {
    let remap = Remap { text: REMAP, says: Says::Nothing, fields: &JSON_FIELDS, time: None };
    let finders = Json::new();
    let mut all = vec![
        ("serde_json, typed", keep(data, by_serde)),
        (VRL, remap.contender(data)),
        (HAND, keep(data, move |row| finders.read(row))),
    ];
    all.extend(
        Flow { items: ITEMS, chain: "read -> r0", fields: &JSON_FIELDS, time: false }.contenders(data),
    );
    all
}

#[derive(Deserialize)]
struct Request<'r> {
    level: &'r str,
    service: &'r str,
    status: i64,
}

fn by_serde(row: &[u8]) -> Option<(Span, Span, i64)> {
    let Request { level, service, status } = serde_json::from_slice(row).ok()?;
    let span = |text: &str| {
        let start = text.as_ptr().addr() - row.as_ptr().addr();
        (start as u32, (start + text.len()) as u32)
    };
    Some((span(level), span(service), status))
}

fn keep<'d>(
    data: &'d Data,
    mut read: impl FnMut(&[u8]) -> Option<(Span, Span, i64)> + 'd,
) -> Box<dyn Contender + 'd> {
    rowwise(data, move |text, row, kept| {
        if let Some((level, service, status)) = read(text) {
            kept.rows.push(row);
            kept.fields.extend_from_slice(&[level, service]);
            kept.numbers.push(status);
        }
    })
}
