//! One conformance suite for every [`ActionCache`](crate::ActionCache): see [`action_cache_conformance!`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is its verdict"
)]

use std::any::Any;

use futures::future::join_all;
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{ActionResult, ExecutedActionMetadata, OutputFile};

use crate::{CacheError, SharedCache};

/// Makes a module of tests, one for each rule, on the [`Subject`] that the expression gives.
#[macro_export]
macro_rules! action_cache_conformance {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;

            $crate::action_cache_conformance!(@each tests ($subject));
        }
    };
    (@each $kind:ident $subject:tt) => {
        $crate::action_cache_conformance! {
            @$kind $subject
            an_unknown_action_has_no_result,
            a_result_comes_back_as_it_went_in,
            a_second_result_replaces_the_first,
            the_first_result_stays,
            concurrent_writers_leave_one_of_their_results,
            an_inserted_result_stays,
            one_of_many_inserters_succeeds,
            a_deleted_result_is_gone,
            other_digests_have_other_results,
            random_calls_agree_with_a_map,
            the_cache_answers_a_probe
        }
    };
    (@tests ($subject:expr) $($rule:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let subject = $subject;
                if subject.is_held_to(stringify!($rule)) {
                    $crate::conformance::$rule(&subject).await;
                }
            }
        )*
    };
    (@names () $($rule:ident),*) => { &[$(stringify!($rule)),*] };
}

/// The names of all rules.
pub const RULES: &[&str] = action_cache_conformance!(@each names ());

/// A cache under test, which must be empty, and what it promises.
#[derive(Debug)]
pub struct Subject {
    /// The cache.
    pub cache: SharedCache,
    /// Whether a later result replaces the first (not so for `write_once`).
    pub replaces: bool,
    /// Whether entries can be deleted and inserted through it: REAPI has no calls for that.
    pub full: bool,
    _keeper: Box<dyn Keeper>,
}

trait Keeper: Any + Send + Sync {}
impl<T: Any + Send + Sync> Keeper for T {}

impl std::fmt::Debug for dyn Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl Subject {
    /// A cache that promises everything.
    #[must_use]
    pub fn new(cache: SharedCache) -> Self {
        Self { cache, replaces: true, full: true, _keeper: Box::new(()) }
    }

    /// Keeps `keeper` alive with the cache.
    #[must_use]
    pub fn keeping(mut self, keeper: impl Any + Send + Sync) -> Self {
        self._keeper = Box::new(keeper);
        self
    }

    /// Keeps `keeper` alive as well.
    #[must_use]
    pub fn keeping_too(mut self, keeper: impl Any + Send + Sync) -> Self {
        let before = self._keeper;
        self._keeper = Box::new((before, keeper));
        self
    }

    /// The same keeper around a cache made of the cache.
    #[must_use]
    pub fn map(mut self, make: impl FnOnce(SharedCache) -> SharedCache) -> Self {
        self.cache = make(self.cache);
        self
    }

    /// The same cache, where the first result stays.
    #[must_use]
    pub fn keeping_the_first(mut self) -> Self {
        self.replaces = false;
        self
    }

    /// The same cache, which can neither delete nor insert.
    #[must_use]
    pub fn served(mut self) -> Self {
        self.full = false;
        self
    }

    /// Whether a rule is about what this cache promises.
    #[must_use]
    pub fn is_held_to(&self, rule: &str) -> bool {
        match rule {
            "a_second_result_replaces_the_first" => self.replaces,
            "the_first_result_stays" => !self.replaces,
            "an_inserted_result_stays" | "one_of_many_inserters_succeeds" | "a_deleted_result_is_gone" => {
                self.full
            }
            _ => true,
        }
    }
}

/// The digest of an action.
#[must_use]
pub fn action(number: u64) -> Digest {
    Digest::of(DigestFunction::Sha256, &number.to_le_bytes())
}

