//! Walks over the elements of a map that may change under them: `bpf_for_each_map_elem`.
//!
//! A walk visits, in the order of the list, the elements that were there when it began and still are when their turn
//! comes, each once. An element that is replaced keeps its turn.

use super::chain::Chain;

/// The first and the last element that a walk has not visited.
type Rest = Option<(u32, u32)>;

/// Walks in progress, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Walks(Vec<Rest>);

impl Walks {
    pub(super) fn begin(&mut self, order: &Chain) {
        self.0.push(order.first().zip(order.last()));
    }

    pub(super) fn end(&mut self) {
        self.0.pop();
    }

    /// The next element of the innermost walk.
    pub(super) fn next(&mut self, order: &Chain) -> Option<u32> {
        let rest = self.0.last_mut()?;
        let (next, last) = (*rest)?;
        *rest = if next == last { None } else { order.after(next).map(|after| (after, last)) };
        Some(next)
    }

    /// `slot` is about to leave the list.
    #[inline]
    pub(super) fn leaving(&mut self, order: &Chain, slot: u32) {
        for rest in &mut self.0 {
            *rest = match *rest {
                Some((next, last)) if next == slot && last == slot => None,
                Some((next, last)) if next == slot => order.after(slot).map(|after| (after, last)),
                Some((next, last)) if last == slot => order.before(slot).map(|before| (next, before)),
                rest => rest,
            };
        }
    }

    /// `new` has taken the place of `old` in the list.
    #[inline]
    pub(super) fn replaced(&mut self, old: u32, new: u32) {
        let renamed = |slot| if slot == old { new } else { slot };
        for rest in &mut self.0 {
            *rest = rest.map(|(next, last)| (renamed(next), renamed(last)));
        }
    }

    /// The list is empty now.
    pub(super) fn clear(&mut self) {
        self.0.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(slots: std::ops::Range<u32>) -> Chain {
        let mut chain = Chain::default();
        slots.for_each(|slot| chain.push(slot));
        chain
    }

    /// The elements that a walk visits, with `change` made after each.
    fn visited(order: &mut Chain, mut change: impl FnMut(&mut Chain, &mut Walks, u32)) -> Vec<u32> {
        let mut walks = Walks::default();
        walks.begin(order);
        let mut visited = Vec::new();
        while let Some(slot) = walks.next(order) {
            visited.push(slot);
            change(order, &mut walks, slot);
        }
        visited
    }

    fn remove(order: &mut Chain, walks: &mut Walks, slot: u32) {
        walks.leaving(order, slot);
        order.remove(slot);
    }

    #[test]
    fn all_elements_once() {
        assert_eq!(visited(&mut chain(0..4), |_, _, _| {}), [0, 1, 2, 3]);
        assert_eq!(visited(&mut chain(0..0), |_, _, _| {}), []);
    }

    #[test]
    fn elements_that_leave_are_left_out() {
        assert_eq!(visited(&mut chain(0..4), remove), [0, 1, 2, 3]);
        let all = |order: &mut Chain, walks: &mut Walks, slot| (slot..4).for_each(|slot| remove(order, walks, slot));
        assert_eq!(visited(&mut chain(0..4), all), [0]);
        let last = |order: &mut Chain, walks: &mut Walks, slot| {
            if slot == 0 {
                remove(order, walks, 3);
            }
        };
        assert_eq!(visited(&mut chain(0..4), last), [0, 1, 2]);
        let next = |order: &mut Chain, walks: &mut Walks, slot: u32| {
            if slot.is_multiple_of(2) {
                remove(order, walks, slot + 1);
            }
        };
        assert_eq!(visited(&mut chain(0..4), next), [0, 2]);
    }

    #[test]
    fn elements_that_come_are_not_visited() {
        assert_eq!(visited(&mut chain(0..3), |order, _, slot| order.push(slot + 10)), [0, 1, 2]);
        let moved = |order: &mut Chain, walks: &mut Walks, slot: u32| {
            remove(order, walks, slot);
            order.push(slot);
        };
        assert_eq!(visited(&mut chain(0..3), moved), [0, 1, 2]);
    }

    #[test]
    fn elements_that_are_replaced_keep_their_turn() {
        let replace = |order: &mut Chain, walks: &mut Walks, slot: u32| {
            if slot == 0 {
                for old in 1..3 {
                    order.replace(old, old + 10);
                    walks.replaced(old, old + 10);
                }
            }
        };
        assert_eq!(visited(&mut chain(0..3), replace), [0, 11, 12]);
    }
}
