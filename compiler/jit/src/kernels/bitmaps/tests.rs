use proptest::prelude::*;

use super::*;
use crate::guard::Guarded;

fn class() -> impl Strategy<Value = ByteSet> {
    prop_oneof![
        any::<[u64; 4]>().prop_map(ByteSet),
        any::<u8>().prop_map(ByteSet::byte),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| ByteSet::range(a.min(b), a.max(b))),
        (any::<[u64; 2]>(), any::<bool>()).prop_map(|(ascii, beyond)| {
            let beyond = if beyond { u64::MAX } else { 0 };
            ByteSet([ascii[0], ascii[1], beyond, beyond])
        }),
        Just(ByteSet::EMPTY),
        Just(ByteSet::ALL),
    ]
}

fn isas() -> Vec<Isa> {
    vec![Isa::PORTABLE, Isa::detect()]
}

/// As generated code reads it: the bit of byte `at` with an unaligned load of 8 bytes.
fn loaded(bitmaps: &Bitmaps, class: usize, at: usize) -> u64 {
    let fields: *const Bitmaps = bitmaps;
    // SAFETY: the field is inside of the struct; the bitmap may be read at any offset from start to end, end included.
    unsafe {
        let bits = fields.byte_add(Bitmaps::offset_of_class(class)).cast::<*const u8>().read();
        bits.wrapping_add(at / 8).cast::<u64>().read_unaligned().to_le() >> (at % 8)
    }
}

fn check(text: &[u8], range: Range<usize>, classes: &[ByteSet], bitmaps: &mut Bitmaps) {
    for guarded in [Guarded::at_end(text), Guarded::at_start(text)] {
        for isa in isas() {
            Classifier::new(classes).unwrap().classify(guarded.padded(), range.clone(), isa, bitmaps);
            let end = range.end.min(text.len());
            assert_eq!(bitmaps.covered(), range.start.min(end)..end);
            for (k, class) in classes.iter().enumerate() {
                for at in bitmaps.covered() {
                    assert_eq!(bitmaps.has(k, at), Some(class.has(text[at])), "{isa:?} {class:?} at {at}");
                    let word = loaded(bitmaps, k, at);
                    for (ahead, byte) in text[at..end].iter().take(57).enumerate() {
                        assert_eq!(word >> ahead & 1 != 0, class.has(*byte), "{isa:?} {class:?} at {at}");
                    }
                }
                loaded(bitmaps, k, end);
                assert_eq!(bitmaps.has(k, end), None);
            }
            assert_eq!(bitmaps.has(classes.len(), range.start), None);
        }
    }
}

proptest! {
    #[test]
    fn bitmaps_say_what_the_classes_say(
        text in prop::collection::vec(any::<u8>(), 0..200),
        cuts in (0usize..210, 0usize..210),
        classes in prop::collection::vec(class(), 0..=CLASSES_MAX),
    ) {
        check(&text, cuts.0.min(cuts.1)..cuts.0.max(cuts.1), &classes, &mut Bitmaps::default());
    }
}

#[test]
fn every_length_around_the_widths_of_registers() {
    let text: Vec<u8> = (0..200u32).map(|at| (at * 37 + at / 7) as u8).collect();
    let classes = [ByteSet::range(b' ', b'~'), ByteSet::byte(b'\n').complement(), ByteSet::range(0x70, 0x90)];
    // The same memory for all of them: what a longer text left behind must not show.
    let mut bitmaps = Bitmaps::default();
    for len in (0..200).rev() {
        for start in [0, 1, 31, 32, 33, 63, 64, 65].into_iter().filter(|&start| start <= len) {
            check(&text[..len], start..len, &classes, &mut bitmaps);
        }
    }
}

#[test]
fn more_than_a_chunk_is_one_bitmap_and_memory_is_used_again() {
    let text: Vec<u8> = (0..3 * CHUNK_BYTES as u32 + 777).map(|at| (at ^ at >> 8) as u8).collect();
    let guarded = Guarded::at_end(&text);
    let classes = [ByteSet::byte(b'"'), ByteSet([7; 4]), ByteSet::range(b'0', b'9')];
    let classifier = Classifier::new(&classes).unwrap();
    let mut bitmaps = Bitmaps::default();
    for isa in isas() {
        classifier.classify(guarded.padded(), 0..text.len(), isa, &mut bitmaps);
        let address = bitmaps.words.as_ptr();
        for start in [0, 100, CHUNK_BYTES - 1] {
            classifier.classify(guarded.padded(), start..text.len(), isa, &mut bitmaps);
            assert_eq!(address, bitmaps.words.as_ptr());
            for (k, class) in classes.iter().enumerate() {
                assert!((start..text.len()).all(|at| bitmaps.has(k, at) == Some(class.has(text[at]))));
            }
        }
    }
}

#[test]
fn too_many_classes_are_refused_and_no_text_is_fine() {
    assert!(Classifier::new(&[ByteSet::ALL; CLASSES_MAX + 1]).is_none());
    let classifier = Classifier::new(&[ByteSet::ALL; CLASSES_MAX]).unwrap();
    let mut bitmaps = Bitmaps::default();
    for isa in isas() {
        for padded in [&[][..], &[0; 10], &[0; ARENA_PADDING]] {
            classifier.classify(padded, 0..1000, isa, &mut bitmaps);
            assert!(bitmaps.covered().is_empty());
        }
    }
}

#[test]
fn the_layout_is_what_the_code_generator_relies_on() {
    assert_eq!(Bitmaps::offset_of_class(0), 0);
    assert_eq!(Bitmaps::offset_of_class(3), 24);
    assert_eq!(std::mem::offset_of!(Bitmaps, start), 64);
    assert_eq!(std::mem::offset_of!(Bitmaps, end), 72);
}
