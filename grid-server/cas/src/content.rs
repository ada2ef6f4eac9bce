//! Making, measuring and gathering [`ByteStream`]s: the few things that backends and decorators all do to content.

use bytes::{Bytes, BytesMut};
use futures::stream::{self, TryStreamExt};
use grid_core::Digest;

use crate::{ByteRange, ByteStream, StoreError};

/// The size of the pieces in which stores give content out, in bytes: large enough that a piece's overhead does not
/// show, small enough that a thousand slow readers hold little.
pub const PIECE: usize = 128 * 1024;

/// Content that is in memory, in pieces that share its allocation.
#[must_use]
pub fn from_bytes(content: Bytes) -> ByteStream {
    if content.len() <= PIECE {
        return Box::pin(stream::iter((!content.is_empty()).then_some(Ok(content))));
    }
    Box::pin(stream::unfold(content, |mut rest| async move {
        let piece = rest.split_to(PIECE.min(rest.len()));
        (!piece.is_empty()).then_some((Ok(piece), rest))
    }))
}

/// Content that fails at once.
#[must_use]
pub fn failed(error: StoreError) -> ByteStream {
    Box::pin(stream::iter([Err(error)]))
}

/// The part of `content` that `range` asks for; shares its allocation.
///
/// # Errors
/// [`StoreError::OutOfRange`] for an offset past the end.
pub fn slice(digest: &Digest, content: &Bytes, range: ByteRange) -> Result<Bytes, StoreError> {
    let (start, end) = bounds(digest, range)?;
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
    Ok(content.slice(index(start)..index(end)))
}

/// The first byte that `range` asks for, and the one after the last, within the blob.
///
/// # Errors
/// [`StoreError::OutOfRange`] for an offset past the end.
pub fn bounds(digest: &Digest, range: ByteRange) -> Result<(u64, u64), StoreError> {
    let size = digest.size();
    if range.offset > size {
        return Err(StoreError::OutOfRange { digest: *digest, offset: range.offset });
    }
    let end = range.limit.map_or(size, |limit| range.offset.saturating_add(limit).min(size));
    Ok((range.offset, end))
}

/// `content`, with an error in place of its end where it is not exactly as long as `digest` says, and as soon as it
/// is longer.
#[must_use]
pub fn exact(digest: Digest, content: ByteStream) -> ByteStream {
    let state = (content, 0_u64, false);
    Box::pin(stream::try_unfold(state, move |(mut content, mut seen, done)| async move {
        if done {
            return Ok(None);
        }
        let mismatch = |actual| StoreError::SizeMismatch { expected: digest, actual };
        match content.try_next().await? {
            Some(piece) => {
                seen += piece.len() as u64;
                if seen > digest.size() {
                    return Err(mismatch(seen));
                }
                Ok(Some((piece, (content, seen, false))))
            }
            None if seen == digest.size() => Ok(None),
            None => Err(mismatch(seen)),
        }
    }))
}

