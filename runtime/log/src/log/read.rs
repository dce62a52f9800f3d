//! Reading: a piece of one segment file for the network, or batch headers one by one.

use std::sync::Arc;

use super::Log;
use super::segment::Segment;
use crate::batch::{EndMarker, Header, control_type};
use crate::error::LogError;
use crate::storage::{File, read_exact};

/// Whole batches in one segment file. Holds the file open, so it may be read after the segment was deleted.
#[derive(Clone)]
pub struct Slice {
    segment: Arc<Segment>,
    position: u64,
    len: usize,
    next_offset: i64,
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}[{}..+{}]", self.segment.path.display(), self.position, self.len)
    }
}

impl Slice {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segment's file, for `sendfile`.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.segment.file
    }

    /// Where in the file it begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The offset after the last batch in it; the offset that was asked for if it is empty.
    pub fn next_offset_hint(&self) -> i64 {
        self.next_offset
    }

    /// Reads it.
    pub fn bytes(&self) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; self.len];
        self.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the first `buffer.len()` bytes of it, which must not be more than there are.
    pub fn read_into(&self, buffer: &mut [u8]) -> Result<(), LogError> {
        read_exact(self.segment.file.as_ref(), buffer, self.position)
            .map_err(|error| LogError::io("read", &self.segment.path, error))
    }
}

impl Log {
    /// Whole batches from the one that holds `from` on (or the next, if a compaction took it): at most `bytes_max` bytes,
    /// all of one segment, none with a record at or after `before`. With `first_whole` the first batch is given even if
    /// it is larger. Empty if `from` is the end or nothing fits; [`LogError::OutOfRange`] if `from` is below the log's
    /// start or above the lesser of `before` and the end.
    pub fn read(
        &self,
        from: i64,
        bytes_max: usize,
        before: i64,
        first_whole: bool,
    ) -> Result<Slice, LogError> {
        // The end first: whatever is seen below it afterwards is there.
        let before = before.min(self.end_offset());
        let segments = self.view();
        // The start after the segments: it moves before they go.
        let start = self.start_offset();
        if from < start || from > before {
            return Err(LogError::OutOfRange { start, end: before });
        }
        let first = segments.partition_point(|segment| segment.base <= from).max(1) - 1;
        for (index, segment) in segments.iter().enumerate().skip(first) {
            if from == before || segment.base >= before {
                break;
            }
            let state = segment.read_state();
            let (size, next_offset) = (state.size, state.next_offset);
            drop(state);
            let Some(position) = segment.locate(from, size)? else { continue };
            let limit = position.saturating_add(bytes_max as u64);
            if size <= limit && next_offset <= before {
                let next_offset = segments.get(index + 1).map_or(next_offset, |next| next.base);
                segment.hint(next_offset, size);
                return Ok(slice(segment, position, size, next_offset));
            }
            return cut(segment, position, size, limit, before, first_whole, from);
        }
        Ok(slice(&segments[first], 0, 0, from))
    }

    /// Batch headers from the batch that holds `from` on, in order, up to where the log ends now.
    pub fn headers(&self, from: i64) -> Headers {
        let end = self.end_offset();
        let segments = self.view();
        let first = segments.partition_point(|segment| segment.base <= from).max(1) - 1;
        Headers { segments, index: first, position: None, from, end, last: None }
    }
}

fn slice(segment: &Arc<Segment>, position: u64, end: u64, next_offset: i64) -> Slice {
    Slice { segment: segment.clone(), position, len: (end - position) as usize, next_offset }
}

/// Takes the batches from `position` on that end at or before `limit` and lie below `before`.
fn cut(
    segment: &Arc<Segment>,
    position: u64,
    size: u64,
    limit: u64,
    before: i64,
    first_whole: bool,
    from: i64,
) -> Result<Slice, LogError> {
    let (known, mut scan) = segment.scan_from(size, |entry| {
        u64::from(entry.position) <= limit && segment.base + i64::from(entry.offset) < before
    })?;
    if known < position {
        scan = segment.scan(position, size);
    }
    let mut end = known.max(position);
    let mut next_offset = from;
    for found in scan {
        let (at, header) = found?;
        let after = at + header.size() as u64;
        let fits = after <= limit || (first_whole && at == position);
        if header.last_offset() >= before || !fits {
            next_offset = next_offset.max(header.base_offset);
            break;
        }
        end = after;
        next_offset = header.next_offset();
    }
    if end == position {
        return Ok(slice(segment, position, end, from));
    }
    segment.hint(next_offset, end);
    Ok(slice(segment, position, end, next_offset))
}

/// Iterator of [`Log::headers`].
pub struct Headers {
    segments: Arc<Vec<Arc<Segment>>>,
    index: usize,
    /// The next batch in the segment at `index`; `None` if that was not looked up yet.
    position: Option<u64>,
    from: i64,
    end: i64,
    last: Option<(Arc<Segment>, u64, Header)>,
}

impl Headers {
    /// How the batch that was given last ended a transaction; `None` if it did not.
    pub fn marker(&self) -> Result<Option<EndMarker>, LogError> {
        match &self.last {
            Some((_, _, header)) if header.is_control() => Ok(control_type(&self.batch()?)),
            _ => Ok(None),
        }
    }

    /// The whole batch that was given last; empty before the first.
    pub fn batch(&self) -> Result<Vec<u8>, LogError> {
        let Some((segment, position, header)) = &self.last else { return Ok(Vec::new()) };
        let mut batch = vec![0; header.size()];
        read_exact(segment.file.as_ref(), &mut batch, *position)
            .map_err(|error| LogError::io("read", &segment.path, error))?;
        Ok(batch)
    }

    fn step(&mut self) -> Result<Option<Header>, LogError> {
        while let Some(segment) = self.segments.get(self.index) {
            let size = segment.size();
            let position = match self.position {
                Some(position) => Some(position),
                None => segment.locate(self.from, size)?,
            };
            let found = match position {
                Some(position) => segment.scan(position, size).next().transpose()?,
                None => None,
            };
            let Some((position, header)) = found else {
                self.index += 1;
                self.position = None;
                continue;
            };
            if header.base_offset >= self.end {
                return Ok(None);
            }
            self.position = Some(position + header.size() as u64);
            self.last = Some((segment.clone(), position, header));
            return Ok(Some(header));
        }
        Ok(None)
    }
}

impl Iterator for Headers {
    type Item = Result<Header, LogError>;

    /// Ends after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        let found = self.step().transpose();
        if !matches!(found, Some(Ok(_))) {
            self.index = self.segments.len();
        }
        found
    }
}
