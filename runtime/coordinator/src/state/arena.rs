//! Memory for the names and data of znodes: pages cut into slots of one size each, so that a small value costs its
//! bytes rounded up to eight and no header of an allocator. It knows no znode; it hands out places and takes them back.

/// Bytes of a page that is cut into slots.
const PAGE_BYTES: usize = 64 * 1024;
/// Slots are multiples of this many bytes.
const UNIT_BYTES: usize = 8;
/// Up to here the sizes of slots rise by one unit.
const FINE_BYTES: usize = 256;
/// What is longer than this gets a page of its own, of exactly its length.
const SLOT_BYTES_MAX: usize = 16 * 1024;
/// Sizes of slots: 32 fine ones, then four for each doubling from 256 to 16 KiB.
const CLASSES: usize = FINE_BYTES / UNIT_BYTES + 4 * 6;
/// The class of a page with one long value.
const LONG: u8 = u8::MAX;
const NO_PAGE: u32 = u32::MAX;
const NO_SLOT: u16 = u16::MAX;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub page: u32,
    /// In units from the start of the page.
    pub unit: u16,
}

struct Page {
    bytes: Box<[u8]>,
    class: u8,
    /// The first of the freed slots, each of which holds the next.
    free: u16,
    /// The first slot that was never given out.
    fresh: u16,
    used: u16,
    /// Neighbours in the list of pages of this class with room.
    next: u32,
    prev: u32,
    listed: bool,
}

/// The pages. Empty ones go back to the allocator of the process, but for one of each class.
pub(super) struct Arena {
    pages: Vec<Page>,
    /// Numbers of pages that hold nothing and have no bytes.
    vacant: Vec<u32>,
    /// For each class the first page with room, or `None` before there was one.
    room: [Option<u32>; CLASSES],
}

fn class_of(bytes: usize) -> Option<usize> {
    if bytes <= FINE_BYTES {
        return Some(bytes.max(1).div_ceil(UNIT_BYTES) - 1);
    }
    if bytes > SLOT_BYTES_MAX {
        return None;
    }
    let doubling = (bytes - 1).ilog2() as usize;
    let quarter = (bytes - 1 - (1 << doubling)) >> (doubling - 2);
    Some(FINE_BYTES / UNIT_BYTES + (doubling - 8) * 4 + quarter)
}

fn slot_bytes(class: usize) -> usize {
    let fine = FINE_BYTES / UNIT_BYTES;
    if class < fine {
        return (class + 1) * UNIT_BYTES;
    }
    let (doubling, quarter) = ((class - fine) / 4 + 8, (class - fine) % 4);
    (1 << doubling) + ((quarter + 1) << (doubling - 2))
}

impl Arena {
    pub fn new() -> Arena {
        Arena { pages: Vec::new(), vacant: Vec::new(), room: [None; CLASSES] }
    }

    /// A place for `bytes` bytes; what is in it is not defined.
    pub fn take(&mut self, bytes: usize) -> Place {
        let Some(class) = class_of(bytes) else {
            let page = self.add_page(LONG, bytes);
            self.pages[page as usize].used = 1;
            return Place { page, unit: 0 };
        };
        let page = match self.room[class] {
            Some(page) => page,
            None => {
                let page = self.add_page(class as u8, PAGE_BYTES);
                self.list(page);
                page
            }
        };
        let size = slot_bytes(class);
        let units = (size / UNIT_BYTES) as u16;
        let of = &mut self.pages[page as usize];
        let unit = if of.free != NO_SLOT {
            let unit = of.free;
            let at = usize::from(unit) * UNIT_BYTES;
            of.free = u16::from_le_bytes([of.bytes[at], of.bytes[at + 1]]);
            unit
        } else {
            let unit = of.fresh;
            of.fresh += units;
            unit
        };
        of.used += 1;
        if of.free == NO_SLOT && usize::from(of.fresh) * UNIT_BYTES + size > PAGE_BYTES {
            self.unlist(page);
        }
        Place { page, unit }
    }

