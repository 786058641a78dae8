//! Subjects with wildcards, as permission entries use them.
//!
//! A [`PatternSet`] answers which entries of a permission list match a subject. It is a trie by token, flat in one
//! vector, with sorted children: building allocates, asking does not, and the work of one question is bounded by
//! the number of nodes, whatever the subject is.
//!
//! The subject that is asked about may hold wildcard tokens itself (a SUB usually does, a PUB may). They are taken
//! as plain words: an entry's `*` matches any one of them, an entry's word only the same word.

/// What separates tokens.
const SEPARATOR: u8 = b'.';

/// Whether `subject` has at least one token, no empty token, no white space, and `>` only at the end.
pub(crate) fn is_valid(subject: &[u8]) -> bool {
    let mut closed = false;
    for token in subject.split(|byte| *byte == SEPARATOR) {
        let spaced = token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c));
        if token.is_empty() || closed || spaced {
            return false;
        }
        closed = token == b">";
    }
    true
}

/// Whether any token of `subject` is `*` or `>`.
pub(crate) fn has_wildcard(subject: &[u8]) -> bool {
    subject.split(|byte| *byte == SEPARATOR).any(|token| token == b"*" || token == b">")
}

/// Whether some literal subject matches both `left` and `right`.
pub(crate) fn overlap(left: &[u8], right: &[u8]) -> bool {
    let mut left = left.split(|byte| *byte == SEPARATOR);
    let mut right = right.split(|byte| *byte == SEPARATOR);
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(a), Some(b)) if a == b">" || b == b">" => return true,
            (Some(a), Some(b)) if a != b && a != b"*" && b != b"*" => return false,
            (Some(_), Some(_)) => {}
        }
    }
}

/// Whether every literal that matches `inner` also matches `outer`.
pub(crate) fn covers(outer: &[u8], inner: &[u8]) -> bool {
    let mut outer = outer.split(|byte| *byte == SEPARATOR);
    let mut inner = inner.split(|byte| *byte == SEPARATOR);
    loop {
        match (outer.next(), inner.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) => return true,
            (Some(_), None) | (None, Some(_)) | (Some(_), Some(b">")) => return false,
            (Some(o), Some(i)) if o != i && o != b"*" => return false,
            (Some(_), Some(_)) => {}
        }
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Star {
    /// It does: how lists of permissions are asked.
    AnyToken,
    /// It does not: only a pattern that covers the whole subject counts.
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
        for token in pattern.split(|byte| *byte == SEPARATOR) {
            match token {
                b">" => rest = true,
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
        if !self.is_empty() && !has_empty_token(subject) {
            self.walk(0, Some(subject), &mut |entry| verdict.add(entry, queue), star);
        }
        verdict
    }

    /// Whether an entry without a queue group matches `subject`.
    pub(crate) fn matches(&self, subject: &[u8]) -> bool {
        self.ask(subject, None, Star::AnyToken).plain
    }

    /// Visits what matches the tokens of `subject` from the node `at` on. As deep as the deepest pattern.
    fn walk(&self, at: usize, subject: Option<&[u8]>, visit: &mut impl FnMut(&Entry), star: Star) {
        let Some(node) = self.nodes.get(at) else { return };
        let Some(subject) = subject else {
            node.end.iter().for_each(visit);
            return;
        };
        node.rest.iter().for_each(&mut *visit);
        let (token, rest) = match subject.iter().position(|byte| *byte == SEPARATOR) {
            Some(dot) => (&subject[..dot], Some(&subject[dot + 1..])),
            None => (subject, None),
        };
        if let Some(child) = node.star.filter(|_| star == Star::AnyToken || token != b">") {
            self.walk(child, rest, visit, star);
        }
        if let Ok(found) = node.words.binary_search_by(|(word, _)| (**word).cmp(token)) {
            self.walk(node.words[found].1, rest, visit, star);
        }
    }

    /// The child of `at` for a token, made when there is none.
    fn child(&mut self, at: usize, token: &[u8]) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match token {
            b"*" => *node.star.get_or_insert(new),
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
            self.queue |= entry.queues.iter().any(|known| **known == *queue || covers(known, queue));
        }
    }
}

fn has_empty_token(subject: &[u8]) -> bool {
    subject.split(|byte| *byte == SEPARATOR).any(<[u8]>::is_empty)
}
