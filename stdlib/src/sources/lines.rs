//! Cutting bytes into lines in place: a read buffer becomes the arena of a batch without copying a line.

use flow_plan::Range;
use flow_plan::batch::{ARENA_PADDING, Arena, ArenaFull, Columns};

/// How a buffer is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Rows at most.
    pub rows_max: usize,
    /// A longer line is cut into pieces of this many bytes.
    pub line_max: usize,
    /// Nothing follows: bytes after the last line end are a line, too.
    pub at_end: bool,
    /// A carriage return before the line end belongs to the line end.
    pub crlf: bool,
}

/// The lines found at the start of a buffer.
#[derive(Debug, Default)]
pub struct Lines {
    pub bodies: Vec<Range>,
    /// Bytes that the lines and their ends cover.
    pub consumed: usize,
    /// Pieces of lines that were longer than the bound.
    pub pieces: u64,
}

/// Finds the lines of a buffer. A part of a line at the end is left, unless `at_end` or it is over the bound.
pub fn cut_lines(bytes: &[u8], cut: Cut) -> Lines {
    // Room for lines of a usual length.
    let room = cut.rows_max.min(bytes.len() / 64 + 1);
    let mut lines = Lines { bodies: Vec::with_capacity(room), ..Lines::default() };
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        if lines.bodies.len() == cut.rows_max {
            break;
        }
        if end - start > cut.line_max && !push_pieces(&mut lines, &mut start, end, cut) {
            break;
        }
        let mut len = end - start;
        if cut.crlf && len > 0 && bytes[end - 1] == b'\r' {
            len -= 1;
        }
        lines.bodies.push(Range::new(start, len));
        start = end + 1;
        lines.consumed = start;
    }
    let rest = bytes.len() - lines.consumed;
    if rest > 0 && lines.bodies.len() < cut.rows_max && (cut.at_end || rest > cut.line_max) {
        // There is room for rows, so the loop above has seen every line end.
        start = lines.consumed;
        let room = push_pieces(&mut lines, &mut start, bytes.len(), cut);
        if room && cut.at_end && start < bytes.len() {
            lines.bodies.push(Range::new(start, bytes.len() - start));
            lines.consumed = bytes.len();
        }
    }
    lines
}

/// Cuts whole pieces off `start..end` until at most `line_max` bytes are left. `false`: no room for more rows.
fn push_pieces(lines: &mut Lines, start: &mut usize, end: usize, cut: Cut) -> bool {
    while end - *start > cut.line_max {
        if lines.bodies.len() == cut.rows_max {
            return false;
        }
        lines.bodies.push(Range::new(*start, cut.line_max));
        lines.pieces += 1;
        *start += cut.line_max;
        lines.consumed = *start;
    }
    lines.bodies.len() < cut.rows_max
}

/// Makes columns of a buffer and the lines found in it; `extra` bytes are reserved for header values.
pub fn columns_of(
    mut bytes: Vec<u8>,
    lines: &mut Lines,
    time_ms: i64,
    extra: usize,
) -> Result<Columns, ArenaFull> {
    bytes.truncate(lines.consumed);
    bytes.reserve(ARENA_PADDING + extra);
    let bodies = std::mem::take(&mut lines.bodies);
    let times = vec![time_ms; bodies.len()];
    Ok(Columns { arena: Arena::from_vec(bytes)?, bodies, times, ..Columns::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Cut = Cut { rows_max: usize::MAX, line_max: usize::MAX, at_end: false, crlf: false };

    fn texts<'a>(bytes: &'a [u8], lines: &Lines) -> Vec<&'a [u8]> {
        lines.bodies.iter().map(|range| &bytes[range.range()]).collect()
    }

    #[test]
    fn a_partial_line_waits_for_its_end() {
        let bytes = b"one\n\ntwo\nthr";
        let lines = cut_lines(bytes, ALL);
        assert_eq!(texts(bytes, &lines), [&b"one"[..], b"", b"two"]);
        assert_eq!(lines.consumed, 9);
        let lines = cut_lines(bytes, Cut { at_end: true, ..ALL });
        assert_eq!(texts(bytes, &lines).last(), Some(&&b"thr"[..]));
        assert_eq!(lines.consumed, bytes.len());
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_left() {
        let bytes = b"a\nb\nc\n";
        let lines = cut_lines(bytes, Cut { rows_max: 2, at_end: true, ..ALL });
        assert_eq!((lines.bodies.len(), lines.consumed), (2, 4));
    }

    #[test]
    fn a_carriage_return_stays_unless_it_belongs_to_the_line_end() {
        let bytes = b"a\r\n\r\n";
        assert_eq!(texts(bytes, &cut_lines(bytes, ALL)), [&b"a\r"[..], b"\r"]);
        assert_eq!(texts(bytes, &cut_lines(bytes, Cut { crlf: true, ..ALL })), [&b"a"[..], b""]);
    }

    proptest! {
        #[test]
        fn every_byte_is_delivered_in_order(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'x'), any::<u8>()], 0..300),
            rows_max in 1usize..9,
            line_max in 1usize..20,
        ) {
            // Cutting again and again from where the last cut ended gives back the text, with only line ends
            // left out.
            let cut = Cut { rows_max, line_max, at_end: true, crlf: false };
            let (mut at, mut back, mut ends) = (0, Vec::new(), 0usize);
            while at < bytes.len() {
                let lines = cut_lines(&bytes[at..], cut);
                prop_assert!(lines.consumed > 0, "no progress at {}", at);
                prop_assert!(lines.bodies.len() <= rows_max);
                for range in &lines.bodies {
                    prop_assert!(range.len as usize <= line_max);
                    back.extend_from_slice(&bytes[at..][range.range()]);
                }
                at += lines.consumed;
                ends += 1;
            }
            let expected: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != b'\n').collect();
            prop_assert_eq!(back, expected);
            prop_assert!(ends <= bytes.len());
        }
    }
}
