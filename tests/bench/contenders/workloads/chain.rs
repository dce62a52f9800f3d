//! The whole: probes are dropped, ten groups become fields, the time in the row becomes that of the event, the name
//! of the host a further field; large answers with a fault go to one place, the others where the first of eight
//! regexes says.

use super::route::{self, flow_cases, remap_cases};
use super::{HAND, PCRE2, REGEX, VRL, fields, flow_regex, pcre2_of, regex_of};
use crate::hand::{self, Cases, Literals};
use crate::measure::{Contender, Named};
use crate::ours::Flow;
use crate::patterns::{ALERT, ALERT_BYTES, COMBINED, DATE, GROUPS, HEALTH, SIZE, STATUS, WHEN};
use crate::remap::{Remap, Says};
use crate::rows::Data;
use crate::rowwise::{Span, rowwise};

/// The groups and the host.
const FIELDS: [&str; 11] = {
    let mut fields = ["host"; 11];
    let mut at = 0;
    while at < GROUPS.len() {
        fields[at] = GROUPS[at];
        at += 1;
    }
    fields
};

pub fn contenders(data: &Data) -> Vec<Named<'_>> {
    let (regex, pcre2) = (regex_of(HEALTH), pcre2_of(HEALTH));
    let (literals, cases) = (Literals::new(&["GET /health", "kube-probe"]), Cases::new());
    let text = remap();
    let remap = Remap { text: &text, says: Says::Route, fields: &FIELDS, time: Some("timestamp") };
    let mut all = vec![
        (REGEX, chain(data, move |row| regex.is_match(row), fields::by_regex(), route::by_regex())),
        (
            PCRE2,
            chain(
                data,
                move |row| pcre2.is_match(row).expect("within its limits"),
                fields::by_pcre2(),
                route::by_pcre2(),
            ),
        ),
        (VRL, remap.contender(data)),
        (HAND, chain(data, move |row| literals.any(row), hand::fields, move |row| cases.first(row))),
    ];
    let (items, steps) = flow();
    all.extend(Flow { items: &items, chain: &steps, fields: &FIELDS, time: true }.contenders(data));
    all
}

/// Declarations and chain of our program.
pub fn flow() -> (String, String) {
    let items = format!(
        "interceptor quiet = filter {{ exclude: {} }}\n\
         interceptor fields = extract {} {{ on_miss: drop }}\n\
         interceptor logged = timestamp {{ from: header.when, format: \"{DATE}\", on_miss: drop }}\n",
        flow_regex(HEALTH),
        flow_regex(COMBINED),
    );
    let steps = format!(
        "quiet -> fields -> logged -> host -> route {{\n\
         when int(header.status) >= 500 and (int(header.size) else 0) > {ALERT_BYTES} -> r{ALERT}\n\
         else -> {}\n}}",
        flow_cases(),
    );
    (items, steps)
}

/// The same in VRL.
pub fn remap() -> String {
    format!(
        "message = string!(.message)\n\
         if match(message, r'{HEALTH}') {{ abort }}\n\
         . |= parse_regex!(message, r'{COMBINED}')\n\
         .timestamp = parse_timestamp!(.when, format: \"{DATE}\")\n\
         .host = \"{}\"\n\
         size = to_int(.size) ?? 0\n\
         if to_int!(.status) >= 500 && size > {ALERT_BYTES} {{ {ALERT} }} else {}",
        host(),
        remap_cases(),
    )
}

/// The name of this host, as the interceptor `host` has it.
fn host() -> &'static str {
    rustix::system::uname().nodename().to_str().expect("a name in ASCII").to_owned().leak()
}

fn chain<'d>(
    data: &'d Data,
    mut drop: impl FnMut(&[u8]) -> bool + 'd,
    mut fields: impl FnMut(&[u8]) -> Option<[Span; 10]> + 'd,
    mut route: impl FnMut(&[u8]) -> usize + 'd,
) -> Box<dyn Contender + 'd> {
    let host = host();
    rowwise(data, move |text, row, kept| {
        if drop(text) {
            return;
        }
        let Some(spans) = fields(text) else { return };
        let field = |number: usize| &text[spans[number].0 as usize..spans[number].1 as usize];
        let Some(time_ms) = hand::date_ms(field(WHEN)) else { return };
        let Some(status) = hand::number(field(STATUS)) else { return };
        let size = hand::number(field(SIZE)).unwrap_or(0);
        let to = if status >= 500 && size > ALERT_BYTES { ALERT } else { route(text) };
        kept.rows.push(row);
        kept.fields.extend_from_slice(&spans);
        kept.times.push(time_ms);
        kept.hosts.push(host);
        kept.routed[to].push(row);
    })
}
