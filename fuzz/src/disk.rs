//! What must hold for any bytes that come back from the disk: files of a journal and of a stream, and the state that a
//! checkpoint carries.
//!
//! Raw bytes would not get past the first checksum. So an input is a list of edits that are made to files which were written
//! properly, and its first byte says whether the checksums are made good again afterwards. Without that, all that is served
//! is what was written, and what is missing is named; with it, nothing panics and memory stays bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use sonata_disk::lying::Lying;
use sonata_disk::seal::{Cipher, Key, Keys, Sealing};
use sonata_jetstream::account::Usage;
use sonata_jetstream::outgoing::Uniform;
use sonata_jetstream::stream::{Commit, Header, Machine, Parts};
use sonata_journal::{Batch, Committed, Damage, Journal, Position};
use sonata_store::{Error, Filter, Finished, Message, NewMessage, Store};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Edits of one input.
const EDITS_MAX: usize = 8;

/// What an input has not said yet; zeros when it has said everything.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Makes the edits of an input to those of `names`.
fn edit(input: &mut Input<'_>, disk: &Lying, names: &[String]) {
    for _ in 0..EDITS_MAX {
        if input.0.is_empty() {
            return;
        }
        let (kind, name) = (input.byte(), &names[usize::from(input.byte()) % names.len()]);
        let at = input.number();
        let there = disk.files().contains(name);
        match kind % 6 {
            _ if !there => {}
            0 => {
                let mask = input.byte();
                disk.rot(name, |bytes| bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= mask));
            }
            1 => {
                let length = usize::from(input.byte() % 40);
                let new = input.bytes(length);
                disk.rot(name, |bytes| {
                    bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
                });
            }
            2 => {
                let (start, length) = (input.number(), input.number());
                let source = &names[usize::from(input.byte()) % names.len()];
                if disk.files().contains(source) {
                    let piece: Vec<u8> = disk.read(source).into_iter().skip(start).take(length).collect();
                    disk.rot(name, |bytes| {
                        bytes.iter_mut().skip(at).zip(piece).for_each(|(byte, new)| *byte = new);
                    });
                }
            }
            3 => disk.rot(name, |bytes| bytes.truncate(at)),
            4 => {
                // As if something in the middle had never been written.
                let length = input.number();
                disk.rot(name, |bytes| {
                    drop(bytes.drain(at.min(bytes.len())..(at + length).min(bytes.len())))
                });
            }
            _ => disk.lose(name),
        }
    }
}

/// A checksum of eight bytes: where it stands, what it covers, and its seed.
#[derive(Clone, Copy, Debug)]
struct Sum {
    at: usize,
    start: usize,
    end: usize,
    seed: Seed,
}

#[derive(Clone, Copy, Debug)]
enum Seed {
    Fixed(u64),
    /// Of a message: the sequence in it belongs to the seed.
    Message,
}

impl Sum {
    /// The usual one stands behind what it covers.
    fn behind(start: usize, end: usize, seed: u64) -> Self {
        Self { at: end, start, end, seed: Seed::Fixed(seed) }
    }

