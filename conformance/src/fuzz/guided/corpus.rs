//! [`Corpus`]: the inputs that took an edge which none before them took, or took it more often.

use std::sync::Arc;

use super::coverage::Taken;
use super::input::Input;
use crate::rng::Rng;

/// An input that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) input: Input,
    taken: Vec<Taken>,
    /// Of two that take the same edge, the cheaper one is tried more often.
    cost: u64,
}

impl Entry {
    pub(super) fn new(input: Input, taken: Vec<Taken>, instructions: u64) -> Entry {
        let cost = instructions.saturating_add(4 * input.size() as u64);
        Entry { input, taken, cost }
    }
}

/// Inputs, and what they reach.
#[derive(Debug, Clone)]
pub(super) struct Corpus {
    entries: Vec<Arc<Entry>>,
    /// By edge: how often entries have taken it, as classes.
    reached: Vec<u8>,
    /// By edge: the cheapest entry that takes it.
    best: Vec<Option<Arc<Entry>>>,
    /// Edges that entries take.
    edges: Vec<u32>,
}

impl Corpus {
    pub(super) fn new(edges: usize) -> Corpus {
        Corpus { entries: Vec::new(), reached: vec![0; edges], best: vec![None; edges], edges: Vec::new() }
    }

    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Whether a run took an edge that no entry takes, or more often, or less.
    pub(super) fn is_news(&self, mut taken: impl Iterator<Item = Taken>) -> bool {
        taken.any(|(edge, class)| self.reached.get(edge as usize).is_some_and(|reached| reached & class == 0))
    }

    pub(super) fn add(&mut self, entry: &Arc<Entry>) {
        for &(edge, class) in &entry.taken {
            let (Some(reached), Some(best)) = (self.reached.get_mut(edge as usize), self.best.get_mut(edge as usize))
            else {
                continue;
            };
            *reached |= class;
            match best {
                None => self.edges.push(edge),
                Some(best) if best.cost <= entry.cost => continue,
                Some(_) => {}
            }
            *best = Some(entry.clone());
        }
        self.entries.push(entry.clone());
    }

    /// An entry to go on from: mostly the cheapest one to take some edge, at times one of the latest, or any.
    pub(super) fn pick(&self, rng: &mut Rng) -> Option<&Arc<Entry>> {
        let (len, choice) = (self.entries.len(), rng.below(8));
        let latest = len.saturating_sub(8);
        match choice {
            0..5 => self.best.get(*self.edges.get(rng.below(self.edges.len()))? as usize)?.as_ref(),
            5 | 6 => self.entries.get(latest + rng.below(len - latest)),
            _ => self.entries.get(rng.below(len)),
        }
    }
}
