//! A node is stopped at every call of its disk, by a kill and by power cuts; its disk fails, fills up and rots. What clients
//! were told must be so afterwards. Machine, journal and store are the real ones, on one lying disk.
//!
//! Some of the calls are tried by default, and every one (in some minutes and 100 MiB) with
//!
//! ```sh
//! SONATA_CRASH_STRIDE=1 cargo test --release -p sonata-server --test crash
//! ```
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crash/history.rs"]
mod history;
#[path = "crash/node.rs"]
mod node;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use history::{CONSUMERS, Delivery, History, LANES, id_header, payload};
use node::{Mistake, Node};
use sonata_disk::lying::{Cause, Failure, Kind, Lying, Times};
use sonata_disk::{Disk, Entry, File, Open};
use sonata_jetstream::stream::Machine;

/// Operations of clients between two moments at which the disk is given its work.
const BURST: usize = 7;

/// Clients at work on a node.
struct Run {
    disk: Lying,
    node: Node,
    history: History,
    /// Delivered, and not yet answered.
    inbox: Vec<Delivery>,
    random: u64,
}

impl Run {
    fn new(disk: Arc<dyn Disk>, lying: &Lying, mistake: Mistake) -> Self {
        let (mut node, _) = Node::open(lying, disk.clone(), 1, mistake).unwrap();
        let per_subject = history::PER_SUBJECT;
        let configs = [
            format!(
                r#"{{"name":"S1","subjects":["s1.>"],"max_msgs_per_subject":{per_subject},"duplicate_window":3600000000000}}"#
            ),
            r#"{"name":"S2","subjects":["s2.>"],"retention":"workqueue","duplicate_window":3600000000000}"#
                .to_owned(),
            r#"{"name":"S3","subjects":["s3.>"],"retention":"interest","duplicate_window":3600000000000}"#
                .to_owned(),
        ];
        for (lane, config) in LANES.iter().zip(&configs) {
            node.create_stream(disk.clone(), *lane, config);
        }
        for (lane, name, filter) in CONSUMERS {
            let ack_wait = history::ACK_WAIT;
            let config = format!(
                r#"{{"stream_name":"S{lane}","config":{{"durable_name":"{name}","filter_subject":"{filter}","ack_policy":"explicit","ack_wait":{ack_wait},"max_ack_pending":1000000}}}}"#
            );
            node.create_consumer(lane, &config);
        }
        node.take_said();
        Self { disk: lying.clone(), node, history: History::default(), inbox: Vec::new(), random: 1 }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % below
    }

    /// So many operations, and what the disk does for them.
    fn operations(&mut self, count: usize) {
        for done in 0..count {
            self.operation();
            self.hear();
            if done % BURST == BURST - 1 {
                self.node.settle();
                self.hear();
            }
            if done % 150 == 149 {
                // What refuses now is done later.
                let _ = self.node.checkpoint(LANES[done / 150 % 3]);
            }
        }
        self.node.settle();
        self.hear();
    }

    fn hear(&mut self) {
        let said = self.node.take_said();
        let deliveries = self.history.hear(said);
        self.inbox.extend(deliveries);
    }

