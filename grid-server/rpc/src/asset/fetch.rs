//! Finding an asset: what was pushed first, then what is known by its checksum, then where it comes from.

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Coded, Digest, DigestFunction, Hasher, Timestamp};
use grid_proto::asset::{FetchBlobRequest, FetchDirectoryRequest, Qualifier};
use grid_proto::rpc;
use grid_streams::{Asset, AssetKey, AssetKind};
use http::HeaderMap;

use super::checksum::{Hashing, canonical};
use super::flights::Flights;
use super::origin::{Origin, OriginError};
use super::presence;
use super::qualifiers::{CHECKSUM, Qualifiers};
use super::{AssetInstance, check_uris};
use crate::digests::Reader;
use crate::error::{ok_status, to_rpc_status};
use crate::{RpcError, to_status};
use tonic::Status;

/// How long an origin is given where the client does not say, and at most.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// What both fetching calls ask.
pub(super) struct Wanted {
    pub(super) kind: AssetKind,
    pub(super) instance: String,
    timeout: Option<prost_types::Duration>,
    oldest: Option<prost_types::Timestamp>,
    uris: Vec<String>,
    pub(super) qualifiers: Vec<Qualifier>,
    function: i32,
}

macro_rules! wanted {
    ($($request:ty => $kind:ident),*) => {$(
        impl From<$request> for Wanted {
            fn from(request: $request) -> Self {
                Self {
                    kind: AssetKind::$kind,
                    instance: request.instance_name,
                    timeout: request.timeout,
                    oldest: request.oldest_content_accepted,
                    uris: request.uris,
                    qualifiers: request.qualifiers,
                    function: request.digest_function,
                }
            }
        }
    )*};
}
wanted!(FetchBlobRequest => Blob, FetchDirectoryRequest => Directory);

/// What both fetching calls answer.
pub(super) struct Found {
    pub(super) status: rpc::Status,
    pub(super) uri: String,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) digest: Option<Digest>,
}

