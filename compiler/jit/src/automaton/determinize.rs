//! Determinization. A state is what is left of a simulation of the NFA (Pike 1987) after each byte: the threads in
//! the order of their priority and, for captures, which of them share the value of a slot. Values live in registers,
//! one for each slot and *version*; versions are numbered by their first appearance, so that equal situations are
//! equal states (Laurikari 2000, with the look-ahead of Trofimovich 2017: tags are applied when the next byte is
//! read, so a thread that dies on it costs nothing).

use std::collections::HashMap;

use super::interner::Interner;
use super::nfa::{Ahead, Nfa, Node, Slots, before, holds};
use super::{Accept, DEAD, Kind, QUIT, Refusal, Source, Transition};

/// Threads of a state with captures: comparing their values takes the square of it.
const THREADS_MAX: usize = 100;
/// Registers before they are shared.
const REGISTERS_MAX: usize = 512;
/// Steps of building: visits of nodes, bytes tried, words of states. It bounds time (some ten nanoseconds each) and
/// memory (some bytes each), the same way on every machine.
const WORK_MAX: usize = 2_000_000;

/// An automaton whose rows are still by class of bytes.
pub(super) struct Draft {
    pub kind: Kind,
    /// The class of each column of the automaton.
    pub class_of: [u16; 257],
    pub classes: usize,
    /// By state and class: a transition.
    pub rows: Vec<u32>,
    pub transitions: Vec<Transition>,
    pub registers: usize,
    pub start: u32,
}

impl Draft {
    pub fn states(&self) -> usize {
        self.rows.len() / self.classes
    }

    /// The transitions of a state, by class.
    pub fn row(&self, state: usize) -> &[u32] {
        &self.rows[state * self.classes..][..self.classes]
    }
}

/// What is built.
pub(super) struct Order<'a> {
    pub nfa: &'a Nfa,
    pub kind: Kind,
    /// The slots that are read, ascending.
    pub wanted: &'a [usize],
    /// A byte beyond ASCII that leads into a failure stands for a class that was cut.
    pub quits: bool,
    pub states_max: usize,
}

/// Determinizes; the first state is the start.
pub(super) fn determinize(order: &Order) -> Result<Draft, Refusal> {
    let nfa = order.nfa;
    let slots = order.wanted.len();
    let mut builder = Builder {
        order,
        slots,
        states: Interner::new(),
        transitions: Transitions::default(),
        registers: Registers { by_version: vec![Vec::new(); slots], count: 0 },
        visited: vec![0; nfa.nodes.len()],
        epoch: 0,
        stack: Vec::new(),
        key: Vec::new(),
        versions: vec![Vec::new(); slots],
        work: nfa.nodes.len() + nfa.ranges.len(),
    };
    let mut first = vec![u32::from(before::START & nfa.asks[nfa.start as usize]), nfa.start];
    first.resize(2 + slots, 0);
    builder.states.intern(&first);
    let classes = nfa.classes.len();
    let mut rows = Vec::new();
    let mut steps = Steps::new(classes);
    let mut closures: Vec<Closure> = (0..Ahead::COUNT).map(|_| Closure::default()).collect();
    let mut state = 0;
    while state < builder.states.len() {
        if builder.states.len() > order.states_max {
            return Err(Refusal::States(order.states_max));
        }
        let key = builder.states.get(state as u32).to_vec();
        builder.expand(&key, &mut closures, &mut steps, &mut rows)?;
        state += 1;
    }
    Ok(Draft {
        kind: order.kind,
        class_of: nfa.class_of,
        classes,
        rows,
        transitions: builder.transitions.list,
        registers: builder.registers.count,
        start: 0,
    })
}

struct Builder<'a> {
    order: &'a Order<'a>,
    slots: usize,
    /// A state is: what look-arounds may ask about the byte before, then for each thread its node and, by slot, the
    /// version of its value (0: none).
    states: Interner,
    transitions: Transitions,
    registers: Registers,
    /// By node: the last closure that visited it.
    visited: Vec<u32>,
    epoch: u32,
    stack: Vec<Frame>,
    key: Vec<u32>,
    /// By slot: the value behind each version of the state that is being made.
    versions: Vec<Vec<u16>>,
    work: usize,
}

/// No value.
const UNSET: u16 = 0;
/// The position of the byte that is being read. Greater values: a version of the state that is left, plus 1.
const HERE: u16 = 1;

enum Frame {
    Visit {
        node: u32,
        /// Behind a look-around that only the reference can answer.
        unsure: bool,
    },
    Restore {
        slot: u32,
        value: u16,
    },
}

/// The nodes that can consume the next byte, in the order of their priority.
#[derive(Default)]
struct Closure {
    items: Vec<Item>,
    /// By item and slot.
    values: Vec<u16>,
    accept: Option<(Vec<u32>, Vec<u16>)>,
    /// Whether there is a match here only the reference can tell.
    unsure_match: bool,
}

struct Item {
    first: u32,
    end: u32,
    unsure: bool,
}

/// By class of bytes: the nodes that are reached and the items that they come from.
struct Steps {
    by_class: Vec<Vec<(u32, u32)>>,
    quits: Vec<bool>,
}

