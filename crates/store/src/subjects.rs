//! The subjects of live messages, with what each holds.
//!
//! A radix trie over bytes in flat arrays linked by 32-bit numbers: a subject of its own costs a leaf (6 bytes), a
//! value (16), a slot in its parent (5 and some slack) and the part of its name that nobody shares; where names part
//! there is a node (16 bytes). A filter walks down as an automaton over its own bytes, so `a.*.c` enters only what
//! starts with `a.` and a subject is visited once however many patterns name it.
//!
//! Counts are exact. First and last are bounds that may have to be made exact by looking at segments: see [`Value`].

use std::mem::size_of;

use crate::filter::{Filter, Pattern};

/// Names a subject as long as it has messages; given to another subject later.
pub(crate) type SubjectId = u32;

#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    nodes: Vec<Node>,
    nodes_free: Vec<u32>,
    slots: SlotArena,
    labels: Vec<u8>,
    /// Bytes of `labels` that no node refers to.
    labels_dead: usize,
    /// Where labels were placed lately, by hash: subjects end alike (`.temp`), and their nodes may share bytes.
    placed: Vec<u32>,
    values: Vec<Value>,
    /// As long as `values`: where a subject ends that has no longer one below it.
    leaves: Vec<Leaf>,
    values_free: Vec<u32>,
    /// The subject asked for last, as publishers repeat themselves.
    recent: (Vec<u8>, SubjectId),
}

/// What a subject holds, in 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    /// No live message of the subject is above; exact unless marked.
    last: u64,
    /// From the top: two marks, [`BACK_BITS`] for how far `first` lies before `last`, the rest for the count.
    packed: u64,
}

const BACK_BITS: u32 = 26;
const COUNT_BITS: u32 = 62 - BACK_BITS;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// A distance of this or more is not remembered.
const BACK_FAR: u64 = (1 << BACK_BITS) - 1;
const FIRST_LOOSE: u64 = 1 << 63;
const LAST_LOOSE: u64 = 1 << 62;

impl Value {
    /// More messages one subject cannot hold.
    pub(crate) const COUNT_MAX: u64 = COUNT_MASK;

    pub(crate) fn new(count: u64, first: u64, last: u64, first_loose: bool, last_loose: bool) -> Self {
        assert!(count <= COUNT_MASK, "a subject holds at most 2^{COUNT_BITS} messages");
        let back = last.saturating_sub(first).min(BACK_FAR);
        let mut packed = count | back << COUNT_BITS;
        if first_loose || back == BACK_FAR {
            packed |= FIRST_LOOSE;
        }
        if last_loose {
            packed |= LAST_LOOSE;
        }
        Self { last, packed }
    }

    pub(crate) fn count(self) -> u64 {
        self.packed & COUNT_MASK
    }

    /// No live message of the subject is below; 0 if it is not known any better.
    pub(crate) fn first(self) -> u64 {
        match self.packed >> COUNT_BITS & BACK_FAR {
            BACK_FAR => 0,
            back => self.last - back,
        }
    }

    pub(crate) fn last(self) -> u64 {
        self.last
    }

    /// Whether `first` is only a bound.
    pub(crate) fn first_loose(self) -> bool {
        self.packed & FIRST_LOOSE != 0
    }

    /// Whether `last` is only a bound.
    pub(crate) fn last_loose(self) -> bool {
        self.packed & LAST_LOOSE != 0
    }

    /// A message was appended.
    pub(crate) fn appended(self, sequence: u64) -> Self {
        match self.count() {
            0 => Self::new(1, sequence, sequence, false, false),
            count => Self::new(count + 1, self.first(), sequence, self.first_loose(), false),
        }
    }

    /// `count` messages were removed, `low` the smallest and `high` the largest of them.
    pub(crate) fn removed(self, count: u64, low: u64, high: u64) -> Self {
        // Only a checkpoint that lies under a good checksum makes this saturate.
        let left = self.count().saturating_sub(count);
        let last_loose = self.last_loose() || high >= self.last;
        if left == 1 && !last_loose {
            return Self::new(1, self.last, self.last, false, false);
        }
        let gone = low <= self.first() || self.first_loose();
        Self::new(left, self.first(), self.last, gone, last_loose)
    }
}

