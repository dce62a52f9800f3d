//! Classes of characters, made small: what a class says about characters beyond ASCII is either spelt out, when
//! few UTF-8 sequences do it, or replaced by a place where the automaton quits. Knows the syntax tree of a regex
//! alone.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicode, Hir, HirKind};
use regex_syntax::utf8::Utf8Sequences;

/// A class whose part beyond ASCII takes more UTF-8 sequences than this is cut. `[^"]` takes 9, `\s` 8, `\S` 23,
/// `\d` over 60, `\w` over 700.
const SEQUENCES_MAX: usize = 32;

/// Cuts the large classes. For a cut class the regex reads a byte that can begin one of its characters beyond ASCII,
/// and then fails: whoever follows a byte beyond ASCII into a failure has to quit.
pub(super) fn cut_large_classes(hir: Hir) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Class(Class::Unicode(class)) => cut(class),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Repetition(mut repetition) => {
            repetition.sub = Box::new(cut_large_classes(*repetition.sub));
            Hir::repetition(repetition)
        }
        HirKind::Capture(mut capture) => {
            capture.sub = Box::new(cut_large_classes(*capture.sub));
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(cut_large_classes).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.into_iter().map(cut_large_classes).collect()),
    }
}

fn cut(class: ClassUnicode) -> Hir {
    let beyond = || class.ranges().iter().filter(|range| range.end() > '\x7f');
    let sequences =
        || beyond().flat_map(|range| Utf8Sequences::new(range.start().max('\u{80}'), range.end()));
    if sequences().nth(SEQUENCES_MAX).is_none() {
        return Hir::class(Class::Unicode(class));
    }
    let ascii = class.ranges().iter().filter(|range| range.start() <= '\x7f').map(|range| {
        // Both ends are at most 0x7f here.
        ClassBytesRange::new(range.start() as u8, range.end().min('\x7f') as u8)
    });
    let leads = beyond().map(|range| {
        let lead = |character: char| character.encode_utf8(&mut [0; 4]).as_bytes()[0];
        ClassBytesRange::new(lead(range.start().max('\u{80}')), lead(range.end()))
    });
    let leads = Hir::class(Class::Bytes(ClassBytes::new(leads)));
    let quit = Hir::concat(vec![leads, Hir::fail()]);
    match ClassBytes::new(ascii) {
        ascii if ascii.ranges().is_empty() => quit,
        ascii => Hir::alternation(vec![Hir::class(Class::Bytes(ascii)), quit]),
    }
}
