//! `!sharded-storage`: blobs spread over shards by rendezvous hashing, so that a new shard takes its part from each of
//! the others and leaves the rest where it is.

use std::io::Cursor;
use std::sync::Arc;

use grid_core::Digest;

use super::router::{Route, Router};
use crate::{SharedStore, StoreError};

/// Stores that share the blobs.
pub type Sharded = Router<Rendezvous>;

/// A blob belongs to the shard for which murmur3 (32 bits, seed 0) of `NAME TAB HASH` is least: BuildGrid's rule, so
/// that its shards can be taken over. Names make the hash, not places: shards may be listed in any order.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// Each shard's name with the tab.
    prefixes: Vec<Arc<[u8]>>,
}

impl Rendezvous {
    /// Spreads over shards of these names.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for no names, or one twice.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, StoreError> {
        let refuse =
            |message: String| Err(StoreError::Refused { backend: "!sharded-storage".into(), message });
        let mut seen = Vec::new();
        for name in names {
            if seen.contains(&name) {
                return refuse(format!("two shards are named {name:?}; give each a name of its own"));
            }
            seen.push(name);
        }
        if seen.is_empty() {
            return refuse("there are no shards; name one at least".into());
        }
        Ok(Self { prefixes: seen.iter().map(|name| format!("{name}\t").into_bytes().into()).collect() })
    }

    /// The same with `SALT TAB` before each hash, as BuildGrid's action caches have it.
    #[must_use]
    pub fn salted(self, salt: &str) -> Self {
        let salted = |prefix: &Arc<[u8]>| [prefix, salt.as_bytes(), b"\t"].concat().into();
        Self { prefixes: self.prefixes.iter().map(salted).collect() }
    }

    /// The place of the shard that `digest` belongs to.
    #[must_use]
    pub fn shard(&self, digest: &Digest) -> usize {
        let mut hash = [0; 128];
        let hash = &mut hash[..digest.hash_bytes().len() * 2];
        // The slice has the right length, which is all that can be wrong.
        if hex::encode_to_slice(digest.hash_bytes(), hash).is_err() {
            return 0;
        }
        let mut key = Vec::with_capacity(192);
        let score = |prefix: &[u8]| {
            key.clear();
            key.extend_from_slice(prefix);
            key.extend_from_slice(hash);
            murmur3::murmur3_32(&mut Cursor::new(&key), 0).unwrap_or(u32::MAX)
        };
        let scores = self.prefixes.iter().map(|prefix| &prefix[..]).map(score);
        scores.enumerate().min_by_key(|(_, score)| *score).map_or(0, |(place, _)| place)
    }
}

impl Route for Rendezvous {
    fn place(&self, digest: &Digest) -> usize {
        self.shard(digest)
    }
}

impl Sharded {
    /// A store over these shards, each with its name.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for no shards, or a name twice.
    pub fn new(shards: Vec<(String, SharedStore)>) -> Result<Self, StoreError> {
        let route = Rendezvous::new(shards.iter().map(|(name, _)| name.as_str()))?;
        Ok(Self::over(shards.into_iter().map(|(_, store)| store).collect(), route))
    }
}
