//! Faults at each nth call of a cache within each decorator: what was acknowledged is given, and nothing that nobody wrote.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use grid_cache::conformance::{action, result};
use grid_cache::{ActionCache, CacheError, SharedCache};
use grid_cas::StoreError;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use super::trees::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call does nothing and fails.
    Before,
    /// The call does its work, and its answer is lost.
    After,
}

/// A cache around another that fails at one call.
#[derive(Debug)]
struct Faulty {
    inner: SharedCache,
    fault: Fault,
    countdown: AtomicU64,
}

impl Faulty {
    async fn call<T>(&self, work: impl Future<Output = Result<T, CacheError>>) -> Result<T, CacheError> {
        let step = |n: u64| n.checked_sub(1);
        let strikes = self.countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) == Ok(1);
        if strikes && self.fault == Fault::Before {
            return Err(away());
        }
        let answer = work.await;
        if strikes { Err(away()) } else { answer }
    }
}

fn away() -> CacheError {
    let message = "told to fail".to_owned();
    StoreError::Unavailable { backend: "faulty".into(), message, retry_after: None }.into()
}

#[async_trait]
impl ActionCache for Faulty {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        self.call(self.inner.get(action)).await
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.call(self.inner.update(action, result)).await
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.call(self.inner.insert(action, result)).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.call(self.inner.delete(action)).await
    }

    fn allows_updates(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.call(self.inner.probe()).await
    }
}

/// What an action's result may be: the last that was acknowledged, or one that was tried since.
#[derive(Default)]
struct Candidates {
    acknowledged: bool,
    seeds: Vec<i64>,
}

impl Candidates {
    fn allow(&self, given: Option<&ActionResult>) -> bool {
        match given {
            Some(given) => self.seeds.iter().any(|seed| *given == result(*seed)),
            None => !self.acknowledged,
        }
    }
}

async fn survives(name: &str, replaces: bool, tree: impl Fn(SharedCache) -> SharedCache) {
    for fault in [Fault::Before, Fault::After] {
        for n in 1..=25 {
            let faulty = Faulty { inner: lru(), fault, countdown: AtomicU64::new(n) };
            let cache = tree(Arc::new(faulty));
            let mut expected: HashMap<Digest, Candidates> = HashMap::new();
            for seed in 0..30 {
                let action = action(seed % 7);
                let candidates = expected.entry(action).or_default();
                let seed = i64::try_from(seed).unwrap();
                match cache.update(&action, &result(seed)).await {
                    Ok(()) => *candidates = Candidates { acknowledged: true, seeds: vec![seed] },
                    Err(CacheError::AlreadyWritten(_)) => {
                        assert!(!replaces && !candidates.seeds.is_empty(), "{name}: {fault:?} at call {n}");
                    }
                    Err(_) => candidates.seeds.push(seed),
                }
                if let Ok(given) = cache.get(&action).await {
                    assert!(candidates.allow(given.as_ref()), "{name}: {fault:?} at call {n}: {given:?}");
                }
            }
            for (action, candidates) in expected {
                let given = cache.get(&action).await.unwrap();
                assert!(candidates.allow(given.as_ref()), "{name}: {fault:?} at call {n}: {given:?}");
            }
        }
    }
}

/// Makes a test of each tree around a cache that fails.
macro_rules! survive {
    ($($name:ident $replaces:literal: $tree:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            survives(stringify!($name), $replaces, $tree).await;
        })*
    };
}

survive! {
    with_cache_does_its_cache true: |faulty| with_cache(faulty, lru());
    with_cache_does_its_fallback true: |faulty| with_cache(lru(), faulty);
    mirrored_does_its_first true: |faulty| mirrored(faulty, lru());
    mirrored_does_its_second true: |faulty| mirrored(lru(), faulty);
    sharded_does true: |faulty| sharded_over(faulty, lru());
    write_once_does false: write_once;
    successes_only_does true: successes_only;
    completeness_does true: complete;
    with_cache_over_write_once_does false: |faulty| with_cache(lru(), write_once(faulty));
}