/// A node's number, or a subject's with [`LEAF`]: its leaf.
type Place = u32;

const LEAF: Place = 1 << 31;

/// The subject of a leaf; `None` for a node.
fn leaf_of(place: Place) -> Option<SubjectId> {
    (place & LEAF != 0).then_some(place & !LEAF)
}

/// Label bytes that lead on from the parent's slot; then the subject ends.
#[derive(Clone, Copy, Debug, Default)]
struct Leaf {
    /// Where the label starts in `labels`, the lower half first: as one number it would cost two bytes of padding.
    label: [u16; 2],
    label_len: u16,
}

impl Leaf {
    fn new(label: u32, label_len: u16) -> Self {
        Self { label: [label as u16, (label >> 16) as u16], label_len }
    }

    fn label(self) -> u32 {
        u32::from(self.label[0]) | u32::from(self.label[1]) << 16
    }
}

/// Label bytes that lead on from the parent's slot, then perhaps a value, then children. But for the root there is a
/// value or more than one child, and always a child.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where the label starts in `labels`.
    label: u32,
    label_len: u16,
    children: u16,
    /// Where the slots start; meaningless without children.
    slots: u32,
    /// [`NONE`] if no subject ends here.
    value: SubjectId,
}

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

impl Subjects {
    pub(crate) fn new() -> Self {
        let root = Node { label: 0, label_len: 0, children: 0, slots: 0, value: NONE };
        Self {
            nodes: vec![root],
            nodes_free: Vec::new(),
            slots: SlotArena::default(),
            labels: Vec::new(),
            labels_dead: 0,
            placed: Vec::new(),
            values: Vec::new(),
            leaves: Vec::new(),
            values_free: Vec::new(),
            recent: (Vec::new(), NONE),
        }
    }