/// One search through an instance.
pub(super) struct Search<'a> {
    instance: &'a AssetInstance,
    /// The instance's name.
    name: &'a str,
    now: Timestamp,
    wanted: &'a Wanted,
    qualifiers: Qualifiers,
    function: DigestFunction,
    timeout: Duration,
    flights: &'a Flights,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        instance: &'a AssetInstance,
        name: &'a str,
        now: Timestamp,
        wanted: &'a Wanted,
        flights: &'a Flights,
    ) -> Result<Self, RpcError> {
        check_uris(&wanted.uris)?;
        let qualifiers = Qualifiers::parse(&wanted.qualifiers)?;
        Reader::new(wanted.function, &instance.functions)?;
        let function = DigestFunction::from_wire(wanted.function).unwrap_or(DigestFunction::Sha256);
        let timeout = match wanted.timeout {
            None => TIMEOUT,
            Some(timeout) => Duration::try_from(timeout)
                .map_err(|_| RpcError::field("timeout", "is negative or no duration"))?
                .min(MAX_TIMEOUT),
        };
        Ok(Self { instance, name, now, wanted, qualifiers, function, timeout, flights })
    }

    pub(super) async fn run(&self) -> Result<Found, Status> {
        for uri in &self.wanted.uris {
            let key = self.key(uri.clone(), self.qualifiers.known_by.clone());
            if let Some(found) = self.known(&key, uri).await? {
                return Ok(found);
            }
        }
        if self.wanted.kind == AssetKind::Directory {
            return Ok(not_found());
        }
        for key in self.checksum_keys() {
            if let Some(found) = self.known(&key, &self.wanted.uris[0]).await? {
                return Ok(found);
            }
        }
        match &self.instance.origin {
            Some(origin) => self.fetch(origin).await,
            None => Ok(not_found()),
        }
    }

    fn key(&self, uri: String, qualifiers: Vec<(String, String)>) -> AssetKey {
        AssetKey { instance: self.name.to_owned(), kind: self.wanted.kind, uri, qualifiers }
    }

    /// Content that is pinned by its hash is the same wherever it comes from.
    fn checksum_keys(&self) -> impl Iterator<Item = AssetKey> {
        let hashes = self.qualifiers.checksum.iter().flat_map(super::checksum::Checksum::canonical);
        hashes.map(|hash| self.key(String::new(), by_checksum(hash)))
    }

    /// An asset that is recorded, new enough, and in the storage as a whole.
    async fn known(&self, key: &AssetKey, uri: &str) -> Result<Option<Found>, Status> {
        let asset = self.instance.assets.get(key).await.map_err(|error| to_status(&error))?;
        let Some(asset) = asset.filter(|asset| self.accepts(asset)) else { return Ok(None) };
        let all = asset.needs.iter().copied().chain([(key.kind, asset.digest)]);
        let missing =
            presence::missing(&self.instance.store, all).await.map_err(|error| to_status(&error))?;
        if !missing.is_empty() {
            return Ok(None);
        }
        let (uri, digest) = (uri.to_owned(), Some(asset.digest));
        Ok(Some(Found { status: ok_status(), uri, expires_at: asset.expires_at, digest }))
    }

    fn accepts(&self, asset: &Asset) -> bool {
        let oldest = self.wanted.oldest.map(|t| Timestamp::from_parts(t.seconds, t.nanos));
        asset.digest.function() == self.function && oldest.is_none_or(|oldest| asset.pushed_at >= oldest)
    }

    async fn fetch(&self, origin: &Arc<Origin>) -> Result<Found, Status> {
        let places = self.wanted.uris.iter().enumerate().filter(|(_, uri)| Origin::serves(uri));
        let mut failure = None;
        let deadline = tokio::time::Instant::now() + self.timeout;
        for (index, uri) in places {
            if failure.is_none() {
                self.qualifiers.fetchable().map_err(|error| to_status(&error))?;
            }
            let fetching = self.flights.join(self.same(index, uri), self.fetch_one(origin, index, uri));
            let fetched = tokio::time::timeout_at(deadline, fetching).await;
            match fetched.unwrap_or_else(|_| Err(Arc::new(OriginError::Timeout(self.timeout)))) {
                Ok(digest) => {
                    let (uri, digest) = (uri.clone(), Some(digest));
                    return Ok(Found { status: ok_status(), uri, expires_at: None, digest });
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(not_found()),
            Some(error) if error.is_answer() => {
                Ok(Found { status: to_rpc_status(error.as_ref()), ..not_found() })
            }
            Some(error) => Err(to_status(error.as_ref())),
        }
    }

    /// What tells the fetch of a URI from others. Headers may hold credentials, so it is a hash.
    fn same(&self, index: usize, uri: &str) -> Digest {
        let mut all = Hasher::new(DigestFunction::Sha256);
        let mut part = |bytes: &[u8]| {
            all.update(&(bytes.len() as u64).to_le_bytes());
            all.update(bytes);
        };
        part(self.name.as_bytes());
        part(uri.as_bytes());
        part(self.function.name().as_bytes());
        let checksum = self.qualifiers.checksum.iter().flat_map(super::checksum::Checksum::canonical);
        part(checksum.collect::<Vec<_>>().join(" ").as_bytes());
        let mut headers: Vec<_> = self.qualifiers.headers(index).collect();
        headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        for (name, value) in headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        all.finish()
    }

    async fn fetch_one(&self, origin: &Arc<Origin>, index: usize, uri: &str) -> Result<Digest, OriginError> {
        // Somebody else's fetch may have ended since this was looked for.
        for key in self.checksum_keys() {
            if let Ok(Some(Found { digest: Some(digest), .. })) = self.known(&key, uri).await {
                return Ok(digest);
            }
        }
        let headers: HeaderMap =
            self.qualifiers.headers(index).map(|(name, value)| (name.clone(), value.clone())).collect();
        let checksum = self.qualifiers.checksum.as_ref();
        let hashing = || Hashing::new(self.function, checksum.map(|checksum| checksum.function));
        let content = origin.fetch(uri, &headers, hashing).await?;
        let Some(checksum) = checksum else {
            // What a URI gives without a checksum may be another thing tomorrow: nothing is remembered.
            return content.store(&self.instance.store).await;
        };
        let hash = canonical(checksum.function, &content.hash);
        if !checksum.takes(&content.hash) {
            return Err(OriginError::Checksum(hash));
        }
        let digest = content.store(&self.instance.store).await?;
        self.remember(hash, digest).await;
        Ok(digest)
    }

    /// Records what was fetched by its checksum. Where that fails, it is fetched again another time.
    async fn remember(&self, hash: String, digest: Digest) {
        let key = self.key(String::new(), by_checksum(hash));
        let asset = Asset { digest, needs: Vec::new(), pushed_at: self.now, expires_at: None };
        if let Err(error) = self.instance.assets.put(&key, &asset).await {
            tracing::warn!(%error, "an asset that was fetched is not remembered");
        }
    }
}

/// The qualifiers of what is known by its hash alone; its URI is empty, which no client can push.
pub(super) fn by_checksum(hash: String) -> Vec<(String, String)> {
    vec![(CHECKSUM.to_owned(), hash)]
}

fn not_found() -> Found {
    let error =
        RpcError::NotFound("no such asset was pushed, and none of its URIs can be fetched: it is".into());
    Found { status: to_rpc_status(&error as &dyn Coded), uri: String::new(), expires_at: None, digest: None }
}
