//! The sizes of blobs that are named by their hash alone.
//!
//! What is uploaded by HTTP, and what a result that HTTP asks for names, leaves an entry in the action cache: a result of an action that nobody can run, whose key is
//! made from the hash, and whose output is the blob. So a size is known on every replica, for as long as results are kept,
//! and an entry whose blob is gone counts as absent as any result's does.

use grid_cache::{CacheError, SharedCache, contents};
use grid_cas::SharedStore;
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::ActionResult;

use crate::RpcError;
use crate::digests::to_wire;

/// The digest of a blob.
pub(super) fn digest(hash: &str, size: u64) -> Result<Digest, RpcError> {
    let malformed = |source| RpcError::Digest { field: "the path's hash", source };
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    Digest::parse_inferring(None, hash, size).map_err(malformed)
}

/// The name of an action's result that came by HTTP, which does not say an action's size.
pub(super) fn result_key(action: &Digest) -> Digest {
    let text = format!("http-cache/ac/{}/{}", action.function(), action.hash_hex());
    Digest::of(DigestFunction::Sha256, text.as_bytes())
}

fn key(blob: &Digest) -> Digest {
    let text = format!("http-cache/cas/{}/{}", blob.function(), blob.hash_hex());
    Digest::of(DigestFunction::Sha256, text.as_bytes())
}

/// The digest of the blob with this hash, where its size is known.
pub(super) async fn find(cache: &SharedCache, hash: &str) -> Result<Option<Digest>, super::Failure> {
    let unsized_digest = digest(hash, 0)?;
    let function = unsized_digest.function();
    if Digest::of(function, b"").hash_hex() == unsized_digest.hash_hex() {
        return Ok(Some(Digest::of(function, b"")));
    }
    let entry = cache.get(&key(&unsized_digest)).await?;
    let Some(found) = entry.and_then(|entry| entry.stdout_digest) else { return Ok(None) };
    let size = u64::try_from(found.size_bytes).unwrap_or(0);
    Ok(Some(digest(hash, size)?))
}

/// Remembers the sizes of what a result names, for whoever asks for it next by HTTP. A size that can't be remembered makes
/// a miss of its blob, and no more.
pub(super) async fn keep_named(
    cache: &SharedCache,
    store: &SharedStore,
    action: &Digest,
    result: &ActionResult,
) {
    let named = match contents::all(store, action, result).await {
        Ok(named) => named,
        Err(error) => return tracing::debug!(%error, "what a result names could not be looked through"),
    };
    for blob in named {
        if let Err(error) = keep(cache, &blob).await {
            return tracing::debug!(%error, "the sizes of what a result names could not be kept");
        }
    }
}

/// Remembers a blob's size.
pub(super) async fn keep(cache: &SharedCache, blob: &Digest) -> Result<(), CacheError> {
    let entry = ActionResult { stdout_digest: Some(to_wire(blob)), ..ActionResult::default() };
    match cache.insert(&key(blob), &entry).await {
        Err(CacheError::AlreadyWritten(_)) => Ok(()),
        other => other,
    }
}