    /// How many subjects there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len() - self.values_free.len()
    }

    pub(crate) fn value(&self, id: SubjectId) -> Value {
        self.values[id as usize]
    }

    pub(crate) fn set(&mut self, id: SubjectId, value: Value) {
        self.values[id as usize] = value;
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<SubjectId> {
        if self.recent.1 != NONE && self.recent.0 == name {
            return Some(self.recent.1);
        }
        let mut at = ROOT;
        let mut rest = name;
        loop {
            rest = rest.strip_prefix(self.label(at))?;
            let Some((key, after)) = rest.split_first() else {
                let value = self.subject_at(at);
                return (value != NONE).then_some(value);
            };
            at = self.child(at, *key)?;
            rest = after;
        }
    }

    /// The id of a subject, which is entered without messages if it is new.
    pub(crate) fn enter(&mut self, name: &[u8]) -> SubjectId {
        if self.recent.1 != NONE && self.recent.0 == name {
            return self.recent.1;
        }
        // What leads to `at`: a leaf changes its place when it becomes a node.
        let mut above = (ROOT, 0);
        let mut at = ROOT;
        let mut rest = name;
        let id = loop {
            let label = self.label(at);
            let (common, label_len) = (common_prefix(label, rest), label.len());
            if common < label_len {
                at = self.split(above, at, common);
            }
            rest = &rest[common..];
            let Some((key, after)) = rest.split_first() else {
                let id = self.subject_at(at);
                break if id == NONE { self.new_value(at) } else { id };
            };
            match self.child(at, *key) {
                Some(child) => (above, at) = ((at, *key), child),
                None => {
                    if leaf_of(at).is_some() {
                        at = self.branch(above, at);
                    }
                    let id = self.new_leaf(after);
                    self.add_child(at, *key, id | LEAF);
                    break id;
                }
            }
            rest = after;
        };
        self.recent.0.clear();
        self.recent.0.extend_from_slice(name);
        self.recent.1 = id;
        id
    }

    /// Forgets a subject that has no messages left.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        self.recent.1 = NONE;
        let mut path: Vec<(u32, u8)> = Vec::new();
        let mut at = ROOT;
        let mut rest = name;
        loop {
            let Some(after) = rest.strip_prefix(self.label(at)) else { return };
            let Some((key, after)) = after.split_first() else { break };
            path.push((at, *key));
            let Some(child) = self.child(at, *key) else { return };
            at = child;
            rest = after;
        }
        let id = self.subject_at(at);
        if id == NONE {
            return;
        }
        self.values[id as usize] = Value::default();
        self.values_free.push(id);
        let above = path.pop();
        if leaf_of(at).is_some() {
            let leaf = std::mem::take(&mut self.leaves[id as usize]);
            self.labels_dead += usize::from(leaf.label_len);
            if let Some((parent, key)) = above {
                self.remove_child(parent, key);
                self.simplify(path.pop(), parent);
            }
        } else {
            self.nodes[at as usize].value = NONE;
            self.simplify(above, at);
        }
        self.tidy_labels();
    }

    /// Visits matching subjects in order of their names until `visit` says no.
    pub(crate) fn walk(&self, filter: &Filter, visit: &mut dyn FnMut(&[u8], SubjectId) -> bool) {
        let mut budget = usize::MAX;
        self.walk_within(filter, &mut budget, visit);
    }

    /// As [`Subjects::walk`], but enters at most `budget` nodes. Returns false if that was not enough.
    pub(crate) fn walk_within(
        &self,
        filter: &Filter,
        budget: &mut usize,
        visit: &mut dyn FnMut(&[u8], SubjectId) -> bool,
    ) -> bool {
        let patterns = filter.patterns();
        // The automata's states of all frames, each frame's from `low` to `high`.
        let mut states: Vec<State> = match patterns {
            None => vec![State::Everything],
            Some(patterns) => (0..patterns.len()).map(|pattern| State::At { pattern, at: 0 }).collect(),
        };
        let patterns = patterns.unwrap_or_default();
        let mut path: Vec<u8> = Vec::new();
        // An explicit stack: a hostile row of subjects makes the trie as deep as a subject is long.
        let mut frames = vec![Frame { node: ROOT, next: 0, low: 0, high: states.len(), path: 0 }];
        while let Some(frame) = frames.last_mut() {
            states.truncate(frame.high);
            path.truncate(frame.path);
            let Some((key, child)) = self.next_child(frame, &states, patterns) else {
                frames.pop();
                continue;
            };
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            let low = states.len();
            for index in frame.low..frame.high {
                states.extend(states[index].step(key, patterns));
            }
            path.push(key);
            path.extend_from_slice(self.label(child));
            for byte in self.label(child) {
                let mut kept = low;
                for index in low..states.len() {
                    if let Some(state) = states[index].step(*byte, patterns) {
                        states[kept] = state;
                        kept += 1;
                    }
                }
                states.truncate(kept);
            }
            let value = self.subject_at(child);
            if value != NONE
                && states[low..].iter().any(|state| state.accepts(patterns))
                && !visit(&path, value)
            {
                return true;
            }
            if states.len() > low && leaf_of(child).is_none() {
                frames.push(Frame { node: child, next: 0, low, high: states.len(), path: path.len() });
            }
        }
        true
    }

    /// Bytes of the arrays.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.values.capacity() * size_of::<Value>()
            + self.leaves.capacity() * size_of::<Leaf>()
            + (self.nodes_free.capacity() + self.values_free.capacity()) * size_of::<u32>()
            + self.labels.capacity()
            + self.placed.capacity() * size_of::<u32>()
            + self.slots.memory_bytes()
    }

    /// The next child worth entering: the only one that a literal byte leads to, or simply the next.
    fn next_child(&self, frame: &mut Frame, states: &[State], patterns: &[Pattern]) -> Option<(u8, u32)> {
        let node = self.nodes[frame.node as usize];
        if frame.next >= node.children {
            return None;
        }
        if let [state] = &states[frame.low..frame.high]
            && let Some(key) = state.only_byte(patterns)
        {
            frame.next = node.children;
            return self.child(frame.node, key).map(|child| (key, child));
        }
        frame.next += 1;
        Some(self.slots.at(node.slots, node.children, frame.next - 1))
    }

    fn label(&self, at: Place) -> &[u8] {
        let (start, length) = match leaf_of(at) {
            Some(id) => {
                let leaf = self.leaves[id as usize];
                (leaf.label() as usize, leaf.label_len)
            }
            None => {
                let node = &self.nodes[at as usize];
                (node.label as usize, node.label_len)
            }
        };
        &self.labels[start..start + usize::from(length)]
    }

    /// The subject that ends here, or [`NONE`].
    fn subject_at(&self, at: Place) -> SubjectId {
        leaf_of(at).unwrap_or_else(|| self.nodes[at as usize].value)
    }

    fn child(&self, at: Place, key: u8) -> Option<Place> {
        if leaf_of(at).is_some() {
            return None;
        }
        let node = &self.nodes[at as usize];
        let index = self.slots.search(node.slots, node.children, key).ok()?;
        Some(self.slots.at(node.slots, node.children, index).1)
    }

    /// Has the slot of an existing child lead elsewhere.
    fn set_child(&mut self, (node, key): (u32, u8), child: Place) {
        let Node { slots, children, .. } = self.nodes[node as usize];
        if let Ok(index) = self.slots.search(slots, children, key) {
            self.slots.set(slots, usize::from(index), (key, child));
        }
    }

    fn add_child(&mut self, node: u32, key: u8, child: Place) {
        let Node { slots, children, .. } = self.nodes[node as usize];
        let slots = self.slots.insert(slots, children, key, child);
        let node = &mut self.nodes[node as usize];
        node.slots = slots;
        node.children += 1;
    }

    fn remove_child(&mut self, node: u32, key: u8) {
        let Node { slots, children, .. } = self.nodes[node as usize];
        let slots = self.slots.remove(slots, children, key);
        let node = &mut self.nodes[node as usize];
        node.slots = slots;
        node.children -= 1;
    }

    /// Cuts a label after `common` bytes; what follows becomes the only child of the node that is returned.
    fn split(&mut self, above: (u32, u8), at: Place, common: usize) -> u32 {
        let key = self.label(at)[common];
        self.labels_dead += 1;
        let (below, skipped) = (common as u16 + 1, common as u32 + 1);
        let empty = Node { label: 0, label_len: common as u16, children: 0, slots: 0, value: NONE };
        let (upper, lower) = match leaf_of(at) {
            Some(id) => {
                let leaf = self.leaves[id as usize];
                self.leaves[id as usize] = Leaf::new(leaf.label() + skipped, leaf.label_len - below);
                let upper = self.place_node(Node { label: leaf.label(), ..empty });
                self.set_child(above, upper);
                (upper, at)
            }
            None => {
                let node = self.nodes[at as usize];
                let lower = Node { label: node.label + skipped, label_len: node.label_len - below, ..node };
                let lower = self.place_node(lower);
                self.nodes[at as usize] = Node { label: node.label, ..empty };
                (at, lower)
            }
        };
        self.add_child(upper, key, lower);
        upper
    }

    /// Makes a leaf a node, which may have children.
    fn branch(&mut self, above: (u32, u8), at: Place) -> u32 {
        let Some(id) = leaf_of(at) else { return at };
        let leaf = std::mem::take(&mut self.leaves[id as usize]);
        let (label, label_len) = (leaf.label(), leaf.label_len);
        let node = self.place_node(Node { label, label_len, children: 0, slots: 0, value: id });
        self.set_child(above, node);
        node
    }

    /// Makes a node that has lost a child or its value what it may be: a leaf if it has no children, part of its only
    /// child if it has no value. `above` leads to it; `None` for the root.
    fn simplify(&mut self, above: Option<(u32, u8)>, at: u32) {
        let Some(above) = above else { return };
        let node = self.nodes[at as usize];
        match (node.children, node.value) {
            (0, id) if id != NONE => {
                self.leaves[id as usize] = Leaf::new(node.label, node.label_len);
                self.set_child(above, id | LEAF);
                self.free_node(at);
            }
            (1, NONE) => self.join(above, at),
            _ => {}
        }
    }

    /// Joins a node that has neither value nor choice with its only child.
    fn join(&mut self, above: (u32, u8), at: u32) {
        let upper = self.nodes[at as usize];
        let (key, child) = self.slots.at(upper.slots, upper.children, 0);
        let label = [self.label(at), &[key], self.label(child)].concat();
        self.slots.free(upper.slots, upper.children);
        self.labels_dead += label.len() - 1;
        let (place, length) = (self.place_label(&label), label.len() as u16);
        match leaf_of(child) {
            Some(id) => {
                self.leaves[id as usize] = Leaf::new(place, length);
                self.set_child(above, child);
                self.free_node(at);
            }
            None => {
                let lower = self.nodes[child as usize];
                self.nodes[at as usize] = Node { label: place, label_len: length, ..lower };
                self.free_node(child);
            }
        }
    }

    fn place_node(&mut self, node: Node) -> u32 {
        if let Some(free) = self.nodes_free.pop() {
            self.nodes[free as usize] = node;
            return free;
        }
        assert!(self.nodes.len() < LEAF as usize, "a stream's subjects part at fewer than 2^31 places");
        push_tight(&mut self.nodes, node);
        self.nodes.len() as u32 - 1
    }

    fn free_node(&mut self, at: u32) {
        self.nodes[at as usize] = Node { label: 0, label_len: 0, children: 0, slots: 0, value: NONE };
        self.nodes_free.push(at);
    }

    fn new_leaf(&mut self, label: &[u8]) -> SubjectId {
        let id = self.new_id();
        self.leaves[id as usize] = Leaf::new(self.place_label(label), label.len() as u16);
        id
    }

    fn new_value(&mut self, node: u32) -> SubjectId {
        let id = self.new_id();
        self.nodes[node as usize].value = id;
        id
    }

    fn new_id(&mut self) -> SubjectId {
        if let Some(free) = self.values_free.pop() {
            return free;
        }
        assert!(self.values.len() < LEAF as usize, "a stream has fewer than 2^31 subjects");
        push_tight(&mut self.values, Value::default());
        push_tight(&mut self.leaves, Leaf::default());
        self.values.len() as u32 - 1
    }

    fn place_label(&mut self, label: &[u8]) -> u32 {
        if label.is_empty() {
            return 0;
        }
        if self.placed.is_empty() {
            self.placed = vec![0; PLACED];
        }
        let hint = xxhash_rust::xxh3::xxh3_64(label) as usize % PLACED;
        let before = self.placed[hint];
        if self.labels.get(before as usize..).is_some_and(|labels| labels.starts_with(label)) {
            return before;
        }
        self.placed[hint] = self.labels.len() as u32;
        let start = self.labels.len();
        assert!(start + label.len() < NONE as usize, "names of one stream's subjects stay below 4 GiB");
        if self.labels.capacity() - start < label.len() {
            self.labels.reserve_exact(label.len() + start / GROWTH + 256);
        }
        self.labels.extend_from_slice(label);
        start as u32
    }

    /// Writes the labels anew when it looks as if most of their bytes belong to nobody. Shared bytes count more than
    /// once, so the number of labels keeps this from happening too often.
    fn tidy_labels(&mut self) {
        if self.labels_dead < (64 << 10) + self.labels.len() / 2 + self.nodes.len() + self.leaves.len() {
            return;
        }
        let old = std::mem::take(&mut self.labels);
        for at in 0..self.nodes.len() {
            let Node { label, label_len, .. } = self.nodes[at];
            let label = &old[label as usize..label as usize + usize::from(label_len)];
            self.nodes[at].label = self.place_label(label);
        }
        for id in 0..self.leaves.len() {
            let leaf = self.leaves[id];
            let start = leaf.label() as usize;
            let label = self.place_label(&old[start..start + usize::from(leaf.label_len)]);
            self.leaves[id] = Leaf::new(label, leaf.label_len);
        }
        self.labels_dead = 0;
    }
}