impl Steps {
    fn new(classes: usize) -> Steps {
        Steps { by_class: vec![Vec::new(); classes], quits: vec![false; classes] }
    }
}

impl Builder<'_> {
    /// Adds the row of a state.
    fn expand(
        &mut self,
        key: &[u32],
        closures: &mut [Closure],
        steps: &mut Steps,
        rows: &mut Vec<u32>,
    ) -> Result<(), Refusal> {
        let nfa = self.order.nfa;
        let looks_ahead =
            key[1..].chunks_exact(1 + self.slots).any(|thread| nfa.looks_ahead[thread[0] as usize]);
        // Which closure a class uses: all of them the same unless a look-around asks for the next byte.
        let closure_of = |class: usize| if looks_ahead { nfa.classes[class].ahead as usize } else { 0 };
        let mut made = [false; Ahead::COUNT];
        for class in 0..nfa.classes.len() {
            let closure = closure_of(class);
            if !made[closure] {
                made[closure] = true;
                self.close(key, nfa.classes[class].ahead, &mut closures[closure]);
            }
        }
        for (steps, quits) in steps.by_class.iter_mut().zip(&mut steps.quits) {
            steps.clear();
            *quits = false;
        }
        for number in (0..Ahead::COUNT).filter(|&number| made[number]) {
            let closure = &closures[number];
            if self.order.kind == Kind::Bool && closure.accept.is_some() {
                continue;
            }
            for (at, item) in closure.items.iter().enumerate() {
                if self.work > WORK_MAX {
                    return Err(Refusal::Unsupported("a regex whose automaton takes long to build"));
                }
                for range in &nfa.ranges[item.first as usize..item.end as usize] {
                    let fails = nfa.fails[range.next as usize];
                    for class in usize::from(range.first)..=usize::from(range.last) {
                        if closure_of(class) != number {
                            continue;
                        }
                        self.work += 1;
                        if fails {
                            steps.quits[class] |= self.order.quits && nfa.classes[class].beyond_ascii;
                        } else if item.unsure {
                            steps.quits[class] = true;
                        } else {
                            steps.by_class[class].push((range.next, at as u32));
                        }
                    }
                }
            }
        }
        let first = rows.len();
        for class in 0..nfa.classes.len() {
            // Neighbours mostly lead to the same.
            let same = class > 0
                && closure_of(class) == closure_of(class - 1)
                && steps.quits[class] == steps.quits[class - 1]
                && steps.by_class[class] == steps.by_class[class - 1]
                && {
                    let asks =
                        steps.by_class[class].iter().fold(0, |asks, step| asks | nfa.asks[step.0 as usize]);
                    nfa.classes[class].before & asks == nfa.classes[class - 1].before & asks
                };
            let transition = match same {
                true => rows[first + class - 1],
                false => {
                    let closure = &closures[closure_of(class)];
                    self.transition(closure, class, &steps.by_class[class], steps.quits[class])?
                }
            };
            rows.push(transition);
        }
        // Each class costs a comparison with its neighbour, at least.
        self.work += nfa.classes.len() * 4;
        Ok(())
    }

    /// Follows everything that consumes nothing.
    fn close(&mut self, key: &[u32], ahead: Ahead, closure: &mut Closure) {
        let nfa = self.order.nfa;
        closure.items.clear();
        closure.values.clear();
        closure.accept = None;
        closure.unsure_match = false;
        self.epoch += 1;
        let before = key[0] as u8;
        let mut current = vec![UNSET; self.slots];
        for thread in key[1..].chunks_exact(1 + self.slots) {
            for (value, &version) in current.iter_mut().zip(&thread[1..]) {
                *value = if version == 0 { UNSET } else { version as u16 + 1 };
            }
            self.stack.clear();
            self.stack.push(Frame::Visit { node: thread[0], unsure: false });
            while let Some(frame) = self.stack.pop() {
                let (node, unsure) = match frame {
                    Frame::Visit { node, unsure } => (node, unsure),
                    Frame::Restore { slot, value } => {
                        current[slot as usize] = value;
                        continue;
                    }
                };
                self.work += 1;
                if std::mem::replace(&mut self.visited[node as usize], self.epoch) == self.epoch {
                    continue;
                }
                match nfa.nodes[node as usize] {
                    Node::Fail => {}
                    Node::Bytes { first, end } => {
                        closure.items.push(Item { first, end, unsure });
                        closure.values.extend_from_slice(&current);
                        self.work += self.slots;
                    }
                    Node::Union { first, end } => {
                        let alternates = &nfa.alternates[first as usize..end as usize];
                        self.stack.extend(alternates.iter().rev().map(|&node| Frame::Visit { node, unsure }));
                    }
                    Node::Look { look, next } => match holds(look, before, ahead) {
                        Some(true) => self.stack.push(Frame::Visit { node: next, unsure }),
                        Some(false) => {}
                        // Only what comes of it decides whether the answer matters.
                        None => self.stack.push(Frame::Visit { node: next, unsure: true }),
                    },
                    Node::Save { slot, next } => {
                        let value = std::mem::replace(&mut current[slot as usize], HERE);
                        self.stack.push(Frame::Restore { slot, value });
                        self.stack.push(Frame::Visit { node: next, unsure });
                    }
                    Node::Match { .. } if unsure => {
                        closure.unsure_match = true;
                        if self.order.kind == Kind::Captures {
                            return;
                        }
                    }
                    Node::Match { pattern } => match self.order.kind {
                        Kind::Set => {
                            closure.accept.get_or_insert_default().0.push(pattern);
                        }
                        Kind::Bool => {
                            closure.accept = Some((vec![0], Vec::new()));
                            return;
                        }
                        // Threads of a lower priority are of no use any more.
                        Kind::Captures => {
                            closure.accept = Some((vec![pattern], current));
                            return;
                        }
                    },
                }
            }
        }
    }

    fn transition(
        &mut self,
        closure: &Closure,
        class: usize,
        steps: &[(u32, u32)],
        quits: bool,
    ) -> Result<u32, Refusal> {
        let nfa = self.order.nfa;
        let found = self.order.kind == Kind::Bool && closure.accept.is_some();
        if !found && (quits || closure.unsure_match) {
            return Ok(self.transitions.number(Transition { target: QUIT, assign: vec![], accept: None }));
        }
        let accept = match &closure.accept {
            None => None,
            Some((patterns, values)) => {
                let mut patterns = patterns.clone();
                patterns.sort_unstable();
                let mut slots = Vec::with_capacity(values.len());
                for (slot, &value) in values.iter().enumerate() {
                    slots.push((self.order.wanted[slot] as u16, self.registers.source(slot, value)?));
                }
                Some(Accept { patterns, slots })
            }
        };
        // The state: each node once, for the best thread that reaches it.
        self.epoch += 1;
        self.versions.iter_mut().for_each(Vec::clear);
        self.key.clear();
        self.key.push(0);
        let mut asks = 0;
        for &(node, item) in steps {
            if std::mem::replace(&mut self.visited[node as usize], self.epoch) == self.epoch {
                continue;
            }
            asks |= nfa.asks[node as usize];
            self.key.push(node);
            let live = nfa.live[node as usize];
            let values = &closure.values[item as usize * self.slots..][..self.slots];
            for (slot, &value) in values.iter().enumerate() {
                let value = if live & ((1 as Slots) << slot) == 0 { UNSET } else { value };
                self.key.push(match value {
                    UNSET => 0,
                    value => version(&mut self.versions[slot], value),
                });
            }
        }
        self.work += self.key.len();
        if self.key.len() == 1 {
            return Ok(self.transitions.number(Transition { target: DEAD, assign: vec![], accept }));
        }
        self.key[0] = u32::from(nfa.classes[class].before & asks);
        if self.order.kind != Kind::Captures {
            self.key[1..].sort_unstable();
        } else if self.key.len() / (1 + self.slots) > THREADS_MAX {
            return Err(Refusal::Registers(THREADS_MAX));
        }
        let mut assign = Vec::new();
        for (slot, values) in self.versions.iter().enumerate() {
            for (at, &value) in values.iter().enumerate() {
                let register = self.registers.number(slot, at)?;
                let source = self.registers.source(slot, value)?;
                if let Some(source) = source.filter(|&source| source != Source::Register(register)) {
                    assign.push((register, source));
                }
            }
        }
        let target = self.states.intern(&self.key);
        Ok(self.transitions.number(Transition { target, assign, accept }))
    }
}

