//! Snapshots: one of the reference, our own, and damaged ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use sonata_jetstream::api::response::StreamState;
use sonata_jetstream::archive::{
    ArchiveError, ConsumerSnapshot, ConsumerState, Entry, PendingDelivery, Reader, SequencePair, Writer,
};
use sonata_jetstream::config::ConsumerConfig;

/// A stream of three messages, the second deleted, the third with a header, and a durable consumer; 2.15.1.
fn recorded() -> Vec<u8> {
    let digits: Vec<u8> =
        include_bytes!("snapshot.hex").iter().copied().filter(u8::is_ascii_hexdigit).collect();
    let text = std::str::from_utf8(&digits).unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let mut reader = Reader::new(bytes, 1 << 20);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn written(messages: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let state = StreamState {
        messages: messages.len() as u64,
        first_seq: 1,
        last_seq: (messages.len() as u64 * 2).saturating_sub(1),
        consumer_count: 1,
        ..StreamState::default()
    };
    let mut writer = Writer::new(&mut bytes, 5, &state).unwrap();
    writer.consumer(5, &consumer()).unwrap();
    for (at, (headers, payload)) in messages.iter().enumerate() {
        writer.message(at as u64 * 2 + 1, -(at as i64), b"a.b", headers, payload).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn consumer() -> ConsumerSnapshot {
    ConsumerSnapshot {
        config: ConsumerConfig { name: "C".into(), ..ConsumerConfig::default() },
        state: ConsumerState {
            delivered: SequencePair { consumer_seq: 3, stream_seq: 2 },
            ack_floor: SequencePair::default(),
            pending: [(2, PendingDelivery { sequence: 3, timestamp: 4 })].into(),
            redelivered: [(2, 1)].into(),
        },
    }
}

#[test]
fn a_snapshot_of_the_reference_is_read() {
    let entries = read(&recorded()).unwrap();
    let [Entry::State(state), Entry::Consumer(consumer), first, third] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!((state.messages, state.first_seq, state.last_seq, state.consumer_count), (2, 1, 3, 1));
    assert_eq!(consumer.config.durable_name, "C");
    assert_eq!(consumer.state, ConsumerState::default());
    assert!(matches!(first, Entry::Message { sequence: 1, subject, headers, payload, .. }
        if subject == b"a.x" && headers.is_empty() && payload == b"hello"));
    assert!(matches!(third, Entry::Message { sequence: 3, headers, payload, .. }
        if headers == b"NATS/1.0\r\nNats-Msg-Id: id1\r\n\r\n" && payload == b"with header"));
}

#[test]
fn every_cut_is_noticed() {
    let bytes = recorded();
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    // The chunks of S2 have checksums.
    let bytes = recorded();
    let whole = read(&bytes).unwrap();
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        if let Ok(entries) = read(&damaged) {
            assert_eq!(entries, whole, "bit {at}");
        }
    }
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    let bytes = written(&[(Vec::new(), vec![0; 100])]);
    let mut reader = Reader::new(&bytes[..], 99);
    assert!(matches!(reader.next_entry(), Ok(Some(Entry::State(_)))));
    assert!(matches!(reader.next_entry(), Ok(Some(Entry::Consumer(_)))));
    assert!(matches!(reader.next_entry(), Err(ArchiveError::MessageTooLarge { sequence: 1 })));
    assert!(matches!(reader.next_entry(), Ok(None)));
}

#[test]
fn messages_out_of_order_are_refused() {
    for sequences in [[2, 1], [1, 1]] {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 5, &StreamState::default()).unwrap();
        for sequence in sequences {
            writer.message(sequence, 0, b"a", b"", b"").unwrap();
        }
        writer.finish().unwrap();
        assert!(matches!(read(&bytes), Err(ArchiveError::Malformed(_))), "{sequences:?}");
    }
}

#[test]
fn only_zeroes_are_the_end() {
    use std::io::Write;
    for (timestamp, payload) in [(1, 0), (0, 1)] {
        let mut bytes = Vec::new();
        let mut stream = minlz::Writer::new(&mut bytes);
        stream.write_all(b"NATSARC1\x0a\0\0\0\x02state.json{}").unwrap();
        stream.write_all(&[1, timestamp, 0, 0, payload, b'a', b'a']).unwrap();
        drop(stream);
        assert!(matches!(read(&bytes), Err(ArchiveError::Malformed(_))));
    }
}

#[test]
fn what_is_no_archive_is_told_apart() {
    use std::io::Write;
    let mut bytes = Vec::new();
    let mut stream = minlz::Writer::new(&mut bytes);
    stream.write_all(&[0; 512]).unwrap();
    drop(stream);
    assert!(matches!(read(&bytes), Err(ArchiveError::NotAnArchive)));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
    ) {
        let entries = read(&written(&messages)).unwrap();
        prop_assert_eq!(entries.len(), messages.len() + 2);
        prop_assert_eq!(&entries[1], &Entry::Consumer(Box::new(consumer())));
        for (at, (wanted, entry)) in messages.iter().zip(&entries[2..]).enumerate() {
            let is_same = matches!(entry, Entry::Message { sequence, timestamp, subject, headers, payload }
                if *sequence == at as u64 * 2 + 1 && *timestamp == -(at as i64) && subject == b"a.b"
                    && (headers, payload) == (&wanted.0, &wanted.1));
            prop_assert!(is_same, "{entry:?}");
        }
    }

    #[test]
    fn hostile_entries_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        use std::io::Write;
        let mut bytes = Vec::new();
        let mut stream = minlz::Writer::new(&mut bytes);
        stream.write_all(b"NATSARC1").unwrap();
        stream.write_all(&body).unwrap();
        drop(stream);
        let _ = read(&bytes);
    }
}

/// A backup of 2.12.8, taken out of its S2 stream.
fn older() -> Vec<u8> {
    let packed = include_bytes!("../../sonata/tests/backups/2.12.8-WQ.s2");
    let mut tar = Vec::new();
    minlz::Reader::new(&packed[..]).read_to_end(&mut tar).unwrap();
    tar
}

fn read_older(tar: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let mut packed = Vec::new();
    let mut writer = minlz::Writer::new(&mut packed);
    writer.write_all(tar).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let mut entries = Vec::new();
    sonata_jetstream::archive::read(&packed[..], 1 << 20, &mut |entry| {
        entries.push(entry);
        Ok(())
    })
    .map(|()| entries)
}

#[test]
fn an_older_archive_is_read() {
    let entries = read_older(&older()).unwrap();
    assert_eq!(entries.first(), Some(&Entry::Older));
    let messages = entries.iter().filter(|entry| matches!(entry, Entry::Message { .. })).count();
    assert_eq!(messages, 11, "one was erased, and what was deleted without that is told behind");
    assert!(entries.contains(&Entry::Deleted { first: 8, last: 9 }));
    let Some(Entry::Consumer(consumer)) = entries.last() else { panic!("{entries:?}") };
    assert_eq!(consumer.config.name, "C");
    assert_eq!(consumer.state.pending.keys().copied().collect::<Vec<_>>(), [4, 5, 6]);
}

proptest! {
    #[test]
    fn damaged_older_archives_never_panic(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in 0.0..1.5_f64) {
        let mut tar = older();
        let at = at.index(tar.len());
        tar[at] = with;
        tar.truncate((tar.len() as f64 * cut) as usize);
        let _ = read_older(&tar);
    }
}