/// Where a walk stands in one node.
struct Frame {
    node: u32,
    /// The next child.
    next: u16,
    low: usize,
    high: usize,
    /// Length of the name up to here.
    path: usize,
}

/// How far a pattern has been matched by the bytes of a name so far.
#[derive(Clone, Copy)]
enum State {
    /// Whatever follows matches.
    Everything,
    /// `at` bytes of the pattern; a `*` there is still matching its token.
    At { pattern: usize, at: usize },
}

impl State {
    fn step(self, byte: u8, patterns: &[Pattern]) -> Option<Self> {
        let Self::At { pattern, at } = self else { return Some(self) };
        let text = &*patterns[pattern].text;
        if is_token(text, at, b'>') {
            Some(Self::Everything)
        } else if is_token(text, at, b'*') {
            match byte {
                b'.' => (at + 1 < text.len()).then_some(Self::At { pattern, at: at + 2 }),
                _ => Some(self),
            }
        } else {
            (text.get(at) == Some(&byte)).then_some(Self::At { pattern, at: at + 1 })
        }
    }

    /// Whether a name that ends here matches.
    fn accepts(self, patterns: &[Pattern]) -> bool {
        let Self::At { pattern, at } = self else { return true };
        let text = &*patterns[pattern].text;
        at == text.len() || is_token(text, at, b'>') || (is_token(text, at, b'*') && at + 1 == text.len())
    }