/// The version of a value in the state that is being made, from 1.
fn version(values: &mut Vec<u16>, value: u16) -> u32 {
    let at = values.iter().position(|&other| other == value).unwrap_or_else(|| {
        values.push(value);
        values.len() - 1
    });
    at as u32 + 1
}

/// Registers by slot and version.
struct Registers {
    by_version: Vec<Vec<u16>>,
    count: usize,
}

impl Registers {
    /// The register of a version, from 0.
    fn number(&mut self, slot: usize, version: usize) -> Result<u16, Refusal> {
        while self.by_version[slot].len() <= version {
            if self.count == REGISTERS_MAX {
                return Err(Refusal::Registers(REGISTERS_MAX));
            }
            self.by_version[slot].push(self.count as u16);
            self.count += 1;
        }
        Ok(self.by_version[slot][version])
    }

    fn source(&mut self, slot: usize, value: u16) -> Result<Option<Source>, Refusal> {
        Ok(match value {
            UNSET => None,
            HERE => Some(Source::Position),
            value => Some(Source::Register(self.number(slot, usize::from(value) - HERE as usize - 1)?)),
        })
    }
}

/// Transitions, each once.
#[derive(Default)]
pub(super) struct Transitions {
    pub list: Vec<Transition>,
    numbers: HashMap<Transition, u32>,
}

impl Transitions {
    pub fn number(&mut self, transition: Transition) -> u32 {
        if let Some(&number) = self.numbers.get(&transition) {
            return number;
        }
        let number = self.list.len() as u32;
        self.list.push(transition.clone());
        self.numbers.insert(transition, number);
        number
    }
}
