//! The regexes of a section: an automaton and its machine code for each, a search of the whole batch before the
//! automaton where that pays, and one automaton for all patterns that a route tries on the same text.

use std::collections::{HashMap, HashSet};

use flow_plan::ir::{Expr, ExtractGroup, Route, Stmt};
use flow_plan::native::Section;
use flow_plan::settings::RegexSetting;
use regex_syntax::hir::{Hir, HirKind};

use crate::automaton::{Automaton, ByteSet, Kind, Options, parse};
use crate::code::{CodeBuilder, FuncId};
use crate::kernels::Prefilter;
use crate::matcher::{self, Loops, define_matcher};

/// States of one automaton; a regex with more is left to the reference.
const STATES_MAX: usize = 2_000;

/// Patterns that one automaton tries at once; further ones have their own.
const SET_PATTERNS_MAX: usize = 32;

/// States of an automaton for many patterns: beyond it, one for each pattern is smaller.
const SET_STATES_MAX: usize = 600;

/// Patterns that one search looks for; their bits stand in a word.
const JOINT_PATTERNS_MAX: usize = 64;

/// Regexes of one section; further ones are left to the reference.
const REGEXES_MAX: usize = 256;

/// What a regex is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Whether it matches.
    Match,
    /// Where these groups are.
    Groups(Vec<String>),
}

impl Use {
    /// What an extraction wants.
    pub fn of(groups: &[ExtractGroup]) -> Use {
        Use::Groups(groups.iter().map(|group| group.group.clone()).collect())
    }
}

/// A regex with machine code.
#[derive(Clone, Debug)]
pub struct Known {
    /// None when the rows that a search of the batch marks are those that match, wherever the regex is used.
    pub matcher: Option<FuncId>,
    /// For the body of the events: the number of the search that marks the rows worth a look.
    pub prefilter: Option<usize>,
    /// The rows marked are those that match.
    pub exact: bool,
    pub groups: Vec<Group>,
    /// Two for each group.
    pub slots: usize,
    /// Its bit among the patterns that one search looks for in all bodies, see [`Regexes::joint`].
    pub joint_bit: Option<usize>,
}

/// A named group.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub number: usize,
    /// It takes part in every match.
    pub always: bool,
}

/// Patterns that are tried on one text.
pub struct Set {
    pub subject: Expr,
    pub patterns: Vec<RegexSetting>,
    pub matcher: FuncId,
}

/// The regexes of a section.
#[derive(Default)]
pub struct Regexes {
    /// With whether the search is of bodies as they came.
    known: HashMap<(RegexSetting, Use, bool), Result<Known, String>>,
    /// No step changes bodies.
    bodies_stay: bool,
    /// Regexes that are tried on other texts than bodies.
    elsewhere: HashSet<RegexSetting>,
    /// Bytes that searches of bodies want marked for the whole batch.
    pub classes: Vec<ByteSet>,
    pub prefilters: Vec<Prefilter>,
    pub sets: Vec<Set>,
    /// For the patterns that a route tries on the body: which rows each of them may match, found in one search.
    pub joint: Option<Prefilter>,
}

impl Regexes {
    /// Compiles all regexes of a section.
    pub fn compile(section: &Section<'_>, code: &mut CodeBuilder) -> Regexes {
        let bodies_stay = !section.steps.iter().any(|step| super::sets_body(&step.code.body));
        let mut regexes = Regexes { bodies_stay, ..Regexes::default() };
        let mut found = Found::default();
        for step in &section.steps {
            found.statements(&step.code.body);
        }
        // Without one of these the section is not compiled: nothing else needs to be, either.
        let (extractions, others) =
            found.uses.into_iter().partition(|one| matches!(one.wanted, Use::Groups(_)));
        found.uses = others;
        for one in extractions {
            if !regexes.compile_one(one, &[], code) {
                return regexes;
            }
        }
        for function in section.functions.user() {
            found.statements(&function.body);
        }
        let mut joint = Vec::new();
        if let Some(route) = section.route {
            joint = joint_patterns(route);
            regexes.compile_sets(route, &joint, code);
            let first = found.uses.len();
            found.exprs(&route.subject);
            found.uses.extend(found_in_route(route));
            let sets = &regexes.sets;
            let in_set = |index: &mut usize, one: &FoundUse| {
                *index += 1;
                *index > first
                    && sets.iter().any(|set| set.subject == one.subject && set.patterns.contains(&one.regex))
            };
            let mut index = 0;
            found.uses.retain(|one| !in_set(&mut index, one));
        }
        let elsewhere = found.uses.iter().filter(|one| one.subject != Expr::Body);
        regexes.elsewhere = elsewhere.map(|one| one.regex.clone()).collect();
        for one in found.uses {
            regexes.compile_one(one, &joint, code);
        }
        regexes.join(joint);
        regexes
    }

