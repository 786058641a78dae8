//! Which consumers have a filter that matches a subject, without asking each.
//!
//! Filters are found by their text. One without wildcards is the subject itself; for those with wildcards the subject is
//! written as each *shape* among them would have it (`a.b.c` as `a.*.c`, as `a.>`) and looked up. Filters are thousands,
//! shapes a few.

use std::collections::BTreeMap;

use sonata_subject::{ANY_TAIL, ANY_TOKEN, has_wildcard, tokens};

use crate::map::HashMap;

/// See the module. Nothing is ever done in the order of its tables.
#[derive(Default)]
pub(super) struct FilterIndex {
    /// Numbers of consumers by the text of a filter, ascending, never empty.
    takers: HashMap<Box<[u8]>, Vec<u64>>,
    /// How many of the texts have which shape; those without wildcards are not counted.
    shapes: BTreeMap<Shape, usize>,
}

/// Where wildcards stand in a filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    /// Tokens, without the `>`.
    tokens: usize,
    /// Which of them are `*`, ascending.
    any: Box<[usize]>,
    /// Whether it ends with `>`.
    is_open: bool,
}

impl FilterIndex {
    pub(super) fn insert(&mut self, filters: &[String], id: u64) {
        for filter in filters {
            let takers = self.takers.entry(filter.as_bytes().into()).or_insert_with(|| {
                if has_wildcard(filter.as_bytes()) {
                    *self.shapes.entry(Shape::of(filter.as_bytes())).or_default() += 1;
                }
                Vec::with_capacity(1)
            });
            if let Err(at) = takers.binary_search(&id) {
                takers.insert(at, id);
            }
        }
    }

    pub(super) fn remove(&mut self, filters: &[String], id: u64) {
        for filter in filters {
            let Some(takers) = self.takers.get_mut(filter.as_bytes()) else { continue };
            if let Ok(at) = takers.binary_search(&id) {
                takers.remove(at);
            }
            if !takers.is_empty() {
                continue;
            }
            self.takers.remove(filter.as_bytes());
            let shape = Shape::of(filter.as_bytes());
            if let Some(filters) = self.shapes.get_mut(&shape) {
                *filters -= 1;
                if *filters == 0 {
                    self.shapes.remove(&shape);
                }
            }
        }
    }

    /// Puts those with a filter that matches the subject into `found`, each once, ascending.
    pub(super) fn find(&self, subject: &[u8], found: &mut Vec<u64>) {
        found.clear();
        if self.takers.is_empty() {
            return;
        }
        found.extend(self.takers.get(subject).into_iter().flatten());
        let mut filter = Vec::new();
        let mut is_sorted = true;
        for shape in self.shapes.keys() {
            if shape.write(subject, &mut filter)
                && let Some(takers) = self.takers.get(&*filter)
            {
                is_sorted = found.is_empty();
                found.extend(takers);
            }
        }
        if !is_sorted {
            found.sort_unstable();
            found.dedup();
        }
    }
}

impl Shape {
    fn of(filter: &[u8]) -> Self {
        let is_open = tokens(filter).last() == Some(ANY_TAIL);
        let any = tokens(filter).enumerate().filter(|(_, token)| *token == ANY_TOKEN);
        let any = any.map(|(at, _)| at).collect();
        Self { tokens: tokens(filter).count() - usize::from(is_open), any, is_open }
    }

    /// Writes the filter of this shape that matches a subject; false when there is none.
    fn write(&self, subject: &[u8], filter: &mut Vec<u8>) -> bool {
        filter.clear();
        let mut rest = tokens(subject);
        let mut any = self.any.iter().copied().peekable();
        for at in 0..self.tokens {
            let Some(token) = rest.next() else { return false };
            let is_any = any.next_if_eq(&at).is_some();
            filter.extend_from_slice(if is_any { ANY_TOKEN } else { token });
            filter.push(b'.');
        }
        match rest.next() {
            Some(_) if self.is_open => filter.extend_from_slice(ANY_TAIL),
            None if !self.is_open => drop(filter.pop()),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(words), 1..4).prop_map(|words| words.join("."))
    }

    fn filter() -> impl Strategy<Value = String> {
        let tail = prop::sample::select(&["", ".>"][..]);
        prop_oneof![
            8 => (words(&["a", "b", "*", "a*"]), tail).prop_map(|(words, tail)| words + tail),
            1 => Just(">".to_owned()),
        ]
    }

    proptest! {
        /// Consumers come, change and go, and those are found whose filters match.
        #[test]
        fn whose_filters_match_is_found(
            changes in prop::collection::vec((0..6_u64, prop::collection::vec(filter(), 0..4)), 1..20),
            subjects in prop::collection::vec(words(&["a", "b", "c", "a*"]), 1..20),
        ) {
            let mut index = FilterIndex::default();
            let mut naive: BTreeMap<u64, Vec<String>> = BTreeMap::new();
            for (id, filters) in changes {
                if let Some(before) = naive.remove(&id) {
                    index.remove(&before, id);
                }
                index.insert(&filters, id);
                naive.insert(id, filters);
                for subject in &subjects {
                    let mut found = Vec::new();
                    index.find(subject.as_bytes(), &mut found);
                    let matches =
                        |filter: &String| sonata_subject::matches(filter.as_bytes(), subject.as_bytes());
                    let expected = naive.iter().filter(|(_, filters)| filters.iter().any(matches));
                    let expected: Vec<u64> = expected.map(|(id, _)| *id).collect();
                    prop_assert_eq!(&found, &expected, "{}", subject);
                }
            }
            naive.iter().for_each(|(id, filters)| index.remove(filters, *id));
            prop_assert!(index.takers.is_empty() && index.shapes.is_empty(), "something stays behind");
        }
    }
}
