//! Random calls on a store and on a map agree.

use std::collections::HashMap;

use bytes::Bytes;
use grid_core::Digest;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::subject::{Subject, blob};
use crate::ByteRange;

/// One call; blobs are named by a small number so that calls meet.
#[derive(Clone, Debug)]
pub enum Call {
    /// `write` of the whole blob.
    Write(u64),
    /// `write_batch`.
    WriteBatch(Vec<u64>),
    /// `find_missing`.
    FindMissing(Vec<u64>),
    /// `read` of a part.
    Read(u64, u64, Option<u64>),
    /// `read_batch`.
    ReadBatch(Vec<u64>),
    /// `delete`.
    Delete(Vec<u64>),
}

/// The blob of a small number; sizes vary from nothing to more than a piece.
#[must_use]
pub fn numbered(number: u64) -> (Digest, Bytes) {
    let size = [0, 1, 100, 5_000, 140_000];
    blob(500 + number, size[usize::try_from(number).unwrap() % size.len()])
}

/// Random calls about twelve blobs.
pub fn calls() -> impl Strategy<Value = Vec<Call>> {
    let some = || prop::collection::vec(0_u64..12, 0..6);
    let call = prop_oneof![
        4 => (0_u64..12).prop_map(Call::Write),
        2 => some().prop_map(Call::WriteBatch),
        3 => some().prop_map(Call::FindMissing),
        3 => (0_u64..12, 0_u64..6_000, prop::option::of(0_u64..6_000)).prop_map(|(n, o, l)| Call::Read(n, o, l)),
        2 => some().prop_map(Call::ReadBatch),
        2 => some().prop_map(Call::Delete),
    ];
    prop::collection::vec(call, 1..60)
}

/// Three runs of random calls, one after another on the same store, agree with a map.
pub async fn random_calls_agree_with_a_map(subject: &Subject) {
    let mut model = HashMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..3 {
        for call in calls().new_tree(&mut runner).unwrap().current() {
            apply(subject, &mut model, &call).await;
        }
    }
}

async fn apply(subject: &Subject, model: &mut HashMap<Digest, Bytes>, call: &Call) {
    let store = &subject.store;
    let digests = |numbers: &[u64]| numbers.iter().map(|n| numbered(*n).0).collect::<Vec<_>>();
    match call {
        Call::Write(number) => {
            let (digest, bytes) = numbered(*number);
            subject.put(&digest, &bytes).await;
            model.insert(digest, bytes);
        }
        Call::WriteBatch(numbers) => {
            let blobs: Vec<_> = numbers.iter().map(|n| numbered(*n)).collect();
            assert!(store.write_batch(blobs.clone()).await.iter().all(Result::is_ok));
            model.extend(blobs);
        }
        Call::FindMissing(numbers) => {
            let mut expected = Vec::new();
            for digest in digests(numbers) {
                if digest.size() > 0 && !model.contains_key(&digest) && !expected.contains(&digest) {
                    expected.push(digest);
                }
            }
            assert_eq!(store.find_missing(&digests(numbers)).await.unwrap(), expected);
        }
        Call::Read(number, offset, limit) => {
            let (digest, bytes) = numbered(*number);
            let there = digest.size() == 0 || model.contains_key(&digest);
            let got = subject.get(&digest, ByteRange { offset: *offset, limit: *limit }).await;
            let expected = (there && *offset <= digest.size()).then(|| {
                let rest = bytes.iter().copied().skip(usize::try_from(*offset).unwrap());
                rest.take(usize::try_from(limit.unwrap_or(u64::MAX)).unwrap()).collect::<Bytes>()
            });
            assert_eq!(got.ok(), expected, "{call:?}");
        }
        Call::ReadBatch(numbers) => {
            let got = store.read_batch(&digests(numbers)).await;
            let expected = numbers.iter().map(|n| numbered(*n));
            let expected = expected.map(|(d, b)| (d.size() == 0 || model.contains_key(&d)).then_some(b));
            assert_eq!(got.into_iter().map(Result::ok).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        Call::Delete(numbers) if subject.deletes => {
            assert!(store.delete(&digests(numbers)).await.iter().all(Result::is_ok));
            digests(numbers).iter().for_each(|digest| drop(model.remove(digest)));
        }
        Call::Delete(_) => {}
    }
}
