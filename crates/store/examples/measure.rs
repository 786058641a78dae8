//! Measures the store on a real disk: `cargo run --release -p sonata-store --example measure -- <empty folder>`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for a person")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sonata_disk::{Disk, Real};
use sonata_store::{Filter, NewMessage, Options, Store};

fn main() {
    let folder = std::env::args().nth(1).expect("an empty folder");
    let disk: Arc<dyn Disk> = Arc::new(Real::new(Path::new(&folder)).unwrap());
    append(&disk);
    key_value(&disk);
    many_subjects(&disk);
    restart(&disk);
}

fn options(id: u64) -> Options {
    Options { id, ..Options::default() }
}

fn put(store: &mut Store, sequence: u64, subject: &str, payload: &[u8]) {
    let message = NewMessage {
        sequence,
        timestamp: sequence as i64 * 1000,
        subject: subject.as_bytes(),
        headers: b"",
        payload,
    };
    store.append(message).unwrap();
}

/// Work as a maintenance thread would do it; its time is taken apart from the caller's.
fn work(store: &mut Store, spent: &mut f64) {
    let start = Instant::now();
    while let Some(work) = store.work() {
        store.finish(work.run()).unwrap();
    }
    *spent += start.elapsed().as_secs_f64();
}

fn checkpoint(store: &mut Store, what: &str) {
    let start = Instant::now();
    let work = store.checkpoint(1, Vec::new()).unwrap();
    let frozen = start.elapsed();
    let done = work.run();
    let run = start.elapsed();
    store.finish(done).unwrap();
    println!("{what}: checkpoint {frozen:.2?} under the lock, {run:.2?} in all");
}

fn append(disk: &Arc<dyn Disk>) {
    for (name, mut store) in [
        ("file", Store::create(Arc::clone(disk), "append", options(1)).unwrap()),
        ("memory", Store::memory(1)),
    ] {
        let names: Vec<String> = (0..1000).map(|n| format!("orders.region{}.item{n}", n % 7)).collect();
        let (count, payload) = (1_000_000u64, [7; 128]);
        let mut background = 0.0;
        let start = Instant::now();
        for sequence in 1..=count {
            put(&mut store, sequence, &names[sequence as usize % 1000], &payload);
            if sequence % 8192 == 0 {
                work(&mut store, &mut background);
            }
        }
        let all = start.elapsed().as_secs_f64();
        println!(
            "{name}: append 128 B, 1,000 subjects: {:.0} ns each, background work {:.0} ns each; memory {} KiB, disk {} KiB",
            (all - background) * 1e9 / count as f64,
            background * 1e9 / count as f64,
            store.memory_bytes() >> 10,
            store.disk_bytes() >> 10
        );
        queries(name, &mut store, count);
    }
}

fn queries(name: &str, store: &mut Store, count: u64) {
    let start = Instant::now();
    for sequence in 1..=count {
        assert!(store.get(sequence).unwrap().is_some());
    }
    println!("{name}: get in order: {:.0} ns each", start.elapsed().as_secs_f64() * 1e9 / count as f64);
    for text in [">", "orders.region3.>", "orders.*.item7", "orders.region0.item7"] {
        let filter = Filter::new([text]);
        let (mut from, mut found) = (1, 0u64);
        let start = Instant::now();
        while let Some(message) = store.next_message(&filter, from).unwrap() {
            from = message.sequence + 1;
            found += 1;
        }
        let each = start.elapsed().as_secs_f64() * 1e9 / found as f64;
        let start = Instant::now();
        let pending = store.pending(&filter, count / 3).unwrap();
        let first = start.elapsed();
        let start = Instant::now();
        store.pending(&filter, count / 3).unwrap();
        println!(
            "{name}: next_message {text}: {found} at {each:.0} ns; pending from a third ({pending}): {first:.0?}, again {:.0?}",
            start.elapsed()
        );
    }
}

