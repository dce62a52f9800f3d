//! Takes records apart. Every length is held against the bytes that are there before anything is made for it.

use bytes::Bytes;

/// What kept bytes from being a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Answered by [`Code::Marshalling`](super::Code::Marshalling); the connection lives on, for its frames are whole.
    #[error("malformed record")]
    Malformed,
    /// Answered by [`Code::Unimplemented`](super::Code::Unimplemented), then the connection is closed.
    #[error("unknown operation {0}")]
    Unknown(i32),
}

/// A place in the bytes of one packet.
pub struct Reader<'a> {
    rest: &'a [u8],
    /// What `rest` is a part of, so that buffers can share it.
    backing: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// Buffers that are read are copies.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, backing: None }
    }

    /// Buffers that are read share the memory of `bytes`.
    pub fn sharing(bytes: &'a Bytes) -> Reader<'a> {
        Reader { rest: bytes, backing: Some(bytes) }
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        Ok(self.array::<1>()?[0] != 0)
    }

    pub fn int(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn long(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A buffer or a string, without copying; `None` is null.
    pub fn slice(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(Some(taken))
    }

    /// Text, without copying; `None` is null.
    pub fn text(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.slice()? {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::Malformed),
        }
    }

    /// A string; null is taken for an empty one, which is no path, no scheme and no name either.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        Ok(self.text()?.unwrap_or_default().to_owned())
    }

    pub fn buffer(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let backing = self.backing;
        Ok(self.slice()?.map(|taken| match backing {
            Some(whole) => whole.slice_ref(taken),
            None => Bytes::copy_from_slice(taken),
        }))
    }

    /// A vector; null is taken for an empty one. `least` is the number of bytes that the smallest item takes.
    pub fn vector<T>(
        &mut self,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.int()?;
        if count == -1 {
            return Ok(Vec::new());
        }
        let count = usize::try_from(count).map_err(|_| DecodeError::Malformed)?;
        if count > self.rest.len() / least.max(1) {
            return Err(DecodeError::Malformed);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub fn strings(&mut self) -> Result<Vec<String>, DecodeError> {
        self.vector(4, Reader::string)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }
}