    fn operation(&mut self) {
        let lane = LANES[self.random(3)];
        let asked = self.disk.recorded();
        match self.random(20) {
            0..=9 => {
                let subject = format!("s{lane}.{}", self.random(5));
                let id = (self.random(2) == 0).then(|| format!("id-{asked}-{}", self.random));
                self.publish(lane, &subject, id);
            }
            10 => {
                let (most, _) = self.history.outcomes();
                let number = self.random(most + 1);
                if let Some((lane, subject, id)) = self.history.known_id(number) {
                    self.publish(lane, &subject, Some(id));
                }
            }
            11 if self.random(3) == 0 => {
                let messages = self.node.messages(lane);
                if let Some(message) = messages.get(self.random(messages.len().max(1))) {
                    self.history.removes(lane, message.sequence, asked);
                    let request = sonata_jetstream::api::request::DeleteMessage {
                        seq: message.sequence,
                        ..Default::default()
                    };
                    self.node.with(lane, |machine, now, said| {
                        let _ = machine.request_delete(&request, b"", now, said);
                    });
                }
            }
            12 if self.random(20) == 0 => self.purge(lane, asked),
            13 | 14 => {
                let (lane, consumer, _) = CONSUMERS[self.random(CONSUMERS.len())];
                let request = format!(r#"{{"batch":{},"no_wait":true}}"#, 1 + self.random(30));
                self.node.with(lane, |machine, now, said| {
                    machine.pull(consumer, b"inbox", request.as_bytes(), now, said)
                });
            }
            _ if !self.inbox.is_empty() => {
                let at = self.random(self.inbox.len());
                let delivery = self.inbox.swap_remove(at);
                self.answer(&delivery, asked);
            }
            _ => {}
        }
    }

    fn publish(&mut self, lane: u64, subject: &str, id: Option<String>) {
        let headers = id_header(id.as_deref());
        let number = self.history.publishes(lane, subject, id, self.disk.recorded());
        self.node.publish(lane, subject, &format!("pub.{number}"), &headers, &payload(number));
    }

    fn purge(&mut self, lane: u64, asked: usize) {
        let subject = format!("s{lane}.{}", self.random(5));
        // Those that are on their way as well.
        self.node.settle();
        for message in self.node.messages(lane) {
            if *message.subject == *subject.as_bytes() {
                self.history.removes(lane, message.sequence, asked);
            }
        }
        let request = sonata_jetstream::api::request::Purge { filter: subject, ..Default::default() };
        self.node.with(lane, |machine, now, said| {
            let _ = machine.request_purge(&request, b"", now, said);
        });
    }

    fn answer(&mut self, delivery: &Delivery, asked: usize) {
        let (consumer, sequence) = (delivery.consumer, delivery.sequence);
        match self.random(8) {
            0 => delivery.answer(&self.node, b"-NAK", None),
            1 => delivery.answer(&self.node, b"+WPI", None),
            2 => {}
            3 => {
                self.history.settles(consumer, sequence, asked);
                delivery.answer(&self.node, b"+TERM", None);
            }
            4 | 5 => {
                self.history.settles(consumer, sequence, asked);
                delivery.answer(&self.node, b"", None);
            }
            _ => {
                self.history.settles(consumer, sequence, asked);
                delivery.answer(&self.node, b"+ACK", Some(&format!("ack.{consumer}.{sequence}")));
            }
        }
    }
}

/// How a disk is found.
#[derive(Clone, Copy, Debug)]
enum Found {
    Killed,
    PowerCut(u64),
    /// Killed, and the newest checkpoint of a stream is damaged.
    Rotten(u64),
}

/// Runs, then stops at every call that `stride` leads to; whether everything was as promised is up to the caller.
fn stop_everywhere(operations: usize, stride: usize, mistake: Mistake, found: &[Found]) {
    let lying = Lying::new(1);
    let mut run = Run::new(lying.disk(), &lying, mistake);
    let begun = lying.recorded();
    run.operations(operations);
    let record = lying.record();
    assert!(record.calls().len() > operations / 10, "{} calls", record.calls().len());
    let mut replay = record.replay(1);
    while replay.step().is_some() {
        let calls = replay.done();
        if calls < begun || !(calls - begun).is_multiple_of(stride) {
            continue;
        }
        for how in found {
            let disk = match how {
                Found::Killed => replay.kill(),
                Found::PowerCut(seed) => replay.power_cut(seed + calls as u64 * 16),
                Found::Rotten(lane) => {
                    let disk = replay.kill();
                    damage_checkpoint(&disk, *lane);
                    disk
                }
            };
            let context = format!("{how:?} after {calls} calls");
            let (mut node, damage) = Node::open(&disk, disk.disk(), 7 + calls as u64, mistake)
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(damage.is_empty(), !matches!(how, Found::Rotten(_)), "{context}: {damage:?}");
            run.history.check(&mut node, calls, false, &context);
        }
    }
}

/// A bit flips in the newest of a stream's checkpoints.
fn damage_checkpoint(disk: &Lying, lane: u64) {
    let prefix = format!("streams/{lane}/checkpoint-");
    let is_checkpoint =
        |name: &String| name.strip_prefix(&prefix).is_some_and(|number| number.parse::<u64>().is_ok());
    let newest = disk.files().into_iter().rfind(is_checkpoint).unwrap();
    disk.flip(&newest, 8 * 40);
}

/// How many calls are passed over each time: as `SONATA_CRASH_STRIDE` says, or `some`, or fewer with optimisation.
fn stride(some: usize) -> usize {
    match std::env::var("SONATA_CRASH_STRIDE") {
        Ok(stride) => stride.parse().expect("SONATA_CRASH_STRIDE is a number from 1 on"),
        Err(_) if cfg!(debug_assertions) => some,
        Err(_) => some.div_ceil(8),
    }
}

#[test]
fn what_was_promised_is_so_wherever_it_stops() {
    let found = [Found::Killed, Found::PowerCut(0), Found::PowerCut(1)];
    stop_everywhere(10_000, stride(97), Mistake::None, &found);
}

#[test]
fn a_damaged_checkpoint_is_made_up_for_by_the_one_before_and_the_journal() {
    stop_everywhere(3_000, stride(97), Mistake::None, &LANES.map(Found::Rotten));
}

/// The checks above would see it if the node made a mistake.
mod mistakes {
    use super::*;