    /// Gives a place back.
    pub fn give(&mut self, place: Place) {
        let page = &mut self.pages[place.page as usize];
        page.used -= 1;
        if page.class == LONG {
            page.bytes = Box::default();
            self.vacant.push(place.page);
            return;
        }
        let at = usize::from(place.unit) * UNIT_BYTES;
        page.bytes[at..at + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = place.unit;
        let (empty, listed) = (page.used == 0, page.listed);
        if !listed {
            self.list(place.page);
        }
        let page = &self.pages[place.page as usize];
        if empty && (page.next != NO_PAGE || page.prev != NO_PAGE) {
            self.unlist(place.page);
            self.pages[place.page as usize].bytes = Box::default();
            self.vacant.push(place.page);
        }
    }

    /// Whether a value of `to` bytes fits where one of `from` bytes lies, without waste.
    pub fn same_room(from: usize, to: usize) -> bool {
        match (class_of(from), class_of(to)) {
            (Some(from), Some(to)) => from == to,
            (None, None) => from == to,
            _ => false,
        }
    }

    /// The bytes at a place, and what lies behind them: at least as many as were asked for.
    pub fn at(&self, place: Place) -> &[u8] {
        &self.pages[place.page as usize].bytes[usize::from(place.unit) * UNIT_BYTES..]
    }

    pub fn at_mut(&mut self, place: Place) -> &mut [u8] {
        &mut self.pages[place.page as usize].bytes[usize::from(place.unit) * UNIT_BYTES..]
    }

    fn add_page(&mut self, class: u8, bytes: usize) -> u32 {
        let page = Page {
            bytes: vec![0; bytes].into_boxed_slice(),
            class,
            free: NO_SLOT,
            fresh: 0,
            used: 0,
            next: NO_PAGE,
            prev: NO_PAGE,
            listed: false,
        };
        match self.vacant.pop() {
            Some(number) => {
                self.pages[number as usize] = page;
                number
            }
            None => {
                self.pages.push(page);
                (self.pages.len() - 1) as u32
            }
        }
    }

    fn list(&mut self, page: u32) {
        let class = usize::from(self.pages[page as usize].class);
        let next = self.room[class].unwrap_or(NO_PAGE);
        if next != NO_PAGE {
            self.pages[next as usize].prev = page;
        }
        let of = &mut self.pages[page as usize];
        (of.next, of.prev, of.listed) = (next, NO_PAGE, true);
        self.room[class] = Some(page);
    }

    fn unlist(&mut self, page: u32) {
        let of = &mut self.pages[page as usize];
        let (class, next, prev) = (usize::from(of.class), of.next, of.prev);
        (of.next, of.prev, of.listed) = (NO_PAGE, NO_PAGE, false);
        if next != NO_PAGE {
            self.pages[next as usize].prev = prev;
        }
        if prev != NO_PAGE {
            self.pages[prev as usize].next = next;
        } else {
            self.room[class] = (next != NO_PAGE).then_some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_a_slot_that_holds_it() {
        for bytes in 0..=SLOT_BYTES_MAX {
            let class = class_of(bytes).unwrap();
            assert!(class < CLASSES);
            assert!(slot_bytes(class) >= bytes, "{bytes}");
            assert_eq!(slot_bytes(class) % UNIT_BYTES, 0);
            assert!(class == 0 || slot_bytes(class - 1) < bytes.max(1), "{bytes}");
        }
        assert_eq!(class_of(SLOT_BYTES_MAX + 1), None);
        assert_eq!(slot_bytes(CLASSES - 1), SLOT_BYTES_MAX);
    }

    #[test]
    fn values_keep_apart_and_pages_are_given_back() {
        let mut arena = Arena::new();
        let mut held: Vec<(Place, usize, u8)> = Vec::new();
        let mut seed = 7u64;
        for round in 0..20_000u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bytes = match seed >> 60 {
                0 => 20_000,
                1..4 => 2_000 + (seed >> 40) as usize % 9_000,
                _ => (seed >> 40) as usize % 300,
            };
            if held.len() > 400 || (seed >> 33).is_multiple_of(3) && !held.is_empty() {
                let (place, bytes, fill) = held.swap_remove((seed >> 20) as usize % held.len());
                assert!(arena.at(place)[..bytes].iter().all(|&byte| byte == fill));
                arena.give(place);
            } else {
                let place = arena.take(bytes);
                arena.at_mut(place)[..bytes].fill(round as u8);
                held.push((place, bytes, round as u8));
            }
        }
        for (place, bytes, fill) in held.drain(..) {
            assert!(arena.at(place)[..bytes].iter().all(|&byte| byte == fill));
            arena.give(place);
        }
        let kept = arena.pages.iter().filter(|page| !page.bytes.is_empty()).count();
        assert!(kept <= CLASSES, "{kept} pages are kept");
    }
}