    /// The only byte that can follow.
    fn only_byte(self, patterns: &[Pattern]) -> Option<u8> {
        let Self::At { pattern, at } = self else { return None };
        let text = &*patterns[pattern].text;
        let wild = is_token(text, at, b'>') || is_token(text, at, b'*');
        if wild { None } else { text.get(at).copied() }
    }
}

/// Whether a token that is only this byte starts at `at`.
fn is_token(text: &[u8], at: usize, byte: u8) -> bool {
    text.get(at) == Some(&byte)
        && (at == 0 || text[at - 1] == b'.')
        && (at + 1 == text.len() || text[at + 1] == b'.')
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Entries of `placed`. More of them find more labels to share.
const PLACED: usize = 1024;

/// Large arrays grow by an eighth: doubling would leave up to half of a million subjects' memory unused.
const GROWTH: usize = 8;

fn push_tight<T>(vec: &mut Vec<T>, item: T) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(vec.len() / GROWTH + 64);
    }
    vec.push(item);
}

/// Rows of `(byte, child)`, sorted by byte. A row of capacity `c` (one of [`CAPACITIES`]) lies in one array as
/// `c / 4` words of bytes, the last first, then `c` words of children. It is known by where the children start, so
/// that looking something up needs no capacity; that follows from how many there are.
#[derive(Clone, Debug, Default)]
struct SlotArena {
    words: Vec<u32>,
    /// Free rows by their capacity's place in [`CAPACITIES`].
    free: [Vec<u32>; CAPACITIES.len()],
}

