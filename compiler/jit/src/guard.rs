//! Test memory whose neighbourhood faults: a page that nobody may touch ends right behind the padding, another one
//! begins right before the text when asked so. What reads too far ends the test process with a signal.

use std::ptr;

use flow_plan::batch::ARENA_PADDING;

/// Text followed by [`ARENA_PADDING`] bytes, then by a page that faults.
pub(crate) struct Guarded {
    map: *mut u8,
    map_len: usize,
    start: usize,
    len: usize,
}

impl Guarded {
    /// Text and zero padding end where the faulting page begins.
    pub fn at_end(text: &[u8]) -> Guarded {
        Guarded::place(text, true)
    }

    /// The text begins where the faulting page before it ends; its padding may be followed by more zeros.
    pub fn at_start(text: &[u8]) -> Guarded {
        Guarded::place(text, false)
    }

    fn place(text: &[u8], at_end: bool) -> Guarded {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let padded = text.len() + ARENA_PADDING;
        let inner = padded.next_multiple_of(page);
        let map_len = inner + 2 * page;
        // SAFETY: a new private mapping at an address of the system's choice touches no memory in use.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                map_len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(map, libc::MAP_FAILED);
        let map = map.cast::<u8>();
        // SAFETY: the pages between the first and the last one belong to the mapping made above.
        let opened =
            unsafe { libc::mprotect(map.add(page).cast(), inner, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(opened, 0);
        let start = if at_end { page + inner - padded } else { page };
        // SAFETY: `start..start + padded` lies in the pages opened above; a new mapping overlaps no slice.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), map.add(start), text.len()) };
        Guarded { map, map_len, start, len: text.len() }
    }

    /// The text with its padding, as of an arena.
    pub fn padded(&self) -> &[u8] {
        // SAFETY: these bytes lie in the open pages, are initialised (anonymous pages are zero) and live as long
        // as `self`; nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.map.add(self.start), self.len + ARENA_PADDING) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `place` and is borrowed by nobody any more.
        unsafe { libc::munmap(self.map.cast(), self.map_len) };
    }
}
