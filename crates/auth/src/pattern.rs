//! Subjects with wildcards, as permission entries use them.
//!
//! A [`PatternSet`] answers which entries of a permission list match a subject. It is a trie by token, flat in one
//! vector, with sorted children: building allocates, asking does not, and the work of one question is bounded by
//! the number of nodes, whatever the subject is.
//!
//! The subject that is asked about may hold wildcard tokens itself (a SUB usually does, a PUB may). They are taken
//! as plain words: an entry's `*` matches any one of them, an entry's word only the same word.

use sonata_subject::{ANY_TAIL, ANY_TOKEN, Tokens, classify, is_subset, tokens};

/// Whether `subject` may stand in a list of permissions: a valid subject, and no form feed in it.
///
/// The form feed is where lists are stricter than [`classify`]: nats-server takes it for white space in a configured
/// subject, but not in that of a SUB.
pub(crate) fn is_entry(subject: &[u8]) -> bool {
    const FORM_FEED: u8 = 0x0c;
    classify(subject).is_ok() && !subject.contains(&FORM_FEED)
}

/// What one pattern of a set says: for everyone, for some queue groups, or both.
#[derive(Debug, Default, Clone)]
struct Entry {
    /// The pattern stands in the list without a queue group.
    plain: bool,
    /// The queue groups it stands in the list with; each may hold wildcards.
    queues: Vec<Box<[u8]>>,
}

/// Whether an entry's `*` stands for a `>` of the subject that is asked about.
///
/// The set answers both because lists of permissions ask both of a SUB: nats-server accepts by the first, which names
/// more than the entry does, and what may be delivered is decided by the second. See
/// [`Permissions::can_subscribe`](crate::permission::Permissions::can_subscribe).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Star {
    /// It does: how lists of permissions are asked. An entry answers as [`sonata_subject::matches`] does.
    AnyToken,
    /// It does not: only a pattern that covers the whole subject counts, as [`is_subset`] has it.
    OneToken,
}

/// What all matching entries of a set say together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// An entry without a queue group matched.
    pub(crate) plain: bool,
    /// An entry with a queue group matched the subject, whatever its group.
    pub(crate) queued: bool,
    /// An entry with a queue group matched the subject and the group that was asked about.
    pub(crate) queue: bool,
}

/// A list of patterns, each with an optional queue group, ready to be asked.
#[derive(Debug, Default, Clone)]
pub(crate) struct PatternSet {
    /// The first node is the root; empty when the set is.
    nodes: Vec<Node>,
}

#[derive(Debug, Default, Clone)]
struct Node {
    /// Children by literal token, sorted by token.
    words: Vec<(Box<[u8]>, usize)>,
    /// The child for `*`.
    star: Option<usize>,
    /// What ends here with `>`: it matches one or more further tokens.
    rest: Option<Entry>,
    /// What ends here.
    end: Option<Entry>,
}

impl PatternSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a valid pattern, for one queue group or for all uses.
    pub(crate) fn insert(&mut self, pattern: &[u8], queue: Option<&[u8]>) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        let mut rest = false;
        for token in tokens(pattern) {
            match token {
                ANY_TAIL => rest = true,
                token => at = self.child(at, token),
            }
        }
        let Some(node) = self.nodes.get_mut(at) else { return };
        let entry = if rest { &mut node.rest } else { &mut node.end };
        let entry = entry.get_or_insert_default();
        match queue {
            None => entry.plain = true,
            Some(queue) if entry.queues.iter().any(|known| **known == *queue) => {}
            Some(queue) => entry.queues.push(queue.into()),
        }
    }

    /// Asks about `subject`, and about `queue` when there is one.
    ///
    /// A subject with an empty token matches nothing.
    pub(crate) fn ask(&self, subject: &[u8], queue: Option<&[u8]>, star: Star) -> Verdict {
        let mut verdict = Verdict::default();
        if !self.is_empty() && !tokens(subject).any(<[u8]>::is_empty) {
            self.walk(0, tokens(subject), &mut |entry| verdict.add(entry, queue), star);
        }
        verdict
    }

    /// Whether an entry without a queue group matches `subject`.
    pub(crate) fn matches(&self, subject: &[u8]) -> bool {
        self.ask(subject, None, Star::AnyToken).plain
    }

    /// Visits what matches the tokens of a subject that are left at the node `at`. As deep as the deepest pattern.
    fn walk(&self, at: usize, mut left: Tokens<'_>, visit: &mut impl FnMut(&Entry), star: Star) {
        let Some(node) = self.nodes.get(at) else { return };
        let Some(token) = left.next() else {
            node.end.iter().for_each(visit);
            return;
        };
        node.rest.iter().for_each(&mut *visit);
        if let Some(child) = node.star.filter(|_| star == Star::AnyToken || token != ANY_TAIL) {
            self.walk(child, left.clone(), visit, star);
        }
        if let Ok(found) = node.words.binary_search_by(|(word, _)| (**word).cmp(token)) {
            self.walk(node.words[found].1, left, visit, star);
        }
    }

    /// The child of `at` for a token, made when there is none.
    fn child(&mut self, at: usize, token: &[u8]) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match token {
            ANY_TOKEN => *node.star.get_or_insert(new),
            word => match node.words.binary_search_by(|(known, _)| (**known).cmp(word)) {
                Ok(found) => node.words[found].1,
                Err(place) => {
                    node.words.insert(place, (word.into(), new));
                    new
                }
            },
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }
}

impl Verdict {
    fn add(&mut self, entry: &Entry, queue: Option<&[u8]>) {
        self.plain |= entry.plain;
        self.queued |= !entry.queues.is_empty();
        if let Some(queue) = queue {
            // A group's name may itself look like a pattern, so equality comes first.
            self.queue |= entry.queues.iter().any(|known| **known == *queue || is_subset(queue, known));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sonata_subject::matches;

    use super::*;

    fn subject() -> impl Strategy<Value = String> {
        let tokens = prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*")], 0..4);
        (tokens, any::<bool>()).prop_filter_map("not empty", |(mut tokens, tail)| {
            tokens.extend(tail.then_some(">"));
            (!tokens.is_empty()).then(|| tokens.join("."))
        })
    }

    #[test]
    fn an_entry_holds_no_white_space() {
        for (text, valid) in
            [("a.b", true), ("a.>", true), ("a b", false), ("a\x0cb", false), ("a.>.b", false)]
        {
            assert_eq!(is_entry(text.as_bytes()), valid, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_set_answers_as_its_entries_one_by_one(
            entries in prop::collection::vec(subject(), 0..6),
            asked in subject(),
        ) {
            let mut set = PatternSet::default();
            entries.iter().for_each(|entry| set.insert(entry.as_bytes(), None));
            let asked = asked.as_bytes();
            let any = |relation: &dyn Fn(&[u8]) -> bool| entries.iter().any(|entry| relation(entry.as_bytes()));
            let any_token = any(&|entry| matches(entry, asked));
            let one_token = any(&|entry| is_subset(asked, entry));
            prop_assert_eq!(set.ask(asked, None, Star::AnyToken).plain, any_token);
            prop_assert_eq!(set.ask(asked, None, Star::OneToken).plain, one_token);
        }
    }
}
