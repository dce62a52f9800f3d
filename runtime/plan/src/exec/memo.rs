//! Decisions that depend on the text of one header alone, remembered for the texts of a batch: a log has a million
//! lines and twenty status codes. It knows texts and answers, not what is decided.

use crate::batch::{Columns, Range, Slot};
use crate::function::Functions;
use crate::ir::{Expr, Stmt};

/// Texts remembered at a time; a further one takes the place of another.
const ENTRIES: usize = 64;

/// A longer text is decided on each time.
const TEXT_BYTES_MAX: usize = 16;

/// Answers by the text of one header.
pub(super) struct Memo<A> {
    slot: Slot,
    entries: Box<[Option<(Key, A)>; ENTRIES]>,
}

/// The bytes of a text and its length; a header that is absent has a length of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u128, u8);

const ABSENT: Key = Key(0, u8::MAX);

impl<A: Copy> Memo<A> {
    pub fn new(slot: Slot) -> Memo<A> {
        Memo { slot, entries: Box::new([None; ENTRIES]) }
    }

    /// Forgets everything: what `now` is and how functions answer holds for one batch.
    pub fn clear(&mut self) {
        self.entries.fill(None);
    }

    /// The text that decides on a row; `None` when it is too long to be remembered.
    #[inline]
    pub fn key(&self, columns: &Columns, row: u32) -> Option<Key> {
        let column = columns.headers.get(self.slot.0 as usize);
        let range = column.and_then(|column| column.get(row as usize)).copied().unwrap_or(Range::ABSENT);
        let len = range.len as usize;
        if range.is_absent() {
            return Some(ABSENT);
        }
        if len > TEXT_BYTES_MAX {
            return None;
        }
        // The padding of the arena lets a whole word be read wherever a range lies.
        let start = range.start as usize;
        let word = columns.arena.padded().get(start..start + TEXT_BYTES_MAX)?;
        let word = u128::from_le_bytes(word.try_into().ok()?);
        let kept = if len == TEXT_BYTES_MAX { u128::MAX } else { (1 << (8 * len)) - 1 };
        Some(Key(word & kept, len as u8))
    }

    #[inline]
    pub fn get(&self, key: Key) -> Option<A> {
        match self.entries[key.place()] {
            Some((known, answer)) if known == key => Some(answer),
            _ => None,
        }
    }

    pub fn put(&mut self, key: Key, answer: A) {
        self.entries[key.place()] = Some((key, answer));
    }
}

impl Key {
    fn place(self) -> usize {
        let mixed = (self.0 as u64 ^ (self.0 >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 58) as usize
    }
}

/// The header whose text alone decides on all of these expressions, when there is such a one. `local` is one that
/// has been computed from it.
pub(super) fn deciding_header<'a>(
    exprs: impl IntoIterator<Item = &'a Expr>,
    local: Option<u32>,
    functions: &Functions,
) -> Option<Slot> {
    let mut waiting: Vec<&Expr> = exprs.into_iter().collect();
    let mut header = None;
    while let Some(expr) = waiting.pop() {
        match expr {
            Expr::Const(_) | Expr::Now => {}
            Expr::Local(known) if Some(*known) == local => {}
            Expr::Header(slot) if header.is_none_or(|known| known == *slot) => header = Some(*slot),
            Expr::Not(value) | Expr::Neg { value, .. } | Expr::Matches { value, .. } => waiting.push(value),
            Expr::And(left, right) | Expr::Or(left, right) | Expr::Coalesce(left, right) => {
                waiting.extend([&**left, &**right]);
            }
            Expr::Compare { left, right, .. } | Expr::Arith { left, right, .. } => {
                waiting.extend([&**left, &**right]);
            }
            Expr::In { value, list } => waiting.extend([&**value, &**list]),
            Expr::Between { value, low, high } => waiting.extend([&**value, &**low, &**high]),
            Expr::If { condition, then, otherwise } => {
                waiting.extend([&**condition, &**then, &**otherwise]);
            }
            Expr::Call { function, args, .. } if !functions.varies(function) => waiting.extend(args),
            Expr::List(items) => waiting.extend(items),
            Expr::Range { low, high, .. } => waiting.extend([&**low, &**high]),
            // Whatever else there is may look at more than the header.
            _ => return None,
        }
    }
    header
}

/// As [`deciding_header`], for a step that only drops.
pub(super) fn deciding_header_of(body: &[Stmt], functions: &Functions) -> Option<Slot> {
    match body {
        [Stmt::If { condition, .. }] => deciding_header([condition], None, functions),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_begin_alike_are_told_apart() {
        let mut columns = Columns::default();
        let texts: [&[u8]; 6] = [b"", b"2", b"20", b"200", b"20\0", b"a text that is longer than a word"];
        for text in texts {
            let row = columns.push(b"x", 0).unwrap();
            let range = columns.arena.push(text).unwrap();
            columns.set_header(row, Slot(1), range);
        }
        columns.push(b"absent", 0).unwrap();
        let mut memo = Memo::new(Slot(1));
        let keys: Vec<_> = (0..7).map(|row| memo.key(&columns, row)).collect();
        assert!(keys[5].is_none());
        let keys: Vec<Key> = keys.into_iter().flatten().collect();
        for (index, key) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|other| other != key));
            memo.put(*key, index);
            assert_eq!(memo.get(*key), Some(index));
        }
        memo.clear();
        assert!(keys.iter().all(|key| memo.get(*key).is_none()));
    }

    #[test]
    fn only_one_header_and_functions_that_do_not_vary_decide() {
        let mut functions = Functions::new();
        functions.add("int", |_, _| Ok(crate::value::Value::Null));
        functions.add_varying("random_int", |_, _| Ok(crate::value::Value::Null));
        let call = |name: &str, arg: Expr| Expr::Call {
            function: name.into(),
            args: vec![arg],
            origin: crate::plan::OriginId(0),
        };
        let header = |slot| Expr::Header(Slot(slot));
        let decides = |exprs: &[Expr], local| deciding_header(exprs, local, &functions);
        assert_eq!(decides(&[call("int", header(3)), Expr::Local(0)], Some(0)), Some(Slot(3)));
        assert_eq!(decides(&[call("random_int", header(3))], None), None);
        assert_eq!(decides(&[header(3), header(4)], None), None);
        assert_eq!(decides(&[header(3), Expr::Body], None), None);
        assert_eq!(decides(&[header(3), Expr::Local(1)], Some(0)), None);
        assert_eq!(decides(&[Expr::Now], None), None);
    }
}
