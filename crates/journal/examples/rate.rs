//! How many records become durable per second on the real disk, in a folder of the current one:
//!
//!     cargo run --release -p sonata-journal --example rate
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example prints, and fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sonata_disk::Real;
use sonata_journal::{Batch, Committed, Error, Journal, Mode, Options, Position};

const FOLDER: &str = "journal-rate";
const MEASURED: Duration = Duration::from_secs(3);

/// Counts, and wakes the one who waits.
struct Count {
    committed: AtomicU64,
    waiting: std::thread::Thread,
}

impl Committed for Count {
    fn committed(&self, batch: Batch<'_>) {
        self.committed.fetch_add(batch.count() as u64, Ordering::Release);
        self.waiting.unpark();
    }

    fn failed(&self, error: &Error) {
        panic!("{error}");
    }

    fn resumed(&self, _: Position) {}
}

fn main() {
    append_alone();
    for (mode, in_flight, bytes) in [
        (Mode::Always, 1, 128),
        (Mode::Always, 256, 128),
        (Mode::Always, 1000, 128),
        (Mode::Always, 256, 1024),
        (Mode::Interval, 1, 128),
        (Mode::Interval, 256, 128),
    ] {
        commit(mode, in_flight, bytes);
    }
    let _ = std::fs::remove_dir_all(FOLDER);
}

fn open(mode: Mode) -> (Arc<Journal>, sonata_journal::Writer) {
    let _ = std::fs::remove_dir_all(FOLDER);
    let disk = Arc::new(Real::new(Path::new(FOLDER)).unwrap());
    let options = Options { mode, ..Options::new(1) };
    let (journal, writer, _) = Journal::open(disk, "journal", options, &mut |_| ()).unwrap();
    (journal, writer)
}

fn append_alone() {
    let (journal, mut writer) = open(Mode::Always);
    let count = Arc::new(Count { committed: AtomicU64::new(0), waiting: std::thread::current() });
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..20_000 {
            journal.append(1, &[&[1; 128]]).unwrap();
        }
        best = best.min(start.elapsed());
        writer.run_until_idle(count.clone());
    }
    println!("append of 128 B: {} ns (best of 10)", best.as_nanos() / 20_000);
}

fn commit(mode: Mode, in_flight: u64, bytes: usize) {
    let (journal, mut writer) = open(mode);
    let count = Arc::new(Count { committed: AtomicU64::new(0), waiting: std::thread::current() });
    let told = count.clone();
    let thread = std::thread::spawn(move || writer.run(told));
    let body = vec![1; bytes];
    // The files are filled once before it counts, as in a server that has run for a while.
    let mut appended = 0;
    let mut measured = None;
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    loop {
        if measured.is_none() && begun.elapsed() > Duration::from_secs(2) {
            measured = Some((Instant::now(), appended, journal.stats()));
            slowest = Duration::ZERO;
        }
        if measured.as_ref().is_some_and(|(start, ..)| start.elapsed() > MEASURED) {
            break;
        }
        let sent = Instant::now();
        let room = in_flight - (appended - count.committed.load(Ordering::Acquire));
        for _ in 0..room {
            let position = journal.append(1, &[&body]).unwrap();
            appended += 1;
            if appended.is_multiple_of(8192) {
                journal.release(1, Position(position.0 - 2000));
            }
        }
        journal.kick();
        while appended - count.committed.load(Ordering::Acquire) == in_flight {
            std::thread::park();
        }
        slowest = slowest.max(sent.elapsed());
    }
    let (start, before, stats_before) = measured.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let stats = journal.stats();
    journal.close();
    thread.join().unwrap();
    println!(
        "{mode:?} {bytes} B x {in_flight} in flight: {:.0} records/s, {:.0} syncs/s, slowest turn {slowest:?}",
        (appended - before) as f64 / seconds,
        (stats.syncs - stats_before.syncs) as f64 / seconds,
    );
}
