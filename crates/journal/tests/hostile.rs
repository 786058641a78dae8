//! Files of a journal, cut to pieces by somebody who does not mind what he does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Owner, body, open, options, reopen};
use proptest::prelude::*;
use sonata_disk::lying::Lying;

#[derive(Clone, Debug)]
enum Edit {
    Random { file: usize, at: usize, bytes: Vec<u8> },
    Copy { from: usize, at: usize, to: usize, over: usize, len: usize },
    Truncate { file: usize, len: usize },
    Extend { file: usize, len: usize },
    Replace { file: usize, by: usize },
    Lose { file: usize },
}

fn edit() -> impl Strategy<Value = Edit> {
    let (file, at) = (0..8usize, 0..17_000usize);
    prop_oneof![
        (file.clone(), at.clone(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(file, at, bytes)| Edit::Random { file, at, bytes }),
        (file.clone(), at.clone(), file.clone(), at.clone(), 0..5000usize)
            .prop_map(|(from, at, to, over, len)| Edit::Copy { from, at: at & !7, to, over: over & !7, len }),
        (file.clone(), at.clone()).prop_map(|(file, len)| Edit::Truncate { file, len }),
        (file.clone(), at).prop_map(|(file, len)| Edit::Extend { file, len }),
        (file.clone(), file.clone()).prop_map(|(file, by)| Edit::Replace { file, by }),
        file.prop_map(|file| Edit::Lose { file }),
    ]
}

fn apply(disk: &Lying, edit: &Edit) {
    let files = disk.files();
    let name = |file: &usize| files.get(*file % files.len().max(1));
    match edit {
        Edit::Random { file, at, bytes } => {
            let Some(name) = name(file) else { return };
            disk.rot(name, |content| {
                let end = (at + bytes.len()).min(content.len());
                let start = (*at).min(end);
                content[start..end].copy_from_slice(&bytes[..end - start]);
            });
        }
        Edit::Copy { from, at, to, over, len } => {
            let (Some(from), Some(to)) = (name(from), name(to)) else { return };
            let source = disk.read(from);
            let piece = source[(*at).min(source.len())..(at + len).min(source.len())].to_vec();
            disk.rot(to, |content| {
                let start = (*over).min(content.len());
                let end = (start + piece.len()).min(content.len());
                content[start..end].copy_from_slice(&piece[..end - start]);
            });
        }
        Edit::Truncate { file, len } => {
            name(file).into_iter().for_each(|name| disk.rot(name, |content| content.truncate(*len)));
        }
        Edit::Extend { file, len } => {
            name(file)
                .into_iter()
                .for_each(|name| disk.rot(name, |content| content.resize(content.len() + len, 7)));
        }
        Edit::Replace { file, by } => {
            let (Some(name), Some(by)) = (name(file), name(by)) else { return };
            let content = disk.read(by);
            disk.rot(name, |old| *old = content);
        }
        Edit::Lose { file } => name(file).into_iter().for_each(|name| disk.lose(name)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 5000 }))]

    #[test]
    fn nothing_is_made_up_from_pieces(edits in proptest::collection::vec(edit(), 1..8)) {
        let disk = Lying::new(1);
        let owner = Arc::new(Owner::default());
        for seed in 0..2 {
            let mut opened = reopen(&disk, seed);
            for number in 0..300 {
                let position = opened.journal.append(number % 3, &[&body(number)]).unwrap();
                if number % 9 == 0 {
                    opened.writer.run_until_idle(owner.clone());
                    if number > 100 {
                        opened.journal.release(0, position);
                    }
                }
            }
            opened.writer.run_until_idle(owner.clone());
        }
        let committed = owner.committed.lock().clone();
        for edit in &edits {
            apply(&disk, edit);
        }
        for seed in 5..7 {
            let opened = open(disk.disk(), options(seed)).unwrap();
            for (position, record) in &opened.replayed {
                prop_assert_eq!(committed.get(position), Some(record));
            }
        }
    }
}
