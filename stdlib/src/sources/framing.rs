//! The two framings of syslog over TCP (RFC 6587): a line, or a length before each message. Each frame tells by
//! its first byte which one it is.

use std::io;

use flow_plan::Range;
use tokio::io::AsyncRead;

use super::feed::Input;
use super::lines::{Cut, Lines};

/// Digits of a length, at most.
const LENGTH_DIGITS_MAX: usize = 9;

pub struct FrameReader<R> {
    input: Input<R>,
    cut: Cut,
    /// Bytes that still belong to a message longer than the bound.
    rest_of_frame: usize,
    /// Bytes at the start of the buffer that hold no line end.
    looked_at: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(input: Input<R>, cut: Cut) -> FrameReader<R> {
        FrameReader { input, cut, rest_of_frame: 0, looked_at: 0 }
    }

    /// As [`super::feed::LineReader::next`].
    pub async fn next(&mut self) -> io::Result<Option<(Vec<u8>, Lines)>> {
        loop {
            let bytes = self.input.bytes();
            // A message that comes byte by byte is not looked through again for each.
            let worth = self.looked_at <= LENGTH_DIGITS_MAX + 2
                || self.input.ended
                || self.rest_of_frame > 0
                || bytes.len() > self.cut.line_max
                || memchr::memchr(b'\n', &bytes[self.looked_at.min(bytes.len())..]).is_some();
            if worth {
                let cut = Cut { at_end: self.input.ended, ..self.cut };
                let lines = cut_frames(bytes, cut, &mut self.rest_of_frame);
                if lines.consumed > 0 {
                    self.looked_at = 0;
                    return Ok(Some((self.input.split(lines.consumed), lines)));
                }
            }
            if self.input.ended {
                return Ok(None);
            }
            self.looked_at = self.input.bytes().len();
            self.input.read().await?;
        }
    }

    /// Nothing more is read: what has come is a message.
    pub fn end(&mut self) {
        self.input.ended = true;
    }
}

/// Finds the frames at the start of a buffer.
fn cut_frames(bytes: &[u8], cut: Cut, rest_of_frame: &mut usize) -> Lines {
    let mut lines = Lines::default();
    while lines.bodies.len() < cut.rows_max && lines.consumed < bytes.len() {
        let rest = &bytes[lines.consumed..];
        if *rest_of_frame == 0
            && let Some((digits, length)) = counted(rest)
        {
            // The number and the blank after it are left out.
            *rest_of_frame = length;
            lines.consumed += digits + 1;
            continue;
        }
        if *rest_of_frame > 0 {
            let len = (*rest_of_frame).min(cut.line_max);
            if rest.len() < len && !cut.at_end {
                break;
            }
            let len = len.min(rest.len());
            lines.bodies.push(Range::new(lines.consumed, len));
            lines.consumed += len;
            *rest_of_frame -= len;
            lines.pieces += u64::from(*rest_of_frame > 0);
            continue;
        }
        if *rest_of_frame == 0 && is_unfinished_count(rest) && !cut.at_end {
            break;
        }
        match memchr::memchr(b'\n', &rest[..rest.len().min(cut.line_max + 1)]) {
            Some(end) => {
                let len = if end > 0 && rest[end - 1] == b'\r' { end - 1 } else { end };
                // Some senders end a counted message with a line end, too: that is no message.
                if len > 0 {
                    lines.bodies.push(Range::new(lines.consumed, len));
                }
                lines.consumed += end + 1;
            }
            None if rest.len() > cut.line_max || cut.at_end => {
                let len = rest.len().min(cut.line_max);
                lines.bodies.push(Range::new(lines.consumed, len));
                lines.consumed += len;
                lines.pieces += u64::from(!cut.at_end);
            }
            None => break,
        }
    }
    lines
}

/// `123 <`: the number of digits and the length, when a message follows.
fn counted(rest: &[u8]) -> Option<(usize, usize)> {
    let digits = rest.iter().take(LENGTH_DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > LENGTH_DIGITS_MAX || rest.get(digits) != Some(&b' ') {
        return None;
    }
    if rest.get(digits + 1) != Some(&b'<') {
        return None;
    }
    let length = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    (length > 0).then_some((digits, length))
}

/// The bytes so far may become a length.
fn is_unfinished_count(rest: &[u8]) -> bool {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0
        && digits <= LENGTH_DIGITS_MAX
        && (rest.len() == digits || (rest.len() == digits + 1 && rest[digits] == b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Cut = Cut { rows_max: 100, line_max: 20, at_end: true, crlf: true };

    fn texts(bytes: &[u8]) -> Vec<String> {
        let lines = cut_frames(bytes, ALL, &mut 0);
        lines.bodies.iter().map(|range| String::from_utf8_lossy(&bytes[range.range()]).into_owned()).collect()
    }

    #[test]
    fn both_framings_in_one_stream() {
        assert_eq!(
            texts(b"6 <1>a\nb4 <2>c<3>d\r\n4 <4>e\n<5>f"),
            ["<1>a\nb", "<2>c", "<3>d", "<4>e", "<5>f"]
        );
        assert_eq!(texts(b"30 <1>012345678901234567890123456"), ["<1>01234567890123456", "7890123456"]);
        assert_eq!(texts(b"42\n99999999999 <1>x\n"), ["42", "99999999999 <1>x"]);
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages() {
        let bytes = b"6 <1>a\nb4 <2>c<3>d\r\n12 <4>e23456789<5>f\n";
        for at in 0..bytes.len() {
            let (mut buffer, mut rest, mut found) = (Vec::new(), 0, Vec::new());
            for (part, at_end) in [(&bytes[..at], false), (&bytes[at..], true)] {
                buffer.extend_from_slice(part);
                let lines = cut_frames(&buffer, Cut { at_end, ..ALL }, &mut rest);
                found.extend(lines.bodies.iter().map(|range| buffer[range.range()].to_vec()));
                buffer.drain(..lines.consumed);
            }
            assert_eq!(
                found,
                [
                    b"<1>a\nb".to_vec(),
                    b"<2>c".to_vec(),
                    b"<3>d".to_vec(),
                    b"<4>e23456789".to_vec(),
                    b"<5>f".to_vec()
                ],
                "cut at {at}"
            );
        }
    }

    /// Gives one byte at each read.
    struct Trickle(&'static [u8]);

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let (byte, rest) = self.0.split_at(self.0.len().min(1));
            buffer.put_slice(byte);
            self.0 = rest;
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn messages_that_come_byte_by_byte_are_whole() {
        let bytes =
            b"26 <1>a long one\nof two lines<2>another, by its end\r\n29 <3>longer than the bound, yes<4>end";
        let mut reader = FrameReader::new(
            Input::new(Trickle(bytes), 100, None),
            Cut { at_end: false, line_max: 26, ..ALL },
        );
        let mut found = Vec::new();
        while let Some((bytes, lines)) = reader.next().await.unwrap() {
            found.extend(
                lines.bodies.iter().map(|range| String::from_utf8_lossy(&bytes[range.range()]).into_owned()),
            );
        }
        let expected = [
            "<1>a long one\nof two lines",
            "<2>another, by its end",
            "<3>longer than the bound, ",
            "yes",
            "<4>end",
        ];
        assert_eq!(found, expected);
    }
}
