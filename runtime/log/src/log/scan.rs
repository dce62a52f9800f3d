//! Walking the batches of a segment file: their headers alone, or whole with their checksums.

use std::path::Path;

use crate::batch::{self, BatchError, HEADER_BYTES, Header};
use crate::error::LogError;
use crate::storage::{File, read_exact, read_up_to};

/// Bytes read at once when headers are walked: many small batches, or one header and some waste.
const WINDOW_BYTES: usize = 2048;
/// Bytes read at once when whole batches are checked; a larger batch makes the buffer as large as itself.
const CHECK_BYTES: u64 = 1 << 20;

/// Iterator over the headers of a file's batches from a position that is the start of one, up to `limit`.
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    path: &'a Path,
    position: u64,
    limit: u64,
    window: [u8; WINDOW_BYTES],
    window_at: u64,
    filled: usize,
}

impl<'a> Scan<'a> {
    pub fn new(file: &'a dyn File, path: &'a Path, position: u64, limit: u64) -> Scan<'a> {
        Scan { file, path, position, limit, window: [0; WINDOW_BYTES], window_at: position, filled: 0 }
    }

    fn header(&mut self) -> Result<Header, LogError> {
        let position = self.position;
        let mut at = position.saturating_sub(self.window_at) as usize;
        if at + HEADER_BYTES > self.filled {
            let wanted = (self.limit - position).min(WINDOW_BYTES as u64) as usize;
            self.filled = read_up_to(self.file, &mut self.window[..wanted], position)
                .map_err(|error| LogError::io("read", self.path, error))?;
            self.window_at = position;
            at = 0;
        }
        let header = Header::parse(&self.window[at..self.filled])
            .map_err(|error| LogError::corrupt(self.path, position, error))?;
        if header.size() as u64 > self.limit - position {
            let have = (self.limit - position) as usize;
            let error = BatchError::Short { needed: header.size(), have };
            return Err(LogError::corrupt(self.path, position, error));
        }
        Ok(header)
    }
}

impl Iterator for Scan<'_> {
    /// A batch's position and header.
    type Item = Result<(u64, Header), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.limit {
            return None;
        }
        let position = self.position;
        let found = self.header();
        self.position = match &found {
            Ok(header) => position + header.size() as u64,
            Err(_) => self.limit,
        };
        Some(found.map(|header| (position, header)))
    }
}

/// Where a check of whole batches ended, and why if before the limit.
pub(crate) struct Checked {
    pub position: u64,
    pub batches: u64,
    pub broken: Option<BatchError>,
}

/// Checks the batches from `position` to `limit`: shape, checksum, and offsets of at least `next_offset` in rising
/// order. Each good one is told to `seen` with its position.
pub(crate) fn check_batches(
    file: &dyn File,
    path: &Path,
    mut position: u64,
    limit: u64,
    mut next_offset: i64,
    mut seen: impl FnMut(u64, &Header),
) -> Result<Checked, LogError> {
    let mut window = Vec::new();
    let mut at = 0;
    let mut batches = 0;
    while position < limit {
        let broken = match Header::parse(&window[at..]) {
            Ok(header) if header.size() as u64 > limit - position => {
                Some(BatchError::Short { needed: header.size(), have: (limit - position) as usize })
            }
            Ok(header) if header.size() > window.len() - at => None,
            Ok(header) => match batch::check_stored(&window[at..at + header.size()]) {
                Ok(header) if header.base_offset < next_offset => Some(BatchError::Record {
                    index: 0,
                    what: "the offset is lower than that of the batch before",
                }),
                Ok(header) => {
                    seen(position, &header);
                    batches += 1;
                    next_offset = header.next_offset();
                    position += header.size() as u64;
                    at += header.size();
                    continue;
                }
                Err(error) => Some(error),
            },
            Err(BatchError::Short { .. }) if limit - position > (window.len() - at) as u64 => None,
            Err(error) => Some(error),
        };
        if broken.is_some() {
            return Ok(Checked { position, batches, broken });
        }
        // More is needed: a window that begins with this batch and holds at least all of it.
        let needed = Header::parse(&window[at..]).map_or(0, |header| header.size() as u64);
        let wanted = needed.max(CHECK_BYTES).min(limit - position) as usize;
        window.resize(wanted, 0);
        read_exact(file, &mut window, position).map_err(|error| LogError::io("read", path, error))?;
        at = 0;
    }
    Ok(Checked { position, batches, broken: None })
}
