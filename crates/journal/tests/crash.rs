//! A run is stopped at every point, by a kill and by power cuts; and its files rot, bit by bit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Owner, Records, assert_same, body, open, options, reopen};
use sonata_disk::lying::{Lying, Record};
use sonata_journal::{Mode, Position};

/// What was so when the disk had done so many calls.
#[derive(Clone, Default)]
struct Moment {
    calls: usize,
    /// All that was acknowledged has positions up to here.
    acknowledged: u64,
    /// Released positions by lane.
    released: BTreeMap<u64, u64>,
    /// The highest position that was given away.
    given: u64,
}

struct Run {
    record: Record,
    appended: Records,
    moments: Vec<Moment>,
}

/// Records over four lanes in small batches, released with a lag, so that files go round; and restarts in between.
fn run(mode: Mode, records: u64) -> Run {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut appended = Records::new();
    let mut moments = vec![Moment::default()];
    let mut moment = Moment::default();
    let mut opened = open(disk.disk(), common::Options { mode, ..options(1) }).unwrap();
    let mut number = 0;
    while number < records {
        if number % 2500 == 2499 {
            opened.journal.close();
            if number % 5000 == 4999 {
                opened.writer.run(owner.clone());
            }
            opened = open(disk.disk(), common::Options { mode, ..options(number) }).unwrap();
        }
        // Not always, so that releases meet the next batch as well as an idle writer.
        if number % 2 == 0 || number % 2500 == 2499 {
            opened.writer.run_until_idle(owner.clone());
        }
        // Positions are given away before anything is written, but not before the journal is open.
        moment.calls = disk.recorded();
        moments.push(moment.clone());
        let batch = 1 + number * 7 % 13;
        for _ in 0..batch {
            let (lane, body) = (number % 4, body(number));
            let position =
                opened.journal.append(lane, &[&body[..body.len() / 2], &body[body.len() / 2..]]).unwrap();
            appended.insert(position.0, (lane, body));
            moment.given = position.0;
            number += 1;
        }
        opened.journal.kick();
        opened.writer.run_until_idle(owner.clone());
        if mode == Mode::Interval && number % 3 == 0 {
            opened.journal.sync().unwrap();
        }
        if number % 11 == 0 {
            while opened.journal.prepare() {}
        }
        let unsynced = mode == Mode::Interval && number % 3 != 0;
        moment.calls = disk.recorded();
        if !unsynced {
            moment.acknowledged = *owner.committed.lock().last_key_value().unwrap().0;
        }
        moments.push(moment.clone());
        let lane = number % 4;
        let behind = appended.keys().rev().nth(600).copied().unwrap_or(0);
        if number % 5 == 0 && behind > 0 {
            opened.journal.release(lane, Position(behind));
            moment.released.insert(lane, behind);
            moments.push(Moment { calls: disk.recorded(), ..moment.clone() });
        }
    }
    Run { record: disk.record(), appended, moments }
}

impl Run {
    /// Checks a disk that was found after `calls` calls, where all up to `kept` must be there.
    fn check(&self, disk: &Lying, before: &Moment, after: &Moment, context: &str) {
        let opened = open(disk.disk(), options(7)).unwrap_or_else(|error| panic!("{context}: {error}"));
        for (position, record) in &opened.replayed {
            assert_eq!(self.appended.get(position), Some(record), "{context}: {position} is invented");
        }
        for (position, (lane, _)) in self.appended.range(..=before.acknowledged) {
            let released = after.released.get(lane).is_some_and(|released| position <= released);
            assert!(released || opened.replayed.contains_key(position), "{context}: {position} is lost");
        }
        // No hole between the first and the last.
        let range = opened.replayed.keys().next().copied().zip(opened.replayed.keys().next_back().copied());
        if let Some((first, last)) = range {
            let expected = self.appended.range(first..=last).count();
            assert_eq!(opened.replayed.len(), expected, "{context}: a hole");
        }
        assert_eq!(opened.recovered.damage, [], "{context}");
        let next = opened.journal.append(1, &[]).unwrap().0;
        assert!(next > after.given, "{context}: {next} may have been given away before");
        drop(opened);
        // What was shown once is shown again, after whatever comes next.
        let first = reopen(disk, 8);
        let second = reopen(&disk.power_cut(next), 9);
        assert_same(&second.replayed, &first.replayed, context);
    }

