//! The smallest automaton with the same answers and the same register operations (Moore 1956), without what cannot
//! be reached.

use std::collections::HashMap;

use super::determinize::{Draft, Transitions};
use super::interner::Interner;
use super::{QUIT, Transition};

/// Words that may be compared; an automaton that takes more stays as it is, which is right too.
const WORK_MAX: usize = 20_000_000;

/// Merges states that nothing tells apart.
pub(super) fn minimize(draft: &mut Draft) {
    drop_unreachable(draft);
    let states = draft.states();
    let columns = distinct_columns(draft);
    // Transitions that differ in their target alone have one shape.
    let mut shapes: HashMap<Transition, u32> = HashMap::new();
    let shape_of: Vec<u32> = draft
        .transitions
        .iter()
        .map(|transition| {
            let mut shape = transition.clone();
            shape.target = if shape.target < QUIT { 0 } else { shape.target };
            let next = shapes.len() as u32;
            *shapes.entry(shape).or_insert(next)
        })
        .collect();
    // Refined until nothing changes: the class of a state, from the shapes and from the classes of its targets.
    let mut part = vec![0u32; states];
    let mut parts = 1;
    let mut work = 0;
    let mut signature = Vec::with_capacity(columns.len() * 2);
    loop {
        let mut interner = Interner::new();
        let mut refined = Vec::with_capacity(states);
        for state in 0..states {
            let row = draft.row(state);
            signature.clear();
            for &column in &columns {
                let transition = row[column];
                let target = draft.transitions[transition as usize].target;
                signature.push(shape_of[transition as usize]);
                signature.push(if target < QUIT { part[target as usize] } else { target });
            }
            refined.push(interner.intern(&signature));
        }
        part = refined;
        if interner.len() == parts {
            break;
        }
        parts = interner.len();
        work += states * columns.len();
        if work > WORK_MAX {
            return;
        }
    }
    if parts == states {
        return;
    }
    rebuild(draft, &part, parts);
}

/// Keeps one state for each part, in the order of the first.
fn rebuild(draft: &mut Draft, part: &[u32], parts: usize) {
    let mut transitions = Transitions::default();
    let mut rows = Vec::with_capacity(parts * draft.classes);
    for (state, &number) in part.iter().enumerate() {
        // Numbers are given in the order of the first appearance.
        if number as usize * draft.classes != rows.len() {
            continue;
        }
        for &transition in draft.row(state) {
            let mut transition = draft.transitions[transition as usize].clone();
            if transition.target < QUIT {
                transition.target = part[transition.target as usize];
            }
            rows.push(transitions.number(transition));
        }
    }
    draft.start = part[draft.start as usize];
    draft.rows = rows;
    draft.transitions = transitions.list;
}

fn drop_unreachable(draft: &mut Draft) {
    const UNSEEN: u32 = u32::MAX;
    let mut numbers = vec![UNSEEN; draft.states()];
    let mut order = vec![draft.start];
    numbers[draft.start as usize] = 0;
    let mut at = 0;
    while at < order.len() {
        for &transition in draft.row(order[at] as usize) {
            let target = draft.transitions[transition as usize].target;
            if target < QUIT && numbers[target as usize] == UNSEEN {
                numbers[target as usize] = order.len() as u32;
                order.push(target);
            }
        }
        at += 1;
    }
    if order.len() == draft.states() {
        return;
    }
    let mut transitions = Transitions::default();
    let mut rows = Vec::with_capacity(order.len() * draft.classes);
    for &state in &order {
        for &transition in draft.row(state as usize) {
            let mut transition = draft.transitions[transition as usize].clone();
            if transition.target < QUIT {
                transition.target = numbers[transition.target as usize];
            }
            rows.push(transitions.number(transition));
        }
    }
    draft.start = 0;
    draft.rows = rows;
    draft.transitions = transitions.list;
}

/// One class of bytes for each different column.
fn distinct_columns(draft: &Draft) -> Vec<usize> {
    let mut interner = Interner::new();
    let mut columns = Vec::new();
    let mut words = Vec::with_capacity(draft.states());
    for class in 0..draft.classes {
        words.clear();
        words.extend((0..draft.states()).map(|state| draft.row(state)[class]));
        if interner.intern(&words) as usize == columns.len() {
            columns.push(class);
        }
    }
    columns
}