    fn mend(self, bytes: &mut [u8]) {
        let Some(covered) = bytes.get(self.start..self.end) else { return };
        let seed = match self.seed {
            Seed::Fixed(seed) => seed,
            Seed::Message => STREAM ^ u64_at(covered, 16).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let sum = xxh3_64_with_seed(covered, seed).to_le_bytes();
        bytes.iter_mut().skip(self.at).zip(sum).for_each(|(byte, sum)| *byte = sum);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

// The journal.

/// A journal of several files and two runs, and what was committed.
struct WrittenJournal {
    disk: Lying,
    records: BTreeMap<u64, (u64, Vec<u8>)>,
}

const LOG: &str = "journal";

/// The lane that has released something: its records may be gone.
const RELEASED: u64 = 0;

/// What is appended after the damage.
const NEW: &[u8] = b"on it goes";

fn journal_options(seed: u64) -> sonata_journal::Options {
    sonata_journal::Options {
        file_bytes: 16 << 10,
        bytes_max: 1 << 20,
        buffer_bytes_max: 1 << 20,
        ..sonata_journal::Options::new(seed)
    }
}

/// Notes what is committed.
#[derive(Default)]
struct Notes(std::sync::Mutex<BTreeMap<u64, (u64, Vec<u8>)>>);

impl Committed for Notes {
    fn committed(&self, batch: Batch<'_>) {
        let mut notes = self.0.lock().expect("nobody panics with it");
        notes.extend(batch.records().map(|record| (record.position.0, (record.lane, record.body.to_vec()))));
    }

    fn failed(&self, error: &sonata_journal::Error) {
        panic!("{error}");
    }

    fn resumed(&self, _first: Position) {}
}

fn written_journal() -> &'static WrittenJournal {
    static WRITTEN: OnceLock<WrittenJournal> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let (disk, notes) = (Lying::new(1), Arc::new(Notes::default()));
        for seed in 0..2 {
            let opened = Journal::open(disk.disk(), LOG, journal_options(seed), &mut |_| ());
            let (journal, mut writer, _) = opened.expect("nothing fails");
            for number in 0..120_u64 {
                let body = vec![number as u8; (number * 37 % 200) as usize];
                let position = journal.append(number % 3, &[&body]).expect("there is room");
                if number % 5 == 4 {
                    writer.run_until_idle(notes.clone());
                }
                if number == 60 {
                    journal.release(RELEASED, position);
                }
            }
            writer.run_until_idle(notes.clone());
        }
        let records = notes.0.lock().expect("nobody panics with it").clone();
        WrittenJournal { disk, records }
    })
}

/// The checksums of a journal's file: header, heads of batches, records.
fn journal_sums(bytes: &[u8]) -> Vec<Sum> {
    const HEAD_SEED: u64 = 0x8c62_f1d3_70b9_4ae5;
    const RECORD_SEED: u64 = 0x3d1b_95e7_6ac0_28f4;
    let mut sums: Vec<Sum> = [0, 2048].map(|copy| Sum::behind(copy, copy + 144, 0)).into();
    let salt = u64_at(bytes, 24);
    let mut at = 4096;
    while at + 48 <= bytes.len() && u64_at(bytes, at) == salt {
        sums.push(Sum::behind(at, at + 40, salt ^ HEAD_SEED ^ (at as u64).rotate_left(32)));
        let mut record = at + 48;
        for position in (u64_at(bytes, at + 8)..).take(u32_at(bytes, at + 36)) {
            let end = record + 20 + u32_at(bytes, record + 8);
            let seed = Seed::Fixed(salt ^ RECORD_SEED ^ position);
            sums.push(Sum { at: record, start: record + 8, end, seed });
            record = end;
        }
        at = record.next_multiple_of(8);
    }
    sums
}

/// A journal gives back records that were committed, unchanged and in order, whatever has become of its files, and tells
/// what is missing between them.
pub fn journal_gives_back_what_was_written(input: &[u8]) {
    let mut input = Input(input);
    let forged = input.byte() & 1 != 0;
    let written = written_journal();
    let disk = written.disk.kill();
    let names: Vec<String> = disk.files().into_iter().filter(|name| name.ends_with(".log")).collect();
    edit(&mut input, &disk, &names);
    if forged {
        for name in names.iter().filter(|name| disk.files().contains(name)) {
            let sums = journal_sums(&written.disk.read(name));
            disk.rot(name, |bytes| sums.iter().for_each(|sum| sum.mend(bytes)));
        }
    }
    let (mut damage, mut end) = (Vec::new(), None);
    for seed in 5..7 {
        let mut found = BTreeSet::new();
        let opened = Journal::open(disk.disk(), LOG, journal_options(seed), &mut |record| {
            let position = record.position.0;
            assert!(found.last().is_none_or(|last| *last < position), "in order, once");
            found.insert(position);
            let committed = written.records.get(&position).map(|(lane, body)| (*lane, &body[..]));
            let new = record.body == NEW;
            assert!(forged || new || committed == Some((record.lane, record.body)), "{position} was made up");
        });
        let (journal, mut writer, recovered) = match opened {
            Ok(opened) => opened,
            // A version is looked at before a checksum: a later one may check itself otherwise.
            Err(sonata_journal::Error::Version { .. }) => return,
            Err(_) if forged => return,
            Err(error) => panic!("{error}"),
        };
        let last = found.last().copied().unwrap_or(0);
        assert_eq!(recovered.last.0, last);
        // That a file is not there is told once: the next start knows that it is not needed any more.
        damage.extend(recovered.damage);
        let told = |position: u64| {
            let covers =
                |damage: &Damage| damage.from.0 <= position && damage.to.is_none_or(|to| position <= to.0);
            damage.iter().any(covers)
        };
        // Nothing but the end, which may look as if a crash had cut it off, is missing without a word.
        let end = *end.get_or_insert(last);
        for (position, (lane, _)) in written.records.range(..end).filter(|_| !forged) {
            assert!(
                *lane == RELEASED || found.contains(position) || told(*position),
                "{position} is missing"
            );
        }
        let new = journal.append(1, &[NEW]).expect("there is room");
        assert!(last < new.0);
        writer.run_until_idle(Arc::new(Notes::default()));
    }
}

