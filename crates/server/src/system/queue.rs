//! A bounded queue between the threads that serve clients and one that answers.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// What waits at most. Whoever comes later is turned away and counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// See the module.
pub(super) struct Queue<T> {
    room: Room,
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    bytes: usize,
    turned_away: usize,
    is_over: bool,
}

/// What became of waiting.
pub(super) enum Taken<T> {
    /// All that waited, and how many were turned away before.
    Items(VecDeque<T>, usize),
    /// The time has come.
    Time,
    /// The queue is over.
    Over,
}

impl<T> Queue<T> {
    pub(super) fn new(room: Room) -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, turned_away: 0, is_over: false };
        Self { room, state: Mutex::new(state), ready: Condvar::new() }
    }

    /// Adds what holds so many bytes beyond itself. Never waits.
    pub(super) fn push(&self, item: T, bytes: usize) {
        let mut state = self.state.lock();
        if state.is_over {
            return;
        }
        if state.waiting.len() >= self.room.items || state.bytes.saturating_add(bytes) > self.room.bytes {
            state.turned_away += 1;
            return;
        }
        state.bytes += bytes;
        state.waiting.push_back(item);
        drop(state);
        self.ready.notify_one();
    }

    /// Waits for something to do, until `deadline` at most.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Taken<T> {
        let mut state = self.state.lock();
        loop {
            if state.is_over {
                return Taken::Over;
            }
            if !state.waiting.is_empty() {
                state.bytes = 0;
                let turned_away = std::mem::take(&mut state.turned_away);
                return Taken::Items(std::mem::take(&mut state.waiting), turned_away);
            }
            match deadline {
                None => self.ready.wait(&mut state),
                Some(deadline) if self.ready.wait_until(&mut state, deadline).timed_out() => {
                    return Taken::Time;
                }
                Some(_) => {}
            }
        }
    }

    /// What waits now.
    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Forgets what waits and takes no more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        state.waiting.clear();
        drop(state);
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_turned_away_and_counted() {
        let queue = Queue::new(Room { items: 3, bytes: 10 });
        for (item, bytes) in [(1, 6), (2, 6), (3, 4), (4, 0), (5, 0)] {
            queue.push(item, bytes);
        }
        assert_eq!(queue.len(), 3);
        let Taken::Items(items, turned_away) = queue.take(None) else { panic!("there are some") };
        assert_eq!((items, turned_away), (VecDeque::from([1, 3, 4]), 2));
        queue.push(6, 10);
        let Taken::Items(items, turned_away) = queue.take(None) else { panic!("there is one") };
        assert_eq!((items, turned_away), (VecDeque::from([6]), 0));
        assert!(matches!(queue.take(Some(Instant::now())), Taken::Time));
        queue.push(7, 0);
        queue.end();
        assert!(matches!(queue.take(None), Taken::Over));
        assert_eq!(queue.len(), 0);
    }
}