fn key_value(disk: &Arc<dyn Disk>) {
    for keys in [1_000u64, 10_000, 1_000_000] {
        let mut store = Store::create(Arc::clone(disk), &format!("kv{keys}"), options(2)).unwrap();
        let names: Vec<String> = (0..keys).map(|n| format!("$KV.bucket.key{n:07}")).collect();
        let mut last = vec![0u64; keys as usize];
        let rounds = 2_000_000u64.max(keys);
        let (mut background, mut first, mut random) = (0.0, 0.0, 1u64);
        let mut start = Instant::now();
        for sequence in 1..=keys + rounds {
            if sequence == keys + 1 {
                first = start.elapsed().as_secs_f64();
                background = 0.0;
                start = Instant::now();
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = if sequence <= keys { sequence - 1 } else { (random >> 33) % keys } as usize;
            put(&mut store, sequence, &names[key], &[7; 64]);
            let before = std::mem::replace(&mut last[key], sequence);
            if before > 0 {
                store.remove(before).unwrap().unwrap();
            }
            if sequence % 8192 == 0 {
                work(&mut store, &mut background);
            }
        }
        let all = start.elapsed().as_secs_f64();
        println!(
            "key-value, {keys} keys at random, 64 B: first put {:.0} ns; overwrite {:.0} ns, background {:.0} ns; memory {} KiB, disk {} KiB",
            first * 1e9 / keys as f64,
            (all - background) * 1e9 / rounds as f64,
            background * 1e9 / rounds as f64,
            store.memory_bytes() >> 10,
            store.disk_bytes() >> 10
        );
        checkpoint(&mut store, "key-value");
    }
}

fn many_subjects(disk: &Arc<dyn Disk>) {
    // Small segments and caches, so that what is left is the index.
    let options = Options { cache_bytes_max: 1 << 20, segment_bytes: 256 << 10, ..options(3) };
    let mut store = Store::create(Arc::clone(disk), "subjects", options).unwrap();
    let empty = store.memory_bytes();
    let mut background = 0.0;
    for sequence in 1..=1_000_000u64 {
        let subject = format!("telemetry.site{:03}.device{sequence:07}.temp", sequence % 500);
        put(&mut store, sequence, &subject, b"21.5");
        if sequence % 8192 == 0 {
            work(&mut store, &mut background);
        }
    }
    checkpoint(&mut store, "1 M subjects");
    work(&mut store, &mut background);
    let used = store.memory_bytes() - empty;
    println!("1 M subjects of 36 B: {} KiB in all, resident {} KiB", used >> 10, resident_kib());
    let start = Instant::now();
    let opened = Store::open(Arc::clone(disk), "subjects", Options { id: 3, ..Options::default() }).unwrap();
    println!("1 M subjects: open {:.0?}, {:?}", start.elapsed(), opened.store.state());
    println!("1 M subjects after opening: {} KiB", opened.store.memory_bytes() >> 10);
    let start = Instant::now();
    let found = store.subjects(&Filter::new(["telemetry.*.*.temp"]), 500_000, 100).1;
    println!("walk of all subjects by a wildcard ({found}): {:.0?}", start.elapsed());
    let start = Instant::now();
    let found = store.subjects(&Filter::new(["telemetry.site100.>"]), 0, 100).1;
    println!("walk of one site ({found}): {:.0?}", start.elapsed());
}

fn restart(disk: &Arc<dyn Disk>) {
    let mut store = Store::create(Arc::clone(disk), "restart", options(4)).unwrap();
    let names: Vec<String> =
        (0..100_000).map(|n| format!("telemetry.site{:03}.device{n:07}.temp", n % 500)).collect();
    let mut background = 0.0;
    for sequence in 1..=5_000_000u64 {
        put(&mut store, sequence, &names[sequence as usize % names.len()], &[7; 128]);
        if sequence % 8192 == 0 {
            work(&mut store, &mut background);
        }
    }
    checkpoint(&mut store, "5 M messages, 100 k subjects");
    println!(
        "5 M messages: memory {} KiB, disk {} KiB",
        store.memory_bytes() >> 10,
        store.disk_bytes() >> 10
    );
    drop(store);
    let start = Instant::now();
    let mut opened = Store::open(Arc::clone(disk), "restart", options(4)).unwrap();
    println!("5 M messages, 100 k subjects: open {:.0?}", start.elapsed());
    assert_eq!((opened.store.state().messages, opened.damage.len()), (5_000_000, 0));
    let start = Instant::now();
    let subject = opened.store.subject(names[77].as_bytes()).unwrap();
    println!("then one subject {subject:?}: {:.0?}", start.elapsed());
    let start = Instant::now();
    let pending = opened.store.pending(&Filter::new(["telemetry.site100.>"]), 2_500_000).unwrap();
    println!("then pending of one site over half the stream, cold ({pending}): {:.0?}", start.elapsed());
}

/// What the kernel counts, to compare with what the store says.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