// The files of a stream.

/// The stream's identity.
const STREAM: u64 = 7;

const FOLDER: &str = "stream";

/// A stream with full segments, one that grows, and messages that were removed.
struct WrittenStream {
    disk: Lying,
    options: sonata_store::Options,
    /// All that were ever written.
    messages: BTreeMap<u64, Message>,
    live: BTreeSet<u64>,
    /// The position of its last checkpoint is the number of messages; the state is this.
    state: Vec<u8>,
}

/// In the clear, compressed, encrypted.
fn written_streams() -> &'static [WrittenStream; 3] {
    static WRITTEN: OnceLock<[WrittenStream; 3]> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let options = sonata_store::Options {
            id: STREAM,
            segment_bytes: 4096,
            cache_bytes_max: 4096,
            unwritten_bytes_max: 20_000,
            ..sonata_store::Options::default()
        };
        let keys = Arc::new(Keys::new(Key::derive(Cipher::ChaCha20Poly1305, b"secret", b"fuzz")));
        // A data key is used for one file only, but what is written here is no secret.
        let seal = Sealing { keys, random: Arc::new(|| [9; 32]) };
        [
            write_stream(options.clone()),
            write_stream(sonata_store::Options { compression: true, ..options.clone() }),
            write_stream(sonata_store::Options { seal: Some(seal), ..options }),
        ]
    })
}

fn write_stream(options: sonata_store::Options) -> WrittenStream {
    let disk = Lying::new(1);
    let mut store = Store::create(disk.disk(), FOLDER, options.clone()).expect("nothing fails");
    let (mut messages, mut live) = (BTreeMap::new(), BTreeSet::new());
    let state = b"what belongs to the stream besides".to_vec();
    for sequence in 1..=60_u64 {
        let subject = format!("a.{}", sequence % 7);
        let headers: &[u8] = if sequence % 4 == 0 { b"NATS/1.0\r\nA: b\r\n\r\n" } else { b"" };
        let payload = vec![sequence as u8; (sequence * 53 % 160) as usize];
        let new = NewMessage {
            sequence,
            timestamp: sequence as i64 * 1000,
            subject: subject.as_bytes(),
            headers,
            payload: &payload,
        };
        store.append(new).expect("nothing fails");
        messages.insert(sequence, store.get(sequence).ok().flatten().expect("it was just appended"));
        live.insert(sequence);
        if sequence % 8 == 5 {
            store.remove(sequence - 3).expect("nothing fails");
            live.remove(&(sequence - 3));
        }
        // Frames are smaller than blocks need be, so that a segment has several.
        if sequence % 9 == 0 || sequence == 60 {
            keep(&mut store, sequence, &state).expect("nothing fails");
        }
    }
    WrittenStream { disk, options, messages, live, state }
}

/// Does what there is to do, and makes a checkpoint durable.
fn keep(store: &mut Store, position: u64, state: &[u8]) -> Result<(), Error> {
    while let Some(work) = store.work() {
        store.finish(work.run())?;
    }
    while let Some(work) = store.checkpoint(position, state.to_vec()) {
        if let Finished::Checkpoint { .. } = store.finish(work.run())? {
            return Ok(());
        }
    }
    Ok(())
}

