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

    /// Goes on from an earlier position, which is still in the window.
    pub fn go_back(&mut self, position: u64) {
        self.position = position;
        // Else it is read again.
        if position < self.window_at {
            self.filled = 0;
        }
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
        let header = parse(&self.window[at..self.filled])
            .map_err(|error| LogError::corrupt(self.path, position, error))?;
        if header.size() as u64 > self.limit - position {
            let have = (self.limit - position) as usize;
            let error = BatchError::Short { needed: header.size(), have };
            return Err(LogError::corrupt(self.path, position, error));
        }
        Ok(header)
    }
}

/// A header as it may stand in a log: no log has negative offsets, though no checksum covers them.
fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
    let header = Header::parse(bytes)?;
    match header.base_offset {
        ..0 => Err(BatchError::Offset { offset: header.base_offset, expected: 0 }),
        _ => Ok(header),
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

/// Reads whole batches one after the other and checks their shape and checksum. The buffer is as large as the largest
/// batch, which never exceeds what is left of the file.
pub(crate) struct WholeBatches<'a> {
    file: &'a dyn File,
    path: &'a Path,
    position: u64,
    limit: u64,
    window: Vec<u8>,
    at: usize,
}

/// What stands at a position.
pub(crate) enum Found<'a> {
    Batch(u64, Header, &'a [u8]),
    Broken(u64, BatchError),
    End,
}

impl<'a> WholeBatches<'a> {
    pub fn new(file: &'a dyn File, path: &'a Path, position: u64, limit: u64) -> WholeBatches<'a> {
        WholeBatches { file, path, position, limit, window: Vec::new(), at: 0 }
    }

    /// The next batch; after a broken one the same again.
    pub fn next(&mut self) -> Result<Found<'_>, LogError> {
        let position = self.position;
        let left = self.limit.saturating_sub(position);
        if left == 0 {
            return Ok(Found::End);
        }
        let short =
            |needed: usize| Found::Broken(position, BatchError::Short { needed, have: left as usize });
        if left < HEADER_BYTES as u64 {
            return Ok(short(HEADER_BYTES));
        }
        self.ensure(HEADER_BYTES)?;
        let header = match parse(&self.window[self.at..]) {
            Ok(header) => header,
            Err(error) => return Ok(Found::Broken(position, error)),
        };
        let size = header.size();
        if size as u64 > left {
            return Ok(short(size));
        }
        self.ensure(size)?;
        let batch = &self.window[self.at..self.at + size];
        if let Err(error) = batch::check_stored(batch) {
            return Ok(Found::Broken(position, error));
        }
        self.position += size as u64;
        self.at += size;
        Ok(Found::Batch(position, header, batch))
    }

    /// Has at least `bytes` from the position on in the window; the file has them.
    fn ensure(&mut self, bytes: usize) -> Result<(), LogError> {
        if self.window.len() - self.at < bytes {
            let wanted = (bytes as u64).max(CHECK_BYTES).min(self.limit - self.position) as usize;
            self.window.resize(wanted, 0);
            self.at = 0;
            read_exact(self.file, &mut self.window, self.position)
                .map_err(|error| LogError::io("read", self.path, error))?;
        }
        Ok(())
    }
}

/// Where a check of whole batches ended, and why if before the limit.
pub(crate) struct Checked {
    pub position: u64,
    pub batches: u64,
    pub broken: Option<BatchError>,
}

/// Checks the batches from `position` to `limit`: shape, checksum, and offsets in rising order from `offsets.start` to
/// `offsets.end`. Each good one is told to `seen` with its position.
pub(crate) fn check_batches(
    file: &dyn File,
    path: &Path,
    position: u64,
    limit: u64,
    mut offsets: std::ops::Range<i64>,
    mut seen: impl FnMut(u64, &Header),
) -> Result<Checked, LogError> {
    let mut whole = WholeBatches::new(file, path, position, limit);
    let mut batches = 0;
    loop {
        match whole.next()? {
            Found::End => return Ok(Checked { position: limit, batches, broken: None }),
            Found::Broken(position, broken) => {
                return Ok(Checked { position, batches, broken: Some(broken) });
            }
            Found::Batch(position, header, _) => {
                if header.base_offset < offsets.start || header.last_offset() >= offsets.end {
                    let broken = BatchError::Offset { offset: header.base_offset, expected: offsets.start };
                    return Ok(Checked { position, batches, broken: Some(broken) });
                }
                seen(position, &header);
                batches += 1;
                offsets.start = header.next_offset();
            }
        }
    }
}
