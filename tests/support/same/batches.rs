//! Random batches: log lines and hostile bytes, shared columns, selections, ranges that lie where nothing is.

use flow_plan::batch::{Columns, Range};
use flow_plan::{Batch, Slot};

use super::bytes::Bytes;

/// Rows of the largest batch.
const ROWS_MAX: usize = 24;

const LINES: [&str; 14] = [
    r#"10.0.0.1 - ann [23/Nov/2026:10:00:01 +0100] "GET /index.html HTTP/1.1" 200 5123 "-" "curl/8""#,
    r#"10.0.0.2 - - [23/Nov/2026:10:00:02 +0100] "POST /a%20b HTTP/1.1" 503 - "-" "x@y.example""#,
    r#"::1 - é [31/Feb/2026:10:00:02 +0100] "GET /health HTTP/1.1" 99999999999999999999 12 "-" "kube-probe""#,
    r#"{"a": 1, "b": "GET", "c": 2.5, "ok": true}"#,
    r#"{"a": 9223372036854775807, "b": null, "tags": ["x"]}"#,
    r#"{"a": 1.5}"#,
    r#"{"a": "1""#,
    "2026-11-23T10:00:00Z error: foo case12a",
    "a,b,c",
    "200",
    "-0",
    "1e308",
    "true",
    "abcbcdbcd  99  GET",
];

/// Texts of headers.
const VALUES: [&str; 22] = [
    "200",
    "404",
    "503",
    "-7",
    "",
    "a",
    "GET",
    "POST",
    "é",
    "NaN",
    "inf",
    "1e400",
    "9223372036854775808",
    " 12 ",
    "0x1f",
    "true",
    "23/Nov/2026:10:00:01 +0100",
    "2026-11-23",
    "case-30",
    "10.0.0.1",
    "+5",
    "1_000",
];

/// A batch with headers in the first `slots` slots, and whether others share its columns.
pub fn batch(bytes: &mut Bytes<'_>, slots: usize) -> (Batch, bool) {
    let mut columns =
        Columns { source: "web".into(), first_id: bytes.below(3) as u64 * 1_000, ..Columns::default() };
    let rows = bytes.below(ROWS_MAX + 1);
    for _ in 0..rows {
        let body = body(bytes);
        let time = bytes.pick(&[1_795_392_000_000, 0, -1, i64::MAX, i64::MIN, 253_402_300_800_000]);
        columns.push(&body, time).expect("little");
    }
    for slot in 0..slots {
        let column = bytes.below(4);
        for row in 0..rows {
            match column {
                0 => break,
                1 => {
                    let value = text(bytes, &VALUES);
                    let range = columns.arena.push(&value).expect("little");
                    columns.set_header(row as u32, Slot(slot as u32), range);
                }
                _ if bytes.below(2) == 0 => {
                    // A piece of the body.
                    let body = columns.bodies[row];
                    let start = bytes.below(body.len as usize + 1) as u32;
                    let len = bytes.below((body.len - start) as usize + 1) as u32;
                    columns.set_header(
                        row as u32,
                        Slot(slot as u32),
                        Range { start: body.start + start, len },
                    );
                }
                _ => {}
            }
        }
    }
    if rows > 0 && bytes.rarely(6) {
        lie(bytes, &mut columns, rows);
    }
    let mut batch = Batch::new(columns);
    if bytes.rarely(4) {
        batch.rows.retain(|_| bytes.below(2) == 0);
    }
    (batch, bytes.rarely(3))
}

/// Ranges far beyond the arena, absent bodies, overlapping rows: what only a fault of a source makes. A range just
/// beyond the arena has no fixed meaning: what a row before it appends may move the end past it.
fn lie(bytes: &mut Bytes<'_>, columns: &mut Columns, rows: usize) {
    let len = columns.arena.len() as u32;
    for _ in 0..1 + bytes.below(3) {
        let row = bytes.below(rows);
        let range = match bytes.below(6) {
            0 => Range { start: 1 << 30, len: 1 },
            1 => Range { start: len + 64, len: 4_000_000 },
            2 => Range { start: 0, len },
            3 => Range { start: len, len: 0 },
            4 => Range { start: u32::MAX - 1, len: u32::MAX },
            _ => Range::ABSENT,
        };
        match bytes.below(3) {
            0 => columns.set_header(row as u32, Slot(bytes.below(4) as u32), range),
            _ => columns.bodies[row] = range,
        }
    }
}

fn body(bytes: &mut Bytes<'_>) -> Vec<u8> {
    match bytes.below(12) {
        0..=5 => text(bytes, &LINES),
        6 => text(bytes, &VALUES),
        7 => bytes.take(80).to_vec(),
        8 => (0..=255).collect(),
        9 => b"a\0b\0\0".repeat(1 + bytes.below(30)),
        10 => [bytes.byte()].repeat(bytes.below(600)),
        _ => LINES[0].replace("index.html", &"abcd".repeat(bytes.below(1_500))).into_bytes(),
    }
}

/// One of the texts, now and then damaged.
fn text(bytes: &mut Bytes<'_>, all: &[&str]) -> Vec<u8> {
    let mut text = bytes.pick(all).as_bytes().to_vec();
    if bytes.rarely(5) && !text.is_empty() {
        let at = bytes.below(text.len());
        match bytes.below(4) {
            0 => text[at] = bytes.byte(),
            1 => text.truncate(at),
            2 => text.insert(at, 0xff),
            _ => text.splice(at..at, "é".bytes()).for_each(drop),
        }
    }
    text
}
