//! Finds all spellings of all secrets in one pass (Aho and Corasick).
//!
//! The automaton is driven by hand, for two things that the library's own searches don't tell: where a match ends whose
//! text is cut into pieces or lines, and how much of the text's end might be the beginning of a match.

use std::collections::{BTreeSet, HashMap};

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::spelling::{is_break, spellings};

/// A shorter needle isn't looked for across lines: columns of numbers would be full of it.
const WRAPPED: usize = 16;

/// What is looked for.
pub(super) struct Needles {
    automaton: Option<NFA>,
    /// See [`measure`].
    depths: HashMap<StateID, usize>,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Needles(…)")
    }
}

/// A search under way, in a text that is looked at from a place which moves on.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// None at the beginning.
    state: Option<StateID>,
    /// Where the line that is being read begins; None when that was before the text at hand.
    line: Option<usize>,
}

impl Place {
    /// The first `count` bytes of the text are gone.
    pub(super) fn forget(&mut self, count: usize) {
        self.line = self.line.and_then(|line| line.checked_sub(count));
    }
}

impl Needles {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Needles {
        let needles = secrets.flat_map(spellings).collect::<BTreeSet<_>>();
        let mut builder = NFA::builder();
        builder.match_kind(MatchKind::Standard).prefilter(false);
        // More needles than an automaton has states for can't be told from other text: then all of it is hidden.
        let everything = || (0..=u8::MAX).map(|byte| [byte]).collect::<Vec<_>>();
        let automaton = Some(&needles)
            .filter(|needles| !needles.is_empty())
            .and_then(|some| builder.build(some).or_else(|_| builder.build(everything())).ok());
        let depths = automaton.as_ref().map(|automaton| measure(automaton, &needles)).unwrap_or_default();
        Needles { automaton, depths }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.automaton.is_none()
    }

    /// Reads `text` from `from` on, where `place` is, and adds what it finds: ranges in order, apart from each other.
    pub(super) fn find(&self, text: &[u8], from: usize, place: &mut Place, found: &mut Vec<(usize, usize)>) {
        if let Some(automaton) = &self.automaton {
            scan(automaton, text, from, place, found);
        }
    }

    /// Where in `text`, all of which was read, something begins that might yet become a match.
    pub(super) fn pending(&self, text: &[u8], place: &Place) -> usize {
        let depth = place.state.and_then(|state| self.depths.get(&state)).copied().unwrap_or(0);
        let start = back(text, text.len(), depth);
        // A line's end is shown as soon as it is there, unless a good deal of a secret is in it.
        match text[start..].iter().rposition(|&byte| byte == b'\n') {
            Some(last) if depth < WRAPPED => start + last + 1,
            _ => start,
        }
    }
}

fn start(automaton: &NFA) -> StateID {
    automaton.start_state(Anchored::No).unwrap_or_default()
}

/// How much of the text's end is the beginning of a needle that isn't whole yet, by state.
///
/// A needle's own beginnings lead through states of their own, one for each. At its end that state is done with, unless
/// a longer needle goes on; then what counts is the state that the needle without its first byte leads to.
fn measure(automaton: &NFA, needles: &BTreeSet<Vec<u8>>) -> HashMap<StateID, usize> {
    let step = |state, byte: &u8| automaton.next_state(Anchored::No, state, *byte);
    let mut depths = HashMap::new();
    let mut ends = Vec::with_capacity(needles.len());
    for needle in needles {
        let mut state = start(automaton);
        for (at, byte) in needle.iter().enumerate() {
            state = step(state, byte);
            if at + 1 < needle.len() {
                depths.insert(state, at + 1);
            }
        }
        ends.push((needle, state));
    }
    // The shorter needle's is known when the longer one asks for it.
    ends.sort_by_key(|(needle, _)| needle.len());
    for (needle, end) in ends {
        let without_first = needle.iter().skip(1).fold(start(automaton), step);
        let depth = depths.get(&without_first).copied().unwrap_or(0);
        depths.entry(end).or_insert(depth);
    }
    depths
}

fn scan(automaton: &NFA, text: &[u8], from: usize, place: &mut Place, found: &mut Vec<(usize, usize)>) {
    let mut state = place.state.unwrap_or_else(|| start(automaton));
    for (at, &byte) in text.iter().enumerate().skip(from) {
        if is_break(byte) {
            place.line = Some(at + 1);
            continue;
        }
        state = automaton.next_state(Anchored::No, state, byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            let lengths = (0..automaton.match_len(state))
                .map(|index| automaton.pattern_len(automaton.match_pattern(state, index)));
            let end = at + 1;
            if let Some(start) = lengths.filter_map(|length| beginning(text, end, length, place.line)).min() {
                add(found, start, end);
            }
        }
    }
    place.state = Some(state);
}

/// Where the match of `length` bytes that ends at `end` begins; None for one that doesn't count since it spans lines.
fn beginning(text: &[u8], end: usize, length: usize, line: Option<usize>) -> Option<usize> {
    let in_line = end - line.unwrap_or(0);
    if length <= in_line {
        return Some(end - length);
    }
    (length >= WRAPPED).then(|| back(text, end, length))
}

/// The place `count` bytes before `end`, breaks not counted, or the beginning.
fn back(text: &[u8], end: usize, count: usize) -> usize {
    let (mut start, mut missing) = (end, count);
    while missing > 0 && start > 0 {
        start -= 1;
        if !is_break(text[start]) {
            missing -= 1;
        }
    }
    start
}

/// Matches come by their ends; what overlaps becomes one.
fn add(found: &mut Vec<(usize, usize)>, mut start: usize, end: usize) {
    while let Some(&(before, until)) = found.last()
        && until > start
    {
        start = start.min(before);
        found.pop();
    }
    found.push((start, end));
}
