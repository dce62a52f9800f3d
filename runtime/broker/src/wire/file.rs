//! A file that answers are sent from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

pub(crate) trait File: Send + Sync {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl File for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, position)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(AsFd::as_fd(self))
    }
}