impl SlotArena {
    fn at(&self, slots: u32, count: u16, index: u16) -> (u8, u32) {
        debug_assert!(index < count);
        let (slots, index) = (slots as usize, usize::from(index));
        (self.key(slots, index), self.words[slots + index])
    }

    fn key(&self, slots: usize, index: usize) -> u8 {
        (self.words[slots - 1 - index / 4] >> (index % 4 * 8)) as u8
    }

    fn set(&mut self, slots: u32, index: usize, (key, child): (u8, u32)) {
        let slots = slots as usize;
        let keys = &mut self.words[slots - 1 - index / 4];
        let shift = index % 4 * 8;
        *keys = *keys & !(0xff << shift) | u32::from(key) << shift;
        self.words[slots + index] = child;
    }

    fn search(&self, slots: u32, count: u16, key: u8) -> Result<u16, u16> {
        let slots = slots as usize;
        let (mut low, mut high) = (0, usize::from(count));
        while low < high {
            let middle = low.midpoint(high);
            match self.key(slots, middle).cmp(&key) {
                std::cmp::Ordering::Equal => return Ok(middle as u16),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low as u16)
    }

    /// Returns where the row lies afterwards.
    fn insert(&mut self, slots: u32, count: u16, key: u8, child: u32) -> u32 {
        let index = match count {
            0 => 0,
            _ => self.search(slots, count, key).unwrap_or_else(|index| index),
        };
        let new_capacity = capacity(count + 1);
        let target =
            if count > 0 && new_capacity == capacity(count) { slots } else { self.allocate(new_capacity) };
        for at in (index..count).rev() {
            let slot = self.at(slots, count, at);
            self.set(target, usize::from(at) + 1, slot);
        }
        if target != slots && count > 0 {
            for at in 0..index {
                let slot = self.at(slots, count, at);
                self.set(target, usize::from(at), slot);
            }
            self.free(slots, count);
        }
        self.set(target, usize::from(index), (key, child));
        target
    }

    /// Returns where the row lies afterwards.
    fn remove(&mut self, slots: u32, count: u16, key: u8) -> u32 {
        let Ok(index) = self.search(slots, count, key) else { return slots };
        if count == 1 {
            self.free(slots, 1);
            return 0;
        }
        let new_capacity = capacity(count - 1);
        let target = if new_capacity == capacity(count) { slots } else { self.allocate(new_capacity) };
        for at in 0..count - 1 {
            let slot = self.at(slots, count, if at < index { at } else { at + 1 });
            self.set(target, usize::from(at), slot);
        }
        if target != slots {
            self.free(slots, count);
        }
        target
    }

    fn allocate(&mut self, capacity: usize) -> u32 {
        if let Some(slots) = self.free[class(capacity)].pop() {
            return slots;
        }
        let start = self.words.len();
        let words = key_words(capacity) + capacity;
        if self.words.capacity() - start < words {
            self.words.reserve_exact(words + start / GROWTH + 64);
        }
        self.words.resize(start + words, 0);
        (start + key_words(capacity)) as u32
    }

    fn free(&mut self, slots: u32, count: u16) {
        self.free[class(usize::from(count))].push(slots);
    }

    fn memory_bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        (self.words.capacity() + free) * size_of::<u32>()
    }
}