    /// Checks at every call that `stride` leads to.
    fn check_all(&self, stride: usize, power_cuts: u64) {
        let mut replay = self.record.replay(1);
        let mut moments = self.moments.iter().peekable();
        let mut before = &self.moments[0];
        loop {
            while moments.peek().is_some_and(|moment| moment.calls <= replay.done()) {
                before = moments.next().unwrap();
            }
            let after = moments.peek().copied().unwrap_or(before);
            if replay.done() % stride == 0 {
                let context = format!("killed after {} calls", replay.done());
                self.check(&replay.kill(), before, after, &context);
                for cut in 0..power_cuts {
                    let seed = replay.done() as u64 * power_cuts + cut;
                    let context = format!("power cut after {} calls, seed {seed}", replay.done());
                    self.check(&replay.power_cut(seed), before, after, &context);
                }
            }
            if replay.step().is_none() {
                return;
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_it_stops() {
    let run = run(Mode::Always, 10_000);
    assert!(run.record.calls().len() > 2000);
    run.check_all(if cfg!(debug_assertions) { 13 } else { 1 }, 2);
}

#[test]
fn nothing_synced_is_lost_wherever_it_stops() {
    run(Mode::Interval, 4_000).check_all(if cfg!(debug_assertions) { 13 } else { 1 }, 4);
}

/// Every bit of every file of a small journal that was closed: what comes back is what was written, and what does not
/// come back is said.
#[test]
fn no_bit_flips_unseen() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    for start in 0..2 {
        let mut opened = reopen(&disk, start);
        for number in 0..6 {
            opened.journal.append(number % 2, &[&body(number)[..20.min(body(number).len())]]).unwrap();
            if number % 2 == 0 {
                opened.writer.run_until_idle(owner.clone());
            }
        }
        opened.journal.close();
        opened.writer.run(owner.clone());
    }
    let committed = owner.committed.lock().clone();
    assert_eq!(committed.len(), 12);
    let stride = if cfg!(debug_assertions) { 11 } else { 1 };
    let files = disk.files();
    for name in &files {
        let newest = files.last() == Some(name);
        let used = disk.read(name).iter().rposition(|byte| *byte != 0).unwrap() as u64 + 100;
        for bit in (0..used * 8).step_by(stride) {
            // Nothing is between the two copies of the header and the batches.
            if matches!(bit / 8, 160..2048 | 2208..4096) {
                continue;
            }
            let rotten = disk.kill();
            rotten.flip(name, bit);
            check_rotten(&rotten, &committed, false, &format!("{name} bit {bit}"));
        }
        for len in (0..used).step_by(stride) {
            let rotten = disk.kill();
            rotten.truncate(name, len);
            // With the last mark gone as well it looks like a crash before the last batches.
            check_rotten(&rotten, &committed, newest, &format!("{name} cut to {len}"));
        }
    }
}

fn check_rotten(disk: &Lying, committed: &Records, like_a_crash: bool, context: &str) {
    let opened = reopen(disk, 5);
    for (position, record) in &opened.replayed {
        assert_eq!(committed.get(position), Some(record), "{context}");
    }
    let recovered = &opened.recovered;
    for position in committed.keys().filter(|position| !opened.replayed.contains_key(position)) {
        let said = |from: Position, to: Option<Position>| {
            from.0 <= *position && to.is_none_or(|to| *position <= to.0)
        };
        let said = recovered.damage.iter().any(|damage| said(damage.from, damage.to));
        assert!(said || like_a_crash, "{context}: {position} is lost and nobody says so: {recovered:?}");
    }
    let last = committed.keys().next_back().unwrap();
    assert!(opened.journal.append(1, &[]).unwrap().0 > *last, "{context}");
}

#[test]
fn a_missing_file_is_damage_and_the_rest_is_read() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = reopen(&disk, 1);
    for number in 0..1000 {
        opened.journal.append(1, &[&body(number)]).unwrap();
        opened.writer.run_until_idle(owner.clone());
    }
    opened.journal.close();
    opened.writer.run(owner.clone());
    let committed = owner.committed.lock().clone();
    let files = disk.files();
    assert!(files.len() > 4);
    for (index, name) in files.iter().enumerate() {
        let without = disk.kill();
        without.lose(name);
        let opened = reopen(&without, 2);
        let missing: Vec<_> =
            committed.keys().filter(|position| !opened.replayed.contains_key(position)).collect();
        assert!(!missing.is_empty() && missing.len() < 500);
        if index + 1 < files.len() {
            assert_eq!(opened.recovered.damage.len(), 1, "{name}");
            let damage = &opened.recovered.damage[0];
            assert!(damage.from.0 <= *missing[0], "{name}");
            assert_eq!(damage.to, Some(Position(**missing.last().unwrap())), "{name}");
        }
    }
}

/// A damaged file is replayed as long as it is needed, and then kept aside under another name.
#[test]
fn a_damaged_file_is_kept_aside() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = reopen(&disk, 1);
    for number in 0..400 {
        opened.journal.append(1, &[&body(number)]).unwrap();
        opened.writer.run_until_idle(owner.clone());
    }
    drop(opened);
    let name = disk.files().remove(0);
    disk.flip(&name, (4096 + 2000) * 8);
    for seed in 2..4 {
        let opened = reopen(&disk, seed);
        assert_eq!(opened.recovered.damage.len(), 1);
        assert!(opened.replayed.len() >= 399);
    }
    let mut opened = reopen(&disk, 4);
    opened.journal.forget(1);
    opened.journal.release(1, opened.recovered.last);
    opened.writer.run_until_idle(owner.clone());
    assert!(disk.files().iter().any(|file| *file == name.replace(".log", ".damaged")), "{:?}", disk.files());
    drop(opened);
    let after = reopen(&disk, 5);
    assert_eq!((after.replayed.len(), after.recovered.damage.len()), (0, 0));
}

/// A released file may only vanish once it is durable that nobody needs it, or its absence would be damage.
#[test]
fn a_file_is_not_reused_before_that_is_known() {
    let disk = Lying::new(1);
    let owner = Arc::new(Owner::default());
    let mut opened = open(disk.disk(), common::Options { mode: Mode::Interval, ..options(1) }).unwrap();
    opened.writer.run_until_idle(owner.clone());
    for number in 0..500 {
        opened.journal.append(1, &[&body(number)]).unwrap();
        opened.journal.kick();
    }
    opened.journal.sync().unwrap();
    let files = disk.files().len();
    opened.journal.forget(1);
    opened.journal.append(2, &[b"after"]).unwrap();
    opened.journal.kick();
    for seed in 0..50 {
        assert_eq!(reopen(&disk.power_cut(seed), 2).recovered.damage, [], "seed {seed}");
    }
    opened.journal.sync().unwrap();
    opened.writer.run_until_idle(owner);
    assert!(disk.files().len() < files);
    for seed in 0..50 {
        assert_eq!(reopen(&disk.power_cut(seed), 2).recovered.damage, [], "seed {seed}");
    }
}