/// The checksums of a segment's file: head, heads of frames, messages unless they are compressed or encrypted, footer.
fn segment_sums(bytes: &[u8]) -> Vec<Sum> {
    let encrypted = bytes[10] & 1 != 0;
    let seed = STREAM ^ u64_at(bytes, 24).rotate_left(32);
    let (head, mut at) = if encrypted { (104, 4096) } else { (32, 40) };
    let mut sums = vec![Sum::behind(0, head, 0)];
    while bytes[at..].starts_with(b"SBLK") {
        sums.push(Sum::behind(at, at + 24, seed));
        let end = at + 32 + u32_at(bytes, at + 16);
        let mut record = at + 32;
        while u32_at(bytes, at + 4) == 0 && record < end {
            let length = u32_at(bytes, record);
            let (start, end) = (record, record + length - 8);
            sums.push(Sum { at: end, start, end, seed: Seed::Message });
            record += length;
        }
        at = end;
        if at == bytes.len() {
            return sums;
        }
    }
    if !encrypted {
        let footer = at + 8 + 12 * u32_at(bytes, at + 4);
        sums.push(Sum::behind(footer, bytes.len() - 8, seed));
    }
    sums
}

/// The checkpoint around a body.
fn checkpoint_of(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"SNTACHKP\x01\0\0\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&STREAM.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&xxh3_64_with_seed(&bytes, 0).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&xxh3_64_with_seed(&bytes, STREAM).to_le_bytes());
    bytes
}

/// A stream whose segments were damaged serves messages as they were written, and names those that it cannot serve.
pub fn segments_serve_what_was_written_or_say_what_is_lost(input: &[u8]) {
    let mut input = Input(input);
    let how = input.byte();
    let written = &written_streams()[usize::from(how >> 2) % 3];
    let (forged, salvaged) = (how & 1 != 0, how & 2 != 0);
    let disk = written.disk.kill();
    let (segments, checkpoints): (Vec<String>, Vec<String>) =
        disk.files().into_iter().partition(|name| name.ends_with(".seg"));
    edit(&mut input, &disk, &segments);
    if salvaged {
        checkpoints.iter().for_each(|name| disk.lose(name));
    }
    if forged {
        for name in segments.iter().filter(|name| disk.files().contains(name)) {
            let before = written.disk.read(name);
            let sums = segment_sums(&before);
            disk.rot(name, |bytes| sums.iter().for_each(|sum| sum.mend(bytes)));
            let now = disk.read(name);
            // A checkpoint knows the last eight bytes of a full segment.
            if now.len() == before.len() && !salvaged && written.options.seal.is_none() {
                checkpoints.iter().for_each(|checkpoint| replace_last(&disk, checkpoint, &before, &now));
            }
        }
    }
    let opened = match Store::open(disk.disk(), FOLDER, written.options.clone()) {
        Ok(opened) => opened,
        Err(Error::Foreign { .. }) if salvaged => return,
        Err(_) if forged => return,
        Err(error) => panic!("{error}"),
    };
    let (mut store, mut damage) = (opened.store, opened.damage);
    for (sequence, message) in &written.messages {
        if let Some(load) = store.cold(*sequence) {
            store.warm(load.run());
        }
        match store.get(*sequence) {
            _ if forged => {}
            Ok(Some(found)) => {
                assert_eq!(&found, message);
                assert!(salvaged || written.live.contains(sequence), "{sequence} was removed");
            }
            Ok(None) => assert!(salvaged || !written.live.contains(sequence), "{sequence} is missing"),
            Err(Error::Damaged { .. }) => assert!(salvaged || written.live.contains(sequence)),
            Err(error) => panic!("{error}"),
        }
    }
    damage.extend(store.take_damage());
    let state = store.state();
    if !forged && !salvaged {
        let lost: BTreeSet<u64> = store.lost_sequences().collect();
        assert_eq!(state.lost.messages, lost.len() as u64);
        assert_eq!(state.messages + state.lost.messages, written.live.len() as u64);
        assert!(lost.is_subset(&written.live));
        assert!(lost.is_empty() || !damage.is_empty());
        assert_eq!((opened.position, &opened.state), (60, &written.state));
    }
    go_on(store, &disk, &written.options, forged);
}

/// Puts the last eight bytes of `now` where a checkpoint has those of `before`.
fn replace_last(disk: &Lying, checkpoint: &str, before: &[u8], now: &[u8]) {
    let (old, new) = (&before[before.len() - 8..], &now[now.len() - 8..]);
    disk.rot(checkpoint, |bytes| {
        if let Some(at) = bytes.windows(8).position(|window| window == old) {
            bytes[at..at + 8].copy_from_slice(new);
            Sum::behind(0, bytes.len() - 8, STREAM).mend(bytes);
        }
    });
}

