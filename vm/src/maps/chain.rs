//! A doubly linked list of small numbers, for orders that change in constant time: insertion, recency.
//!
//! It knows neither keys nor values; each number is in the list at most once.

/// No neighbour.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

#[derive(Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    first: u32,
    last: u32,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { links: Vec::new(), first: NONE, last: NONE }
    }
}

impl Chain {
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    /// The number in front of `slot`, which is in the list.
    pub(super) fn before(&self, slot: u32) -> Option<u32> {
        self.links.get(slot as usize).map(|link| link.before).filter(|&before| before != NONE)
    }

    /// The number behind `slot`, which is in the list.
    pub(super) fn after(&self, slot: u32) -> Option<u32> {
        self.links.get(slot as usize).map(|link| link.after).filter(|&after| after != NONE)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(), |&slot| self.after(slot))
    }

    /// Appends `slot`, which is not in the list.
    pub(super) fn push(&mut self, slot: u32) {
        self.link(slot, Link { before: self.last, after: NONE });
    }

    /// Takes `slot`, which is in the list, out of it.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(&Link { before, after }) = self.links.get(slot as usize) else { return };
        self.set_after(before, after);
        self.set_before(after, before);
    }

    /// Moves `slot`, which is in the list, to its end.
    pub(super) fn move_to_end(&mut self, slot: u32) {
        if self.last != slot {
            self.remove(slot);
            self.push(slot);
        }
    }

    /// Puts `new`, which is not in the list, in the place of `old`, which is.
    pub(super) fn replace(&mut self, old: u32, new: u32) {
        let Some(&Link { before, after }) = self.links.get(old as usize) else { return };
        self.link(new, Link { before, after });
    }

    pub(super) fn clear(&mut self) {
        self.links.clear();
        (self.first, self.last) = (NONE, NONE);
    }

    /// Stores the neighbours of `slot`, and `slot` with its neighbours.
    fn link(&mut self, slot: u32, link: Link) {
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { before: NONE, after: NONE });
        }
        self.links[index] = link;
        self.set_after(link.before, slot);
        self.set_before(link.after, slot);
    }

    fn set_after(&mut self, slot: u32, after: u32) {
        match self.links.get_mut(slot as usize) {
            Some(link) => link.after = after,
            None => self.first = after,
        }
    }

    fn set_before(&mut self, slot: u32, before: u32) {
        match self.links.get_mut(slot as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(chain: &Chain) -> Vec<u32> {
        chain.iter().collect()
    }

    #[test]
    fn order_is_kept() {
        let mut chain = Chain::default();
        for slot in [3, 0, 2, 5] {
            chain.push(slot);
        }
        assert_eq!(list(&chain), [3, 0, 2, 5]);
        chain.replace(0, 7);
        chain.replace(3, 1);
        chain.replace(5, 4);
        assert_eq!(list(&chain), [1, 7, 2, 4]);
        chain.move_to_end(1);
        chain.move_to_end(2);
        chain.move_to_end(2);
        assert_eq!(list(&chain), [7, 4, 1, 2]);
        for slot in [4, 7, 2, 1] {
            chain.remove(slot);
        }
        assert_eq!((list(&chain), chain.first()), (vec![], None));
        chain.push(9);
        chain.replace(9, 8);
        assert_eq!(list(&chain), [8]);
        chain.clear();
        assert_eq!(list(&chain), []);
    }
}
