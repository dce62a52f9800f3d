//! Choices out of bytes: the same bytes give the same choices, and none left gives always the first one, so that
//! whatever is made of them ends.

/// Bytes that are read as choices.
pub struct Bytes<'a> {
    left: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { left: bytes }
    }

    pub fn byte(&mut self) -> u8 {
        match self.left.split_first() {
            Some((first, rest)) => {
                self.left = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `bound`, which is at most 65,536.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = bound > 256;
        let high = if wide { usize::from(self.byte()) << 8 } else { 0 };
        (high | usize::from(self.byte())) % bound.max(1)
    }

    /// One time in `many`, and never when no bytes are left.
    pub fn rarely(&mut self, many: usize) -> bool {
        self.below(many) == many - 1
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Up to `max` bytes as they are.
    pub fn take(&mut self, max: usize) -> &'a [u8] {
        let count = self.below(max + 1).min(self.left.len());
        let (taken, rest) = self.left.split_at(count);
        self.left = rest;
        taken
    }

    pub fn int(&mut self) -> i64 {
        match self.below(8) {
            0..=3 => self.below(7) as i64 - 2,
            4 => 200 + self.below(400) as i64,
            5 => self.below(65_536) as i64 - 30_000,
            6 => self.pick(&[i64::MAX, -i64::MAX, 1 << 53, 1_790_000_000_000, 1 << 31]),
            _ => {
                let bytes = [0; 8].map(|_: u8| self.byte());
                i64::from_be_bytes(bytes).saturating_abs()
            }
        }
    }
}
