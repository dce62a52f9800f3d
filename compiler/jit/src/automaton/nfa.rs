//! The Thompson NFA that `regex-automata` builds, packed for determinization: captures that nobody reads are gone,
//! and each node knows what its closure can look at and which slots are still read behind it.

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::Look;
use regex_automata::util::primitives::StateID;

use super::END;

/// What the byte before a position tells look-arounds: one of these, or none of them.
pub(super) mod before {
    /// There is no byte: the text begins here.
    pub const START: u8 = 1;
    pub const LF: u8 = 2;
    pub const CR: u8 = 4;
    /// An ASCII word byte.
    pub const WORD: u8 = 8;
    pub const BEYOND_ASCII: u8 = 16;
}

/// What look-arounds can tell about the byte behind a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    Lf,
    Cr,
    /// An ASCII word byte.
    Word,
    BeyondAscii,
    Other,
    End,
}

impl Ahead {
    pub const COUNT: usize = 6;
}

/// Slots of groups: bit `n` is the wanted slot number `n`.
pub(super) type Slots = u128;

#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// Consumes a byte: `ranges[first..end]`, ascending.
    Bytes {
        first: u32,
        end: u32,
    },
    /// `alternates[first..end]`, the best first.
    Union {
        first: u32,
        end: u32,
    },
    Look {
        look: Look,
        next: u32,
    },
    /// Saves the position in a wanted slot.
    Save {
        slot: u32,
        next: u32,
    },
    Match {
        pattern: u32,
    },
    Fail,
}

/// Bytes by class (both ends included) and the node behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub first: u16,
    pub last: u16,
    pub next: u32,
}

pub(super) struct Nfa {
    pub nodes: Vec<Node>,
    pub ranges: Vec<Range>,
    pub alternates: Vec<u32>,
    pub start: u32,
    /// By node: what its closure can ask about the byte before ([`before`]).
    pub asks: Vec<u8>,
    /// By node: its closure can ask about the byte behind.
    pub looks_ahead: Vec<bool>,
    /// By node: nothing but failures can be reached without consuming a byte.
    pub fails: Vec<bool>,
    /// By node: the slots whose value may still become part of a match.
    pub live: Vec<Slots>,
    /// The class of each byte, ascending with the bytes; the last class is the end of the text.
    pub class_of: [u16; 257],
    pub classes: Vec<Class>,
}

/// Bytes that no node and no look-around tells apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    pub before: u8,
    pub ahead: Ahead,
    /// All of its bytes are beyond ASCII.
    pub beyond_ascii: bool,
}

impl Nfa {
    /// Packs. `wanted` lists the slots that are read, ascending: they get their places in it as numbers.
    pub fn new(nfa: &NFA, wanted: &[usize], quits: bool) -> Nfa {
        let looks = nfa.look_set_any();
        let class_of = classes(nfa, quits || looks.contains_word_unicode());
        let mut packed = Nfa {
            nodes: Vec::with_capacity(nfa.states().len()),
            ranges: Vec::new(),
            alternates: Vec::new(),
            start: 0,
            asks: Vec::new(),
            looks_ahead: Vec::new(),
            fails: Vec::new(),
            live: Vec::new(),
            class_of,
            classes: Vec::new(),
        };
        for byte in 0..=255u8 {
            if usize::from(class_of[usize::from(byte)]) == packed.classes.len() {
                packed.classes.push(Class::of(byte));
            }
        }
        packed.classes.push(Class { before: 0, ahead: Ahead::End, beyond_ascii: false });
        let place = |slot: usize| wanted.binary_search(&slot).ok();
        // Captures that nobody reads are stepped over. They cannot form a cycle: loops contain a union.
        let skip = |mut id: StateID| {
            while let State::Capture { next, slot, .. } = nfa.state(id) {
                if place(slot.as_usize()).is_some() {
                    break;
                }
                id = *next;
            }
            id.as_u32()
        };
        for state in nfa.states() {
            let node = packed.pack(state, &skip, &place);
            packed.nodes.push(node);
        }
        packed.start = skip(nfa.start_unanchored());
        packed.find_closures();
        packed.find_live(wanted.len());
        packed
    }

    fn pack(
        &mut self,
        state: &State,
        skip: &impl Fn(StateID) -> u32,
        place: &impl Fn(usize) -> Option<usize>,
    ) -> Node {
        let first = self.ranges.len() as u32;
        match state {
            State::ByteRange { trans } => self.push_range(trans.start, trans.end, skip(trans.next)),
            State::Sparse(sparse) => {
                for trans in sparse.transitions.iter() {
                    self.push_range(trans.start, trans.end, skip(trans.next));
                }
            }
            State::Dense(dense) => {
                for byte in 0..=255 {
                    if let Some(next) = dense.matches_byte(byte) {
                        self.push_range(byte, byte, skip(next));
                    }
                }
            }
            State::Look { look, next } => return Node::Look { look: *look, next: skip(*next) },
            State::Union { alternates } => return self.push_union(alternates.iter().map(|id| skip(*id))),
            State::BinaryUnion { alt1, alt2 } => {
                return self.push_union([skip(*alt1), skip(*alt2)].into_iter());
            }
            State::Capture { next, slot, .. } => {
                return match place(slot.as_usize()) {
                    Some(slot) => Node::Save { slot: slot as u32, next: skip(*next) },
                    // Nobody goes here.
                    None => Node::Fail,
                };
            }
            State::Fail => return Node::Fail,
            State::Match { pattern_id } => return Node::Match { pattern: pattern_id.as_u32() },
        }
        Node::Bytes { first, end: self.ranges.len() as u32 }
    }