/// Asks a stream everything, changes it, and opens it again: it has all it had, and what was lost is no news.
fn go_on(mut store: Store, disk: &Lying, options: &sonata_store::Options, forged: bool) {
    let all = Filter::all();
    let some = Filter::new(["a.3", "a.5"]);
    let mut from = 0;
    // A forged checkpoint may speak of any number of messages.
    for _ in 0..100 {
        let Ok(Some(message)) = store.next_message(&all, from) else { break };
        from = message.sequence + 1;
    }
    for point in [0, 20, 55, u64::MAX] {
        let _ = (store.pending(&some, point), store.last(&some, point), store.next(&some, point));
        let _ = (store.sequence_at(point as i64 * 1000), store.last_per_subject(&all, point, 100));
    }
    let _ = (store.subject(b"a.1"), store.deleted().take(100).count(), store.oldest());
    let sum: u64 = store.subjects(&all, 0, 100).0.iter().map(|(_, count)| *count).sum();
    assert!(forged || sum == store.state().messages);
    let _ = (store.remove(30), store.erase(31), store.purge(&some, Some(40), 1), store.remove_before(12));
    let sequence = store.state().last_sequence.saturating_add(1);
    let new = NewMessage { sequence, timestamp: 1, subject: b"a.new", headers: b"", payload: NEW };
    let appended = store.append(new);
    assert!(forged || appended.is_ok());
    let kept = keep(&mut store, 99, b"later");
    let again = Store::open(disk.disk(), FOLDER, options.clone());
    if forged {
        return;
    }
    kept.expect("nothing fails");
    let mut again = again.expect("nothing fails");
    assert_eq!((again.position, &again.damage[..]), (99, &[][..]));
    assert_eq!(again.store.state(), store.state());
    let newest = again.store.get(sequence).ok().flatten();
    assert_eq!(newest.map(|message| message.payload).as_deref(), Some(NEW));
}

/// A checkpoint whose checksums hold may say anything: a message that is served was written.
pub fn checkpoint_serves_what_was_written(input: &[u8]) {
    let written = &written_streams()[0];
    let disk = written.disk.kill();
    let checkpoints: Vec<String> =
        disk.files().into_iter().filter(|name| name.contains("checkpoint")).collect();
    for name in &checkpoints {
        disk.rot(name, |bytes| *bytes = checkpoint_of(input));
    }
    let Ok(opened) = Store::open(disk.disk(), FOLDER, written.options.clone()) else { return };
    let mut store = opened.store;
    for (sequence, message) in &written.messages {
        if let Ok(Some(found)) = store.get(*sequence) {
            assert_eq!(&found, message);
        }
    }
    go_on(store, &disk, &written.options, true);
}

// What a checkpoint carries for the stream.

/// The state of a stream is read or refused; what is read is read again as it is saved.
pub fn stream_state_is_read_or_refused(input: &[u8]) {
    let written = &written_streams()[0];
    let disk = written.disk.kill();
    let Some(mut machine) = restore(&disk, written.options.clone(), input) else { return };
    machine.begin(START);
    let saved = |machine: &mut Machine| {
        while let Some(work) = machine.begin_checkpoint("A") {
            if let Ok(Finished::Checkpoint { .. }) = machine.finish_work(work.run()) {
                break;
            }
        }
        Store::open(disk.disk(), FOLDER, written.options.clone()).expect("nothing fails").state
    };
    let state = saved(&mut machine);
    let mut again = restore(&disk, written.options.clone(), &state).expect("it was just saved");
    assert_eq!(Header::load(&state).map(|header| Arc::new(header.config)), Ok(again.config().clone()));
    again.begin(START);
    assert!(saved(&mut again) == state, "what is read is not what was saved");
}

/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600_000_000_000;

fn restore(disk: &Lying, options: sonata_store::Options, state: &[u8]) -> Option<Machine> {
    let header = Header::load(state).ok()?;
    let opened = Store::open(disk.disk(), FOLDER, options).expect("nothing fails");
    let parts = Parts {
        lane: STREAM,
        domain: "".into(),
        account: "A".into(),
        config: header.config,
        created: header.created,
        store: opened.store,
        commit: Commit::Memory,
        interest: Arc::new(Uniform(false)),
        seed: 1,
        usage: Usage::new(-1, -1, None),
    };
    Machine::restore(parts, opened.position, state).ok()
}
