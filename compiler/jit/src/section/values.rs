//! Values of expressions while code is generated for them: where they are at run time, and what is known of their
//! type.

use cranelift_codegen::ir::Value;

/// Types of values at run time, one bit each. The numbers are the tags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u16);

pub const NULL: u8 = 0;
pub const BOOL: u8 = 1;
pub const INT: u8 = 2;
/// Its bits.
pub const FLOAT: u8 = 3;
/// A pointer and a length; readable [`flow_plan::batch::ARENA_PADDING`] bytes past its end.
pub const TEXT: u8 = 4;
pub const TIME: u8 = 5;
pub const DURATION: u8 = 6;
pub const SIZE: u8 = 7;
/// A list, a map and so on: a pointer to a [`flow_plan::Value`] that lives as long as the row is processed.
pub const OTHER: u8 = 8;

impl Kinds {
    pub const ALL: Kinds = Kinds(0x1ff);
    pub const TEXT_OR_NULL: Kinds = Kinds(1 << TEXT | 1 << NULL);

    pub const fn one(tag: u8) -> Kinds {
        Kinds(1 << tag)
    }

    pub fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    pub fn has(self, tag: u8) -> bool {
        self.0 >> tag & 1 == 1
    }

    pub fn is(self, tag: u8) -> bool {
        self == Kinds::one(tag)
    }

    /// The tag when there is only one.
    pub fn single(self) -> Option<u8> {
        (self.0.count_ones() == 1).then(|| self.0.trailing_zeros() as u8)
    }
}

/// Where the bytes of a text are, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// In the arena of the batch.
    Arena,
    /// A constant of the section, by number.
    Constant(u32),
    Unknown,
}

/// A value: a tag and two words, as Cranelift values.
#[derive(Clone, Copy)]
pub struct Val {
    pub kinds: Kinds,
    /// 8 bits.
    pub tag: Value,
    /// 64 bits: the number, the bits of a float, the pointer of a text.
    pub a: Value,
    /// 64 bits: the length of a text.
    pub b: Value,
    pub home: Home,
    /// The value as a [`flow_plan::Range`] in one 64-bit word, when it is at hand.
    pub range: Option<Value>,
}