    fn push_range(&mut self, first: u8, last: u8, next: u32) {
        let (first, last) = (self.class_of[usize::from(first)], self.class_of[usize::from(last)]);
        self.ranges.push(Range { first, last, next });
    }

    fn push_union(&mut self, alternates: impl Iterator<Item = u32>) -> Node {
        let first = self.alternates.len() as u32;
        self.alternates.extend(alternates);
        Node::Union { first, end: self.alternates.len() as u32 }
    }

    /// The nodes that a node reaches without consuming a byte, in one step.
    pub fn successors(&self, node: Node) -> &[u32] {
        match node {
            Node::Union { first, end } => &self.alternates[first as usize..end as usize],
            _ => &[],
        }
    }

    fn find_closures(&mut self) {
        let count = self.nodes.len();
        self.asks = vec![0; count];
        self.looks_ahead = vec![false; count];
        self.fails =
            self.nodes.iter().map(|node| !matches!(node, Node::Bytes { .. } | Node::Match { .. })).collect();
        // Backwards, since most edges lead forward; again until nothing changes. `fails` starts from true for every
        // node that consumes nothing, so that a cycle of such nodes stays a failure.
        loop {
            let mut changed = false;
            for number in (0..count).rev() {
                let (asks, ahead, fails) = match self.nodes[number] {
                    Node::Bytes { .. } | Node::Match { .. } | Node::Fail => continue,
                    Node::Save { next, .. } => self.closure(next),
                    Node::Look { look, next } => {
                        let (asks, ahead, fails) = self.closure(next);
                        let (more, looks) = questions(look);
                        (asks | more, ahead || looks, fails)
                    }
                    node @ Node::Union { .. } => {
                        self.successors(node).iter().fold((0, false, true), |(asks, ahead, fails), &next| {
                            let (more, looks, all) = self.closure(next);
                            (asks | more, ahead || looks, fails && all)
                        })
                    }
                };
                let new = (asks, ahead, fails);
                if new != self.closure(number as u32) {
                    (self.asks[number], self.looks_ahead[number], self.fails[number]) = new;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn closure(&self, node: u32) -> (u8, bool, bool) {
        let node = node as usize;
        (self.asks[node], self.looks_ahead[node], self.fails[node])
    }

    /// The nodes that the start reaches, each behind all that it leads to (but for loops): what flows backwards
    /// arrives in few passes then.
    fn postorder(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut seen = vec![false; self.nodes.len()];
        // Each node twice: to enter what it leads to, then to leave it.
        let mut stack = vec![(self.start as usize, false)];
        while let Some((number, left)) = stack.pop() {
            if left {
                order.push(number);
                continue;
            }
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            stack.push((number, true));
            match self.nodes[number] {
                Node::Bytes { first, end } => {
                    let ranges = &self.ranges[first as usize..end as usize];
                    stack.extend(ranges.iter().map(|range| (range.next as usize, false)));
                }
                node @ Node::Union { .. } => {
                    stack.extend(self.successors(node).iter().map(|&next| (next as usize, false)));
                }
                Node::Look { next, .. } | Node::Save { next, .. } => stack.push((next as usize, false)),
                Node::Match { .. } | Node::Fail => {}
            }
        }
        order
    }

    fn find_live(&mut self, wanted: usize) {
        let all: Slots = if wanted == 0 { 0 } else { Slots::MAX >> (Slots::BITS as usize - wanted) };
        self.live = vec![0; self.nodes.len()];
        if wanted == 0 {
            return;
        }
        let order = self.postorder();
        loop {
            let mut changed = false;
            for &number in &order {
                let live = match self.nodes[number] {
                    Node::Bytes { first, end } => self.ranges[first as usize..end as usize]
                        .iter()
                        .fold(0, |live, range| live | self.live[range.next as usize]),
                    node @ Node::Union { .. } => {
                        self.successors(node).iter().fold(0, |live, &next| live | self.live[next as usize])
                    }
                    Node::Look { next, .. } => self.live[next as usize],
                    Node::Save { slot, next } => self.live[next as usize] & !(1 << slot),
                    Node::Match { .. } => all,
                    Node::Fail => 0,
                };
                changed |= live != self.live[number];
                self.live[number] = live;
            }
            if !changed {
                return;
            }
        }
    }
}

impl Class {
    fn of(byte: u8) -> Class {
        let (before, ahead) = match byte {
            b'\n' => (before::LF, Ahead::Lf),
            b'\r' => (before::CR, Ahead::Cr),
            byte if is_word(byte) => (before::WORD, Ahead::Word),
            0x80.. => (before::BEYOND_ASCII, Ahead::BeyondAscii),
            _ => (0, Ahead::Other),
        };
        Class { before, ahead, beyond_ascii: byte >= 0x80 }
    }
}

/// The class of each byte: cut where a node or a look-around of the NFA tells two neighbours apart.
fn classes(nfa: &NFA, beyond_ascii: bool) -> [u16; 257] {
    // `cuts[b]`: a class begins at byte `b`.
    let mut cuts = [false; 257];
    let mut cut = |first: u8, last: u8| {
        cuts[usize::from(first)] = true;
        cuts[usize::from(last) + 1] = true;
    };
    for state in nfa.states() {
        match state {
            State::ByteRange { trans } => cut(trans.start, trans.end),
            State::Sparse(sparse) => {
                sparse.transitions.iter().for_each(|trans| cut(trans.start, trans.end));
            }
            State::Dense(_) => (0..=255).for_each(|byte| cut(byte, byte)),
            State::Look { .. }
            | State::Union { .. }
            | State::BinaryUnion { .. }
            | State::Capture { .. }
            | State::Fail
            | State::Match { .. } => {}
        }
    }
    let asked = nfa.look_set_any().iter().fold(0, |asked, look| asked | about(look));
    if asked & before::LF != 0 {
        cut(b'\n', b'\n');
    }
    if asked & before::CR != 0 {
        cut(b'\r', b'\r');
    }
    if asked & before::WORD != 0 {
        for (first, last) in [(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')] {
            cut(first, last);
        }
    }
    if beyond_ascii {
        cut(0x80, 0xff);
    }
    let mut class = 0;
    let mut class_of = [0; 257];
    for byte in 1..256 {
        class += u16::from(cuts[byte]);
        class_of[byte] = class;
    }
    class_of[END] = class + 1;
    class_of
}

pub(super) fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The kinds of bytes that a look-around tells from others, on either side.
fn about(look: Look) -> u8 {
    match look {
        Look::Start | Look::End => 0,
        Look::StartLF | Look::EndLF => before::LF,
        Look::StartCRLF | Look::EndCRLF => before::LF | before::CR,
        _ => before::WORD,
    }
}

/// What a look-around asks about the byte before, and whether it asks about the byte behind.
fn questions(look: Look) -> (u8, bool) {
    use before::{BEYOND_ASCII, CR, LF, START, WORD};
    match look {
        Look::Start => (START, false),
        Look::End | Look::EndLF => (0, true),
        Look::StartLF => (START | LF, false),
        Look::StartCRLF => (START | LF | CR, true),
        Look::EndCRLF => (CR, true),
        Look::WordAscii | Look::WordAsciiNegate | Look::WordStartAscii | Look::WordEndAscii => (WORD, true),
        Look::WordStartHalfAscii => (WORD, false),
        Look::WordEndHalfAscii => (0, true),
        Look::WordUnicode | Look::WordUnicodeNegate | Look::WordStartUnicode | Look::WordEndUnicode => {
            (WORD | BEYOND_ASCII, true)
        }
        Look::WordStartHalfUnicode => (WORD | BEYOND_ASCII, false),
        Look::WordEndHalfUnicode => (0, true),
    }
}

/// Whether a look-around holds between two bytes; `None` when that takes characters beyond ASCII.
pub(super) fn holds(look: Look, before: u8, ahead: Ahead) -> Option<bool> {
    use before::{BEYOND_ASCII, CR, LF, START, WORD};
    let word_before = before & WORD != 0;
    let word_ahead = ahead == Ahead::Word;
    let beyond_before = before & BEYOND_ASCII != 0;
    let beyond_ahead = ahead == Ahead::BeyondAscii;
    let known = match look {
        Look::Start => before & START != 0,
        Look::End => ahead == Ahead::End,
        Look::StartLF => before & (START | LF) != 0,
        Look::EndLF => matches!(ahead, Ahead::End | Ahead::Lf),
        Look::StartCRLF => before & (START | LF) != 0 || before & CR != 0 && ahead != Ahead::Lf,
        Look::EndCRLF => match ahead {
            Ahead::End | Ahead::Cr => true,
            Ahead::Lf => before & CR == 0,
            _ => false,
        },
        Look::WordUnicode | Look::WordUnicodeNegate | Look::WordStartUnicode | Look::WordEndUnicode
            if beyond_before || beyond_ahead =>
        {
            return None;
        }
        Look::WordStartHalfUnicode if beyond_before => return None,
        Look::WordEndHalfUnicode if beyond_ahead => return None,
        Look::WordAscii | Look::WordUnicode => word_before != word_ahead,
        Look::WordAsciiNegate | Look::WordUnicodeNegate => word_before == word_ahead,
        Look::WordStartAscii | Look::WordStartUnicode => !word_before && word_ahead,
        Look::WordEndAscii | Look::WordEndUnicode => word_before && !word_ahead,
        Look::WordStartHalfAscii | Look::WordStartHalfUnicode => !word_before,
        Look::WordEndHalfAscii | Look::WordEndHalfUnicode => !word_ahead,
    };
    Some(known)
}