    /// One search for all these patterns, which have been compiled.
    fn join(&mut self, patterns: Vec<RegexSetting>) {
        let all: Vec<&RegexSetting> = patterns.iter().collect();
        let Some(prefilter) = Prefilter::joint(&all) else { return };
        for (bit, pattern) in patterns.iter().enumerate() {
            if let Some(Ok(known)) = self.known.get_mut(&(pattern.clone(), Use::Match, false)) {
                known.joint_bit = Some(bit);
                known.exact = prefilter.is_exact_for(bit);
            }
        }
        self.joint = Some(prefilter);
    }

    /// What a regex of the section became, or why it is left to the reference.
    pub fn find(&self, regex: &RegexSetting, wanted: &Use, subject: &Expr) -> Result<&Known, &str> {
        match self.known.get(&(regex.clone(), wanted.clone(), self.uses_marks(wanted, subject))) {
            Some(Ok(known)) => Ok(known),
            Some(Err(why)) => Err(why),
            None => Err("it was not found"),
        }
    }

    /// Whether a search goes by bytes that are marked for the whole batch: it has to be of bodies as they came, and
    /// long enough to gain from it.
    fn uses_marks(&self, wanted: &Use, subject: &Expr) -> bool {
        self.bodies_stay && *subject == Expr::Body && matches!(wanted, Use::Groups(_))
    }

    /// The set that a pattern of the route is in, and its bit.
    pub fn set_of(&self, subject: &Expr, regex: &RegexSetting) -> Option<(usize, usize)> {
        let sets = self.sets.iter().enumerate().filter(|(_, set)| set.subject == *subject);
        sets.filter_map(|(number, set)| Some((number, set.patterns.iter().position(|known| known == regex)?)))
            .next()
    }