/// All of `content`, which must be exactly as long as `digest` says; for blobs that the caller knows to be small.
///
/// # Errors
/// The error that `content` ended in; [`StoreError::SizeMismatch`].
pub async fn collect(digest: &Digest, content: ByteStream) -> Result<Bytes, StoreError> {
    let mut content = exact(*digest, content);
    let Some(first) = content.try_next().await? else { return Ok(Bytes::new()) };
    if first.len() as u64 == digest.size() {
        return match content.try_next().await? {
            None => Ok(first),
            Some(_) => Err(StoreError::SizeMismatch { expected: *digest, actual: digest.size() + 1 }),
        };
    }
    let mut all = BytesMut::with_capacity(usize::try_from(digest.size()).unwrap_or(0));
    all.extend_from_slice(&first);
    while let Some(piece) = content.try_next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// Those of `digests` for which `present` is false and which are not the empty blob: in order, each once.
pub fn missing_of(digests: &[Digest], mut present: impl FnMut(&Digest) -> bool) -> Vec<Digest> {
    let absent = digests.iter().filter(|d| !is_empty_blob(d) && !present(d)).copied().collect();
    dedup(absent)
}

/// What of a batch to write is to be stored, each blob once; and the places of those whose length is wrong, with their
/// error. The empty blob is neither.
pub fn sized(blobs: Vec<(Digest, Bytes)>) -> (DigestMap<Bytes>, Vec<(usize, StoreError)>) {
    let (mut good, mut wrong) = (DigestMap::default(), Vec::new());
    for (place, (digest, bytes)) in blobs.into_iter().enumerate() {
        let actual = bytes.len() as u64;
        if actual != digest.size() {
            wrong.push((place, StoreError::SizeMismatch { expected: digest, actual }));
        } else if !is_empty_blob(&digest) {
            good.insert(digest, bytes);
        }
    }
    (good, wrong)
}

/// The answers to a batch in the order of `digests`, with those of [`sized`] in their places; what there is no answer
/// for needed nothing.
#[must_use]
pub fn answers(
    digests: &[Digest],
    answers: &DigestMap<Result<(), StoreError>>,
    wrong: Vec<(usize, StoreError)>,
) -> Vec<Result<(), StoreError>> {
    let answer = |digest| answers.get(digest).cloned().unwrap_or(Ok(()));
    let mut ordered: Vec<_> = digests.iter().map(answer).collect();
    for (place, error) in wrong {
        ordered[place] = Err(error);
    }
    ordered
}

/// `digests` in their order, each once.
#[must_use]
pub fn dedup(mut digests: Vec<Digest>) -> Vec<Digest> {
    if digests.len() > 1 {
        let mut seen =
            DigestSet::with_capacity_and_hasher(digests.len(), foldhash::fast::RandomState::default());
        digests.retain(|digest| seen.insert(*digest));
    }
    digests
}

/// A set of digests, hashed with a seed of this process: what clients send can't make it slow.
pub type DigestSet = std::collections::HashSet<Digest, foldhash::fast::RandomState>;

/// A map by digest, hashed with a seed of this process: what clients send can't make it slow.
pub type DigestMap<V> = std::collections::HashMap<Digest, V, foldhash::fast::RandomState>;

/// As [`Digest::is_empty_blob`], without computing a hash for each blob that is not empty.
#[must_use]
pub fn is_empty_blob(digest: &Digest) -> bool {
    digest.size() == 0 && digest.is_empty_blob()
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;
    use proptest::prelude::*;

    use super::*;

    fn digest_of(size: u64) -> Digest {
        Digest::new(DigestFunction::Sha256, &[7; 32], size).unwrap()
    }

    #[tokio::test]
    async fn exact_refuses_short_and_long_content() {
        let pieces = || from_bytes(Bytes::from(vec![1; 10]));
        assert_eq!(collect(&digest_of(10), pieces()).await.unwrap().len(), 10);
        for size in [9, 11] {
            let error = collect(&digest_of(size), pieces()).await.unwrap_err();
            assert!(matches!(error, StoreError::SizeMismatch { actual: 10, .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_slice_is_what_the_range_says(
            size in 0_usize..300,
            offset in 0_usize..400,
            limit in proptest::option::of(0_usize..400),
        ) {
            let content: Bytes = (0..=250).cycle().take(size).collect();
            let range = ByteRange { offset: offset as u64, limit: limit.map(|l| l as u64) };
            let expected: Vec<u8> =
                content.iter().copied().skip(offset).take(limit.unwrap_or(usize::MAX)).collect();
            match slice(&digest_of(size as u64), &content, range) {
                Ok(part) => prop_assert_eq!(part, expected),
                Err(error) => {
                    let out_of_range = matches!(error, StoreError::OutOfRange { .. });
                    prop_assert!(offset > size && out_of_range);
                }
            }
        }
    }
}