    #[test]
    #[should_panic(expected = "is lost")]
    fn acknowledging_before_the_commit() {
        stop_everywhere(500, 3, Mistake::AcknowledgesBeforeCommit, &[Found::Killed]);
    }

    #[test]
    #[should_panic(expected = "is lost")]
    fn releasing_what_the_older_checkpoint_needs() {
        stop_everywhere(6_000, 11, Mistake::ReleasesTooMuch, &LANES.map(Found::Rotten));
    }

    #[test]
    #[should_panic]
    fn replaying_what_is_applied() {
        stop_everywhere(3_000, 11, Mistake::ReplaysWhatIsApplied, &[Found::Killed]);
    }

    #[test]
    #[should_panic(expected = "is lost")]
    fn forgetting_to_sync_the_journal() {
        let lying = Lying::new(1);
        let mut run = Run::new(Arc::new(Unsynced(lying.disk())), &lying, Mistake::None);
        run.operations(500);
        for seed in 0..20 {
            let disk = lying.power_cut(seed);
            let (mut node, _) = Node::open(&disk, disk.disk(), 7, Mistake::None).unwrap();
            run.history.check(&mut node, lying.recorded(), false, "without a sync");
        }
    }

    /// A disk on which nobody syncs the journal's files.
    #[derive(Debug)]
    struct Unsynced(Arc<dyn Disk>);

    #[derive(Debug)]
    struct UnsyncedFile(Arc<dyn File>);

    impl Disk for Unsynced {
        fn open(&self, name: &str, how: Open) -> io::Result<Arc<dyn File>> {
            let file = self.0.open(name, how)?;
            if name.starts_with("journal") { Ok(Arc::new(UnsyncedFile(file))) } else { Ok(file) }
        }

        fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
            self.0.list(folder)
        }

        fn create_folder(&self, folder: &str) -> io::Result<()> {
            self.0.create_folder(folder)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }

        fn remove_folder(&self, folder: &str) -> io::Result<()> {
            self.0.remove_folder(folder)
        }

        fn sync_folder(&self, folder: &str) -> io::Result<()> {
            self.0.sync_folder(folder)
        }
    }