    /// Whether the regexes of all extractions in some statements have an automaton: nothing of an extraction is left
    /// without it.
    pub fn check_extractions(&self, statements: &[Stmt]) -> Result<(), String> {
        for statement in statements {
            match statement {
                Stmt::Extract { subject, regex, groups, .. } => {
                    self.find(regex, &Use::of(groups), subject)
                        .map_err(|why| format!("`/{}/`: {why}", regex.pattern))?;
                }
                Stmt::If { then, otherwise, .. } => {
                    self.check_extractions(then)?;
                    self.check_extractions(otherwise)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// False: it is left to the reference.
    fn compile_one(&mut self, one: FoundUse, joint: &[RegexSetting], code: &mut CodeBuilder) -> bool {
        let on_body = one.subject == Expr::Body && one.wanted == Use::Match;
        let marks = self.uses_marks(&one.wanted, &one.subject);
        let place = (one.regex, one.wanted, marks);
        if !self.known.contains_key(&place) {
            let number = self.known.len();
            let known = if on_body && self.only_marked(&place.0) {
                Ok(Known {
                    matcher: None,
                    prefilter: None,
                    exact: true,
                    groups: Vec::new(),
                    slots: 0,
                    joint_bit: None,
                })
            } else if number >= REGEXES_MAX {
                Err(format!("there are more than {REGEXES_MAX} regexes"))
            } else {
                compile_regex(&place.0, &place.1, number, code, marks.then_some(&mut self.classes))
            };
            self.known.insert(place.clone(), known);
        }
        if let Some(Ok(known)) = self.known.get_mut(&place)
            && on_body
            && known.prefilter.is_none()
            && !joint.contains(&place.0)
            && let Some(prefilter) = Prefilter::new(&[&place.0])
        {
            known.exact = prefilter.is_exact();
            known.prefilter = Some(self.prefilters.len());
            self.prefilters.push(prefilter);
        }
        matches!(self.known.get(&place), Some(Ok(_)))
    }

    /// Whether a search of the batch says all there is to say about a regex: it is nothing but literals, and is only
    /// ever tried on bodies as they came.
    fn only_marked(&self, regex: &RegexSetting) -> bool {
        self.bodies_stay
            && !self.elsewhere.contains(regex)
            && Prefilter::new(&[regex]).is_some_and(|prefilter| prefilter.is_exact())
    }

    /// Conditions of a route that match the same text against several patterns.
    fn compile_sets(&mut self, route: &Route, joint: &[RegexSetting], code: &mut CodeBuilder) {
        let mut groups: Vec<(Expr, Vec<RegexSetting>)> = Vec::new();
        for one in found_in_route(route) {
            let subject @ (Expr::Body | Expr::Header(_) | Expr::Local(0)) = one.subject else { continue };
            if subject == Expr::Body && joint.contains(&one.regex) {
                continue;
            }
            match groups.iter_mut().find(|(known, _)| *known == subject) {
                Some((_, patterns)) if patterns.contains(&one.regex) => {}
                Some((_, patterns)) => patterns.push(one.regex),
                None => groups.push((subject, vec![one.regex])),
            }
        }
        for (subject, patterns) in groups {
            if patterns.len() < 2 || patterns.len() > SET_PATTERNS_MAX {
                continue;
            }
            let all: Vec<&RegexSetting> = patterns.iter().collect();
            let options = Options { states_max: SET_STATES_MAX, wanted: Vec::new(), quit_beyond_ascii: true };
            let Ok(automaton) = Automaton::new(&all, Kind::Set, &options) else { continue };
            let name = format!("set{}", self.sets.len());
            let options = matcher::Options::default();
            if let Ok(matcher) = define_matcher(code, &name, &automaton, &options, &mut Vec::new()) {
                self.sets.push(Set { subject, patterns, matcher });
            }
        }
    }
}

/// The regexes in the conditions of a route. Its subject is the local 0; where that is the body, they say so.
fn found_in_route(route: &Route) -> Vec<FoundUse> {
    let mut found = Found::default();
    found.exprs(route.arms.iter().filter_map(|arm| arm.when.as_ref()));
    if route.subject == Some(Expr::Body) {
        for one in found.uses.iter_mut().filter(|one| one.subject == Expr::Local(0)) {
            one.subject = Expr::Body;
        }
    }
    found.uses
}

/// The patterns that a route tries on the body and that are found by what their matches contain; none when there is
/// only one.
fn joint_patterns(route: &Route) -> Vec<RegexSetting> {
    let mut patterns: Vec<RegexSetting> = Vec::new();
    for one in found_in_route(route) {
        let on_body = one.subject == Expr::Body && !patterns.contains(&one.regex);
        if on_body && patterns.len() < JOINT_PATTERNS_MAX && Prefilter::new(&[&one.regex]).is_some() {
            patterns.push(one.regex);
        }
    }
    let all: Vec<&RegexSetting> = patterns.iter().collect();
    if patterns.len() > 1 && Prefilter::joint(&all).is_some() { patterns } else { Vec::new() }
}

fn compile_regex(
    regex: &RegexSetting,
    wanted: &Use,
    number: usize,
    code: &mut CodeBuilder,
    classes: Option<&mut Vec<ByteSet>>,
) -> Result<Known, String> {
    let (groups, count) = groups_of(regex)?;
    let (kind, slots) = match wanted {
        Use::Match => (Kind::Bool, Vec::new()),
        Use::Groups(names) => {
            let mut slots = vec![false; count * 2];
            for group in groups.iter().filter(|group| names.contains(&group.name)) {
                slots[group.number * 2] = true;
                slots[group.number * 2 + 1] = true;
            }
            (Kind::Captures, slots)
        }
    };
    let options = Options { states_max: STATES_MAX, wanted: slots, quit_beyond_ascii: true };
    let automaton = Automaton::new(&[regex], kind, &options).map_err(|refusal| refusal.to_string())?;
    let name = format!("regex{number}");
    let loops = if classes.is_some() { Loops::Bitmaps } else { Loops::default() };
    let options = matcher::Options { loops, ..matcher::Options::default() };
    let matcher = define_matcher(code, &name, &automaton, &options, classes.unwrap_or(&mut Vec::new()))
        .map_err(|error| error.to_string())?;
    Ok(Known {
        matcher: Some(matcher),
        prefilter: None,
        exact: false,
        groups,
        slots: count * 2,
        joint_bit: None,
    })
}

/// The named groups of a regex, and how many it has with those without a name and the whole match.
fn groups_of(regex: &RegexSetting) -> Result<(Vec<Group>, usize), String> {
    let hir = parse(regex).map_err(|refusal| refusal.to_string())?;
    let mut groups = Vec::new();
    let mut highest = 0;
    let mut waiting: Vec<(&Hir, bool)> = vec![(&hir, true)];
    while let Some((hir, always)) = waiting.pop() {
        match hir.kind() {
            HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
            HirKind::Repetition(repetition) => waiting.push((&repetition.sub, always && repetition.min > 0)),
            HirKind::Capture(capture) => {
                highest = highest.max(capture.index as usize);
                if let Some(name) = &capture.name {
                    groups.push(Group { name: name.to_string(), number: capture.index as usize, always });
                }
                waiting.push((&capture.sub, always));
            }
            HirKind::Concat(parts) => waiting.extend(parts.iter().map(|part| (part, always))),
            HirKind::Alternation(parts) => waiting.extend(parts.iter().map(|part| (part, false))),
        }
    }
    Ok((groups, highest + 1))
}

struct FoundUse {
    subject: Expr,
    regex: RegexSetting,
    wanted: Use,
}

/// Regexes in statements and expressions, in their order.
#[derive(Default)]
struct Found {
    uses: Vec<FoundUse>,
}

impl Found {
    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        for expr in exprs {
            flow_plan::eval::visit(expr, &mut |expr| {
                let (value, regex) = match expr {
                    Expr::Matches { value, regex } => (value, regex),
                    Expr::MatchesDynamic { value, regex, .. } => match &**regex {
                        Expr::Const(flow_plan::ir::Const::Regex(regex)) => (value, regex),
                        _ => return,
                    },
                    _ => return,
                };
                self.uses.push(FoundUse {
                    subject: (**value).clone(),
                    regex: regex.clone(),
                    wanted: Use::Match,
                });
            });
        }
    }

    fn statements(&mut self, statements: &[Stmt]) {
        for statement in statements {
            match statement {
                Stmt::Set { value, .. }
                | Stmt::SetHeader { value, .. }
                | Stmt::SetBody { value }
                | Stmt::SetTime { value }
                | Stmt::Expr { value } => self.exprs([value]),
                Stmt::Return { value } => self.exprs(value),
                Stmt::If { condition, then, otherwise } => {
                    self.exprs([condition]);
                    self.statements(then);
                    self.statements(otherwise);
                }
                Stmt::Extract { subject, regex, groups, .. } => {
                    self.exprs([subject]);
                    self.exprs(groups.iter().filter_map(|group| group.convert.as_ref()));
                    self.uses.push(FoundUse {
                        subject: subject.clone(),
                        regex: regex.clone(),
                        wanted: Use::of(groups),
                    });
                }
                // Run by the reference.
                Stmt::For { .. }
                | Stmt::SetPath { .. }
                | Stmt::RemoveHeader { .. }
                | Stmt::RemoveHeaders { .. }
                | Stmt::Drop
                | Stmt::Pass
                | Stmt::Fail { .. }
                | Stmt::Emit { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flow_plan::function::Functions;
    use flow_plan::ir::{Code, ExtractGroup, OnMiss};
    use flow_plan::native::SectionStep;
    use flow_plan::{Slot, plan::OriginId};

    use super::*;
    use crate::code::Settings;

    #[test]
    fn nothing_is_compiled_behind_an_extraction_that_cannot_be() {
        // A section was compiled whole, codes and all, each time that one of its steps had to leave it: the work grew
        // with the square of the steps that had to.
        let step = |pattern: &str| {
            let group = ExtractGroup { group: "g".into(), slot: Slot(0), convert: None, value_local: 0 };
            let extract = Stmt::Extract {
                subject: Expr::Body,
                regex: RegexSetting { pattern: pattern.into(), flags: String::new() },
                groups: vec![group],
                on_miss: OnMiss::Pass,
                origin: OriginId(0),
            };
            SectionStep { name: "step", code: Code { locals: 1, body: vec![extract] } }
        };
        let patterns = ["(?P<g>a)", "(?P<g>[ab]*a[ab]{40})", "(?P<g>b)", "(?P<g>c)"];
        let functions = Functions::new();
        let section = Section { steps: patterns.map(step).into(), route: None, functions: &functions };
        let mut code = CodeBuilder::new(&Settings::default()).unwrap();
        let regexes = Regexes::compile(&section, &mut code);
        assert_eq!(regexes.known.len(), 2);
        assert!(regexes.check_extractions(&section.steps[0].code.body).is_ok());
        assert!(regexes.check_extractions(&section.steps[1].code.body).is_err());
    }
}
