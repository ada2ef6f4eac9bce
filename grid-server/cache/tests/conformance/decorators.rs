//! What single decorators promise beyond the suite.

use std::sync::Arc;
use std::time::Duration;

use grid_cache::backends::lru::Lru;
use grid_cache::conformance::{action, result};
use grid_cache::decorators::allow_updates::ReadOnly;
use grid_cache::{ActionCache, CacheError, SharedCache};
use grid_cas::StoreError;
use grid_cas::wait::until_available;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;
use tokio::time::Instant;

use super::trees::*;

#[tokio::test]
async fn the_least_recently_used_result_leaves_first() {
    let cache = Lru::new(2);
    for number in [1, 2] {
        cache.update(&action(number), &result(0)).await.unwrap();
    }
    cache.get(&action(1)).await.unwrap().unwrap();
    cache.update(&action(3), &result(0)).await.unwrap();
    assert!(cache.get(&action(1)).await.unwrap().is_some());
    assert!(cache.get(&action(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_read_only_cache_refuses_every_change() {
    let inner = lru();
    inner.update(&action(1), &result(1)).await.unwrap();
    let cache = ReadOnly::new(inner);
    assert!(!cache.allows_updates());
    let refused = |answer| matches!(answer, Err(CacheError::UpdatesNotAllowed));
    assert!(refused(cache.update(&action(1), &result(2)).await));
    assert!(refused(cache.insert(&action(2), &result(2)).await));
    assert!(refused(cache.delete(&action(1)).await));
    assert_eq!(cache.get(&action(1)).await.unwrap(), Some(result(1)));
    assert!(!with_cache(lru(), Arc::new(cache)).allows_updates());
}

#[tokio::test]
async fn failures_are_taken_and_not_kept() {
    let cache = successes_only(lru());
    let failed = ActionResult { exit_code: 1, ..result(1) };
    cache.update(&action(1), &failed).await.unwrap();
    cache.insert(&action(1), &failed).await.unwrap();
    assert_eq!(cache.get(&action(1)).await.unwrap(), None);
}

#[tokio::test]
async fn the_cache_in_front_is_filled_and_a_delete_reaches_both() {
    let (front, back) = (lru(), lru());
    let cache = with_cache(front.clone(), back.clone());
    back.update(&action(1), &result(1)).await.unwrap();
    assert_eq!(cache.get(&action(1)).await.unwrap(), Some(result(1)));
    assert_eq!(front.get(&action(1)).await.unwrap(), Some(result(1)));
    cache.delete(&action(1)).await.unwrap();
    assert_eq!(cache.get(&action(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_mirror_is_filled_from_the_other() {
    let (first, second) = (lru(), lru());
    let cache = mirrored(first.clone(), second.clone());
    second.update(&action(1), &result(1)).await.unwrap();
    assert_eq!(cache.get(&action(1)).await.unwrap(), Some(result(1)));
    assert_eq!(first.get(&action(1)).await.unwrap(), Some(result(1)));
    second.update(&action(1), &result(2)).await.unwrap();
    assert_eq!(cache.get(&action(1)).await.unwrap(), Some(result(1)), "the first one counts");
}

/// A cache that is away; calls wait for it for a minute.
#[derive(Debug)]
struct Away;

impl Away {
    async fn call<T>(&self) -> Result<T, CacheError> {
        let away = || StoreError::Unavailable {
            backend: "a cache".into(),
            message: "away".into(),
            retry_after: None,
        };
        Ok(until_available(|| std::future::ready(Err(away()))).await?)
    }
}

#[async_trait::async_trait]
impl ActionCache for Away {
    async fn get(&self, _: &Digest) -> Result<Option<ActionResult>, CacheError> {
        self.call().await
    }
    async fn update(&self, _: &Digest, _: &ActionResult) -> Result<(), CacheError> {
        self.call().await
    }
    async fn insert(&self, _: &Digest, _: &ActionResult) -> Result<(), CacheError> {
        self.call().await
    }
    async fn delete(&self, _: &Digest) -> Result<(), CacheError> {
        self.call().await
    }
    fn allows_updates(&self) -> bool {
        true
    }
    async fn probe(&self) -> Result<(), CacheError> {
        self.call().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_away_is_not_waited_for_where_another_answers() {
    let away = || Arc::new(Away);
    for wrap in [
        |there| with_cache(Arc::new(Away), there) as SharedCache,
        |there| mirrored(Arc::new(Away), there),
        |there| mirrored(there, Arc::new(Away)),
    ] {
        let there = lru();
        there.update(&action(1), &result(1)).await.unwrap();
        let cache = wrap(there);
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(cache.get(&action(1)).await.unwrap(), Some(result(1)));
        }
        assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(cache.probe().await.is_ok(), "it serves");
    }
    assert!(mirrored(away(), away()).probe().await.is_err());
    let began = Instant::now();
    mirrored(away(), away()).get(&action(1)).await.unwrap_err();
    assert!(began.elapsed() > Duration::from_secs(50), "nobody else answers");
}