/// A result that differs with `seed`.
#[must_use]
pub fn result(seed: i64) -> ActionResult {
    ActionResult {
        stdout_raw: format!("hello {seed}").into_bytes().into(),
        execution_metadata: Some(ExecutedActionMetadata {
            worker: format!("worker-{seed}"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// No entry is no error.
pub async fn an_unknown_action_has_no_result(subject: &Subject) {
    assert_eq!(subject.cache.get(&action(1)).await.unwrap(), None);
}

/// Every field comes back, also of a result with very many files.
pub async fn a_result_comes_back_as_it_went_in(subject: &Subject) {
    let mut large = result(1);
    let file = |i| OutputFile { path: format!("out/{i}"), contents: "x".into(), ..Default::default() };
    large.output_files = (0..10_000).map(file).collect();
    large.exit_code = 0;
    for (number, result) in [(1, result(7)), (2, large), (3, ActionResult::default())] {
        subject.cache.update(&action(number), &result).await.unwrap();
        assert!(subject.cache.get(&action(number)).await.unwrap() == Some(result), "action {number}");
    }
}

/// The latest result counts.
pub async fn a_second_result_replaces_the_first(subject: &Subject) {
    for seed in [1, 2] {
        subject.cache.update(&action(1), &result(seed)).await.unwrap();
        assert_eq!(subject.cache.get(&action(1)).await.unwrap(), Some(result(seed)));
    }
}

/// In a cache that keeps the first result, the second is refused.
pub async fn the_first_result_stays(subject: &Subject) {
    subject.cache.update(&action(1), &result(1)).await.unwrap();
    let second = subject.cache.update(&action(1), &result(2)).await;
    assert!(matches!(second, Err(CacheError::AlreadyWritten(_))), "{second:?}");
    assert_eq!(subject.cache.get(&action(1)).await.unwrap(), Some(result(1)));
}

/// Of results that are written at once, one whole one is kept, and nobody who may write is refused.
pub async fn concurrent_writers_leave_one_of_their_results(subject: &Subject) {
    let updates = (0..8).map(|seed| {
        let cache = subject.cache.clone();
        tokio::spawn(async move { cache.update(&action(1), &result(seed)).await })
    });
    let answers: Vec<_> = join_all(updates).await.into_iter().map(Result::unwrap).collect();
    let taken: Vec<i64> =
        (0..8).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(seed, _)| seed).collect();
    assert_eq!(taken.len(), if subject.replaces { 8 } else { 1 }, "{answers:?}");
    let kept = subject.cache.get(&action(1)).await.unwrap().unwrap();
    assert!(taken.iter().any(|seed| kept == result(*seed)), "{kept:?}");
}

/// `insert` never replaces.
pub async fn an_inserted_result_stays(subject: &Subject) {
    subject.cache.insert(&action(1), &result(1)).await.unwrap();
    let second = subject.cache.insert(&action(1), &result(2)).await;
    assert!(matches!(second, Err(CacheError::AlreadyWritten(_))), "{second:?}");
    assert_eq!(subject.cache.get(&action(1)).await.unwrap(), Some(result(1)));
}

/// Of many at once, exactly one, and it is its result that stays.
pub async fn one_of_many_inserters_succeeds(subject: &Subject) {
    for round in 0..10 {
        let inserts = (0..8).map(|seed| {
            let cache = subject.cache.clone();
            tokio::spawn(async move { cache.insert(&action(round), &result(seed)).await })
        });
        let answers: Vec<_> = join_all(inserts).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> =
            (0..8).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(seed, _)| seed).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert_eq!(subject.cache.get(&action(round)).await.unwrap(), Some(result(winners[0])));
    }
}

/// A deleted entry is gone and can be written again; deleting what is absent succeeds.
pub async fn a_deleted_result_is_gone(subject: &Subject) {
    for _ in 0..2 {
        subject.cache.update(&action(1), &result(1)).await.unwrap();
        subject.cache.delete(&action(1)).await.unwrap();
        assert_eq!(subject.cache.get(&action(1)).await.unwrap(), None);
        subject.cache.delete(&action(1)).await.unwrap();
    }
}

/// Function, hash and size together are the key.
pub async fn other_digests_have_other_results(subject: &Subject) {
    let first = action(1);
    let digests = [
        first,
        action(2),
        Digest::new(DigestFunction::Sha256, first.hash_bytes(), first.size() + 1).unwrap(),
        Digest::new(DigestFunction::Blake3, first.hash_bytes(), first.size()).unwrap(),
    ];
    for (seed, digest) in (0..).zip(&digests) {
        assert_eq!(subject.cache.get(digest).await.unwrap(), None, "{digest:?}");
        subject.cache.update(digest, &result(seed)).await.unwrap();
    }
    for (seed, digest) in (0..).zip(&digests) {
        assert_eq!(subject.cache.get(digest).await.unwrap(), Some(result(seed)));
    }
}

/// Random calls about a few actions, one after another, agree with a map.
pub async fn random_calls_agree_with_a_map(subject: &Subject) {
    let (mut model, mut state) = (std::collections::HashMap::new(), 7_u64);
    for seed in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let action = action(state >> 60);
        match (state >> 40) % 6 {
            0 if subject.full => {
                subject.cache.delete(&action).await.unwrap();
                model.remove(&action);
            }
            1 if subject.full => {
                let inserted = subject.cache.insert(&action, &result(seed)).await;
                assert_eq!(inserted.is_ok(), !model.contains_key(&action), "{inserted:?}");
                model.entry(action).or_insert(seed);
            }
            2 | 3 => {
                let updated = subject.cache.update(&action, &result(seed)).await;
                assert_eq!(updated.is_ok(), subject.replaces || !model.contains_key(&action), "{updated:?}");
                if updated.is_ok() {
                    model.insert(action, seed);
                }
            }
            _ => {
                let kept = model.get(&action).map(|seed| result(*seed));
                assert_eq!(subject.cache.get(&action).await.unwrap(), kept);
            }
        }
    }
}

/// The cache says that it answers.
pub async fn the_cache_answers_a_probe(subject: &Subject) {
    subject.cache.probe().await.unwrap();
}
