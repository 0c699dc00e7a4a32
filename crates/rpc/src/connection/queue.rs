//! A queue that costs nothing while it is empty.

use std::collections::VecDeque;

/// First in, first out. The first item has its place in the queue itself, since most queues never hold a second; the
/// memory for further ones is given back as soon as they are gone. Whoever pushes keeps the bound.
#[derive(Debug)]
pub(super) struct Queue<T> {
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let first = self.first.take()?;
        self.first = pop_and_shrink(&mut self.rest);
        Some(first)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.rest.capacity()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

/// Takes the first item, and gives the memory back with the last one.
pub(super) fn pop_and_shrink<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let item = queue.pop_front();
    if queue.is_empty() && queue.capacity() > 0 {
        *queue = VecDeque::new();
    }
    item
}