    impl File for UnsyncedFile {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_at(buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_at(bytes, offset)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn write_out(&self, offset: u64, length: u64) -> io::Result<()> {
            self.0.write_out(offset, length)
        }

        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
    }
}

/// A disk that fails at any call, once or from then on: publishers are told, nothing panics, and when it works again so does
/// the node, and after a restart all is there that was promised.
#[test]
fn a_disk_may_fail_at_any_call() {
    let causes =
        [(Times::Once, Cause::Broken), (Times::FromThenOn, Cause::Broken), (Times::Once, Cause::Short)];
    for (times, cause) in causes {
        for after in (0..).step_by(stride(23)) {
            let lying = Lying::new(1);
            let mut run = Run::new(lying.disk(), &lying, Mistake::None);
            run.operations(250);
            let before: u64 = Kind::ALL.iter().map(|kind| lying.count(*kind)).sum();
            lying.fail(Failure { kind: None, after, times, cause });
            run.operations(250);
            let is_met = Kind::ALL.iter().map(|kind| lying.count(*kind)).sum::<u64>() - before > after;
            lying.heal();
            let context = format!("{cause:?} {times:?} after {after} calls");
            run.goes_on(&context);
            run.restarts(&context);
            if !is_met {
                break;
            }
        }
    }
}

/// A full disk refuses, and takes messages again as soon as there is room, without a restart.
#[test]
fn a_full_disk_is_got_over() {
    for room in (0..200_000).step_by(10_000) {
        let lying = Lying::new(1);
        let mut run = Run::new(lying.disk(), &lying, Mistake::None);
        run.operations(300);
        lying.set_space(Some(lying.bytes() + room));
        run.operations(1_500);
        let (_, refused) = run.history.outcomes();
        lying.set_space(None);
        let context = format!("room for {room}");
        assert!(refused > 0 || room > 50_000, "{context}: nothing was refused");
        run.goes_on(&context);
        run.restarts(&context);
    }
}

impl Run {
    /// The disk works: so does the node.
    fn goes_on(&mut self, context: &str) {
        self.node.resume();
        self.hear();
        let bench = self.node.bench.clone();
        let (failed, resumed) = (bench.failed.load(Ordering::Relaxed), bench.resumed.load(Ordering::Relaxed));
        assert!(failed == 0 || resumed > 0, "{context}: it has not resumed");
        let (before, refused) = self.history.outcomes();
        self.operations(250);
        for lane in LANES {
            self.node.checkpoint(lane).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
        let (after, refused_then) = self.history.outcomes();
        assert_eq!(refused, refused_then, "{context}: it still refuses");
        assert!(after > before + 50, "{context}: nothing is stored any more");
    }

    /// What was promised is so after a restart, and after a power cut.
    fn restarts(&self, context: &str) {
        for disk in [self.disk.kill(), self.disk.power_cut(3)] {
            let (mut node, damage) = Node::open(&disk, disk.disk(), 9, Mistake::None).unwrap();
            assert_eq!(damage, [""; 0], "{context}");
            self.history.check(&mut node, usize::MAX, false, context);
        }
    }
}

/// Any bit of any file: what is served is what was stored, and what is not served is reported.
#[test]
fn no_bit_flips_unseen() {
    let lying = Lying::new(1);
    let mut run = Run::new(lying.disk(), &lying, Mistake::None);
    run.operations(400);
    run.node.close();
    let calls = lying.recorded();
    for name in lying.files() {
        // Of the journal's file most is empty.
        let used = lying.read(&name).iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        for bit in (0..used * 8).step_by(stride(1601).max(if name.starts_with("journal") { 13 } else { 1 })) {
            let disk = lying.kill();
            disk.flip(&name, bit);
            let context = format!("{name} bit {bit}");
            let Ok((mut node, mut damage)) = Node::open(&disk, disk.disk(), 9, Mistake::None) else {
                continue;
            };
            run.history.check(&mut node, calls, true, &context);
            let missing = run.history.missing(&mut node, calls);
            for lane in LANES {
                let mut streams = node.bench.streams.lock();
                if let Some(machine) = streams.get_mut(&lane) {
                    damage.extend(machine.store().take_damage().iter().map(|damage| format!("{damage:?}")));
                }
            }
            assert!(
                missing.is_empty() || !damage.is_empty(),
                "{context}: {missing:?} is lost and nobody says so"
            );
            // Consumers go on past what is damaged.
            for (lane, consumer, _) in CONSUMERS {
                let has = |machine: &Machine| machine.consumer_names().iter().any(|name| name == consumer);
                if node.bench.streams.lock().get(&lane).is_some_and(has) {
                    run.history.check_deliveries(&mut node, lane, consumer, calls, &context);
                }
            }
        }
    }
}
