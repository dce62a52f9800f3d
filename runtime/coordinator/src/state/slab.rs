//! Numbered records in pages, so that growing moves nothing. It knows nothing of what it holds.

/// Records of a page.
const PAGE: usize = 1024;

pub(super) struct Slab<T> {
    pages: Vec<Vec<T>>,
    len: u32,
    /// Numbers that were given back; the last is given out first.
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub fn new() -> Slab<T> {
        Slab { pages: Vec::new(), len: 0, free: Vec::new() }
    }

    /// A number for a record.
    pub fn add(&mut self, record: T) -> u32 {
        if let Some(number) = self.free.pop() {
            *self.at_mut(number) = record;
            return number;
        }
        let number = self.len;
        if (number as usize).is_multiple_of(PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(record);
        }
        self.len += 1;
        number
    }

    /// The number that [`Slab::add`] will give.
    pub fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.len)
    }

    /// Gives a number back; what was there becomes the default.
    pub fn remove(&mut self, number: u32) -> T {
        let record = std::mem::take(self.at_mut(number));
        self.free.push(number);
        record
    }

    pub fn at(&self, number: u32) -> &T {
        &self.pages[number as usize / PAGE][number as usize % PAGE]
    }

    pub fn at_mut(&mut self, number: u32) -> &mut T {
        &mut self.pages[number as usize / PAGE][number as usize % PAGE]
    }

    /// One more than the highest number that was ever given.
    pub fn len(&self) -> u32 {
        self.len
    }
}