/// How many slots rows have. A step of half between powers of two, since ten children are the most common: digits.
const CAPACITIES: [usize; 14] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// How many slots a row of so many children has.
fn capacity(count: u16) -> usize {
    CAPACITIES[class(usize::from(count))]
}

/// The place in [`CAPACITIES`] of the least that is enough for `count`, of which there is at least one.
fn class(count: usize) -> usize {
    let below = count.saturating_sub(1);
    match below.checked_ilog2() {
        None => 0,
        Some(log @ 0..3) => log as usize + 1,
        // The highest bit says between which powers of two it is, the next one in which half.
        Some(log) => 2 * log as usize - 2 + (below >> (log - 1) & 1),
    }
}

fn key_words(capacity: usize) -> usize {
    capacity.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            proptest::sample::select(vec!["a", "b", "ab", "abc", "b-", "*", "x1", "x2", "x3"]),
            1..4,
        )
        .prop_map(|tokens| tokens.join(".").into_bytes())
    }

    fn filters() -> impl Strategy<Value = Vec<String>> {
        let token = proptest::sample::select(vec!["a", "b", "ab", "*", "*", "x1"]);
        let one = (proptest::collection::vec(token, 1..4), any::<bool>())
            .prop_map(|(tokens, tail)| tokens.join(".") + if tail { ".>" } else { "" });
        proptest::collection::vec(one, 0..4)
    }

    proptest! {
        #[test]
        fn like_a_sorted_map(
            steps in proptest::collection::vec((names(), any::<bool>()), 1..200),
            filter in filters(),
        ) {
            let mut subjects = Subjects::new();
            let mut model: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            for (number, (name, enter)) in steps.into_iter().enumerate() {
                if enter {
                    let id = subjects.enter(&name);
                    subjects.set(id, Value::new(1, number as u64, number as u64, false, false));
                    model.insert(name, number as u64);
                } else {
                    subjects.forget(&name);
                    model.remove(&name);
                }
            }
            prop_assert_eq!(subjects.len(), model.len());
            check_shape(&subjects);
            for (name, number) in &model {
                let found = subjects.find(name).map(|id| subjects.value(id).last());
                prop_assert_eq!(found, Some(*number));
            }
            let filter = Filter::new(&filter);
            let expected: Vec<_> = model.into_iter().filter(|(name, _)| filter.matches(name)).collect();
            let mut found = Vec::new();
            subjects.walk(&filter, &mut |name, id| {
                found.push((name.to_vec(), subjects.value(id).last()));
                true
            });
            prop_assert_eq!(found, expected);
        }
    }

    /// No node is there for nothing, and what is in use and what is free make up all.
    fn check_shape(subjects: &Subjects) {
        let (mut nodes, mut ids, mut slots) = (0, 0, 0);
        let mut places = vec![ROOT];
        while let Some(place) = places.pop() {
            ids += usize::from(subjects.subject_at(place) != NONE);
            if leaf_of(place).is_some() {
                continue;
            }
            nodes += 1;
            let node = subjects.nodes[place as usize];
            let needed = node.children > 1 || node.children == 1 && node.value != NONE;
            assert!(place == ROOT || needed, "{node:?}");
            if node.children > 0 {
                slots += key_words(capacity(node.children)) + capacity(node.children);
            }
            places.extend((0..node.children).map(|at| subjects.slots.at(node.slots, node.children, at).1));
        }
        for (rows, capacity) in subjects.slots.free.iter().zip(CAPACITIES) {
            slots += rows.len() * (key_words(capacity) + capacity);
        }
        assert_eq!(ids, subjects.len());
        assert_eq!(subjects.leaves.len(), subjects.values.len());
        assert_eq!(nodes + subjects.nodes_free.len(), subjects.nodes.len());
        assert_eq!(slots, subjects.slots.words.len());
    }

    #[test]
    fn a_row_has_the_least_capacity_that_is_enough() {
        for count in 1..=256u16 {
            let least = CAPACITIES.into_iter().find(|capacity| *capacity >= usize::from(count));
            assert_eq!(Some(capacity(count)), least, "{count} children");
        }
    }

    /// The target for a million subjects is 60 MiB in all; what is not theirs is some 12 of them.
    #[test]
    fn a_subject_costs_less_than_forty_bytes() {
        let mut subjects = Subjects::new();
        for device in 0..100_000 {
            subjects.enter(format!("device.{device}.state").as_bytes());
        }
        let each = subjects.memory_bytes() / subjects.len();
        assert!(each < 40, "{each} bytes");
    }

    #[test]
    fn every_byte_may_follow() {
        let mut subjects = Subjects::new();
        for byte in 1..=255u8 {
            subjects.enter(&[b'a', byte]);
        }
        assert_eq!(subjects.len(), 255);
        for byte in 1..=255u8 {
            assert!(subjects.find(&[b'a', byte]).is_some());
            subjects.forget(&[b'a', byte]);
            check_shape(&subjects);
        }
        assert_eq!(subjects.len(), 0);
    }

    #[test]
    fn values_keep_what_is_known() {
        let value = Value::default().appended(5).appended(9).appended(12);
        assert_eq!((value.count(), value.first(), value.last(), value.first_loose()), (3, 5, 12, false));
        let value = value.removed(1, 5, 5);
        assert_eq!((value.count(), value.first(), value.first_loose()), (2, 5, true));
        let value = value.removed(1, 9, 9);
        assert_eq!((value.count(), value.first(), value.first_loose()), (1, 12, false));
        let far = Value::default().appended(1).appended(1 << 40);
        assert!(far.first() <= 1 && far.first_loose());
    }
}
