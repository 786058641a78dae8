//! Random changes to a store and to a sorted map, with background work, checkpoints and crashes in between.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;
mod watch;

use model::{Change, Model, apply, changes, checkpoint, compare, options, recover_with, work};
use proptest::prelude::*;
use sonata_disk::lying::Lying;
use sonata_store::{Accounting, Options, Store};
use watch::{CIPHERS, Watch, sealing};

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// One portion of work, finished after so many more changes.
    Work(usize),
    AllWork,
    Checkpoint,
    Kill,
    PowerCut(u64),
    Compare,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => changes().prop_map(Step::Change),
        3 => (0..5usize).prop_map(Step::Work),
        1 => Just(Step::AllWork),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
        1 => Just(Step::Compare),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_a_sorted_map(changes in proptest::collection::vec(changes(), 1..400)) {
        let mut store = Store::memory_with(options());
        let mut model = Model::new(Accounting::Memory);
        for (number, change) in changes.iter().enumerate() {
            apply(&mut store, &mut model, change).unwrap();
            if number % 40 == 0 {
                work(&mut store).unwrap();
                compare(&mut store, &model);
            }
        }
        compare(&mut store, &model);
    }

    #[test]
    fn files_are_a_sorted_map_whatever_happens(steps in steps(), compression in any::<bool>(), large in any::<bool>(), cipher in 0..3usize) {
        let watch = Watch::default();
        let mut disk = Lying::new(1);
        let seal = CIPHERS.get(cipher).map(|cipher| sealing(*cipher, b"secret"));
        let mut options = Options { compression, seal, ..options() };
        if large {
            // Segments of several blocks.
            options.segment_bytes = 300_000;
            options.unwritten_bytes_max = 1_000_000;
        }
        let mut store = Store::create(watch.disk(disk.disk()), "s", options.clone()).unwrap();
        let mut changes: Vec<Change> = Vec::new();
        let mut models = vec![Model::new(Accounting::File)];
        let mut out = None;
        for step in steps {
            match step {
                Step::Change(change) => {
                    let mut model = models.last().unwrap().clone();
                    apply(&mut store, &mut model, &change).unwrap();
                    changes.push(change);
                    models.push(model);
                }
                Step::Work(after) if out.is_none() => {
                    out = store.work().map(|work| (work.run(), changes.len() + after));
                }
                Step::AllWork if out.is_none() => work(&mut store).unwrap(),
                Step::Checkpoint if out.is_none() => {
                    checkpoint(&mut store, changes.len() as u64).unwrap();
                }
                Step::Kill => {
                    out = None;
                    disk = disk.kill();
                    store = recover_with(watch.disk(disk.disk()), options.clone(), &changes, &models);
                    compare(&mut store, models.last().unwrap());
                }
                Step::PowerCut(seed) => {
                    out = None;
                    disk = disk.power_cut(seed);
                    store = recover_with(watch.disk(disk.disk()), options.clone(), &changes, &models);
                    compare(&mut store, models.last().unwrap());
                }
                Step::Compare => compare(&mut store, models.last().unwrap()),
                _ => {}
            }
            if let Some((done, _)) = out.take_if(|(_, due)| *due <= changes.len()) {
                store.finish(done).unwrap();
            }
        }
        if let Some((done, _)) = out {
            store.finish(done).unwrap();
        }
        compare(&mut store, models.last().unwrap());
        prop_assert_eq!(store.take_damage(), []);
    }
}
