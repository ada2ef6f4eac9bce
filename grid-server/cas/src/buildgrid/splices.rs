//! Puts blobs together that BuildGrid has in chunks alone (`SpliceBlob`): our storages hold every blob whole.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use grid_core::{Coded, Digest};
use sqlx::PgPool;

use super::{Imported, digest_of};
use crate::content::DigestSet;
use crate::decorators::verify::Verify;
use crate::index::Totals;
use crate::sql::error;
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// How many are asked for at a time.
const PAGE: i64 = 500;

const SPLICED: &str = "
SELECT m.id, m.hash, m.size_bytes, c.chunk_digests
FROM public.index_metadata m JOIN public.index_blob_chunks c ON c.index_id = m.id
WHERE m.id > $1 AND m.kind = 3 ORDER BY m.id LIMIT $2";

type Row = (i64, String, i64, Vec<String>);

/// Writes those to `store` that are not there; chunks are read from it.
pub(super) async fn join(
    pool: &PgPool,
    name: &Arc<str>,
    store: &SharedStore,
    done: &mut Imported,
) -> Result<(), StoreError> {
    let into = Verify::new(Arc::clone(store));
    let mut after = i64::MIN;
    loop {
        let page = sqlx::query_as(SPLICED).bind(after).bind(PAGE).fetch_all(pool).await;
        let page: Vec<Row> = page.map_err(|source| error(name, &source))?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        after = *last;
        let whole = |(_, hash, size, chunks): &Row| {
            Some((
                digest_of(hash, *size)?,
                chunks.iter().map(|chunk| chunk_of(chunk)).collect::<Option<_>>()?,
            ))
        };
        let sound: Vec<(Digest, Vec<Digest>)> = page.iter().filter_map(whole).collect();
        done.broken += (page.len() - sound.len()) as u64;
        let digests: Vec<Digest> = sound.iter().map(|(digest, _)| *digest).collect();
        let missing: DigestSet = store.find_missing(&digests).await?.into_iter().collect();
        for (digest, chunks) in sound.into_iter().filter(|(digest, _)| missing.contains(digest)) {
            match into.write(&digest, chained(Arc::clone(store), chunks)).await {
                Ok(()) => {
                    done.joined = done.joined.plus(Totals::of([&digest]));
                    done.new = done.new.plus(Totals::of([&digest]));
                }
                Err(error) if error.code().is_transient() => return Err(error),
                Err(error) => {
                    tracing::warn!(%digest, %error, "a blob that BuildGrid has in chunks can't be put together");
                    done.broken += 1;
                }
            }
        }
    }
}

/// The contents of blobs, one after another.
fn chained(store: SharedStore, chunks: Vec<Digest>) -> ByteStream {
    let read = move |chunk: Digest| {
        let store = Arc::clone(&store);
        async move { store.read(&chunk, ByteRange::default()).await }
    };
    Box::pin(stream::iter(chunks).then(read).try_flatten())
}

/// A chunk's digest, which BuildGrid writes as `hash/size`.
fn chunk_of(text: &str) -> Option<Digest> {
    let (hash, size) = text.split_once('/')?;
    digest_of(hash, size.parse().ok()?)
}
