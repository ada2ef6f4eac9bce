//! Recording what an asset is: only what is in the storage, and only what its own checksum allows.

use futures::TryStreamExt as _;
use grid_cas::{ByteRange, SharedStore};
use grid_core::{Digest, Timestamp};
use grid_proto::asset::{PushBlobRequest, PushDirectoryRequest, Qualifier};
use grid_proto::reapi;
use grid_streams::{Asset, AssetKey, AssetKind};
use tonic::Status;

use super::checksum::{Checksum, Hashing};
use super::qualifiers::Qualifiers;
use super::{AssetInstance, check_uris, presence};
use crate::digests::Reader;
use crate::error::status;
use crate::{RpcError, to_status};

/// The most blobs and trees that an asset may refer to.
const MAX_REFERENCES: usize = 10_000;

/// What both pushing calls say.
pub(super) struct Pushed {
    kind: AssetKind,
    pub(super) instance: String,
    uris: Vec<String>,
    qualifiers: Vec<Qualifier>,
    expire_at: Option<prost_types::Timestamp>,
    digest: Option<reapi::Digest>,
    blobs: Vec<reapi::Digest>,
    directories: Vec<reapi::Digest>,
    function: i32,
}

macro_rules! pushed {
    ($($request:ty => $kind:ident, $digest:ident;)*) => {$(
        impl From<$request> for Pushed {
            fn from(request: $request) -> Self {
                Self {
                    kind: AssetKind::$kind,
                    instance: request.instance_name,
                    uris: request.uris,
                    qualifiers: request.qualifiers,
                    expire_at: request.expire_at,
                    digest: request.$digest,
                    blobs: request.references_blobs,
                    directories: request.references_directories,
                    function: request.digest_function,
                }
            }
        }
    )*};
}
pushed! {
    PushBlobRequest => Blob, blob_digest;
    PushDirectoryRequest => Directory, root_directory_digest;
}

/// Records an asset under each of its URIs.
pub(super) async fn push(
    instance: &AssetInstance,
    name: &str,
    now: Timestamp,
    pushed: Pushed,
) -> Result<(), Status> {
    if instance.read_only {
        return Err(status(RpcError::PermissionDenied("assets can't be pushed to this instance".into())));
    }
    check_uris(&pushed.uris).map_err(status)?;
    let qualifiers = Qualifiers::parse(&pushed.qualifiers).map_err(status)?;
    let expires_at = expiry(&pushed, now).map_err(status)?;
    let (digest, references) = digests(instance, &pushed).map_err(status)?;
    let lost = presence::missing(&instance.store, [(pushed.kind, digest)]).await.map_err(status)?;
    if !lost.is_empty() {
        let violations = lost.iter().map(grid_cas::error::missing).collect();
        let message = "the asset is not in the storage as a whole; upload it first".into();
        return Err(status(RpcError::Missing { message, violations }));
    }
    if let Some(checksum) = qualifiers.checksum.as_ref().filter(|_| pushed.kind == AssetKind::Blob) {
        verify(&instance.store, &digest, checksum).await?;
    }
    let asset = Asset { digest, needs: present(instance, references).await?, pushed_at: now, expires_at };
    for uri in pushed.uris {
        let known_by = qualifiers.known_by.clone();
        let key = AssetKey { instance: name.to_owned(), kind: pushed.kind, uri, qualifiers: known_by };
        instance.assets.put(&key, &asset).await.map_err(status)?;
    }
    Ok(())
}

fn expiry(pushed: &Pushed, now: Timestamp) -> Result<Option<Timestamp>, RpcError> {
    let expires_at = pushed.expire_at.map(|t| Timestamp::from_parts(t.seconds, t.nanos));
    match expires_at {
        Some(at) if at <= now => Err(RpcError::field("expire_at", "has passed")),
        at => Ok(at),
    }
}

type References = Vec<(AssetKind, Digest)>;

fn digests(instance: &AssetInstance, pushed: &Pushed) -> Result<(Digest, References), RpcError> {
    let reader = Reader::new(pushed.function, &instance.functions)?;
    let field = match pushed.kind {
        AssetKind::Blob => "blob_digest",
        AssetKind::Directory => "root_directory_digest",
    };
    let digest = reader.required(field, pushed.digest.as_ref())?;
    if pushed.blobs.len() + pushed.directories.len() > MAX_REFERENCES {
        let problem = format!("with references_directories are more than {MAX_REFERENCES}");
        return Err(RpcError::field("references_blobs", problem));
    }
    let mut references = Vec::with_capacity(pushed.blobs.len() + pushed.directories.len());
    for blob in &pushed.blobs {
        references.push((AssetKind::Blob, reader.read("references_blobs", blob)?));
    }
    for directory in &pushed.directories {
        references.push((AssetKind::Directory, reader.read("references_directories", directory)?));
    }
    Ok((digest, references))
}

/// References that are there: what never was can't be kept alive, and an asset must not wait for it.
async fn present(instance: &AssetInstance, references: References) -> Result<References, Status> {
    let mut present = Vec::with_capacity(references.len());
    for reference in references {
        if presence::missing(&instance.store, [reference]).await.map_err(status)?.is_empty() {
            present.push(reference);
        }
    }
    Ok(present)
}

/// Refuses content that its own checksum contradicts, so that nobody can pass off one thing as another.
async fn verify(store: &SharedStore, digest: &Digest, checksum: &Checksum) -> Result<(), Status> {
    let hash = if checksum.function == digest.function() {
        digest.hash_bytes().to_vec()
    } else {
        let mut hashing = Hashing::new(digest.function(), Some(checksum.function));
        let mut content = store.read(digest, ByteRange::default()).await.map_err(status)?;
        while let Some(piece) = content.try_next().await.map_err(|error| to_status(&error))? {
            hashing.update(&piece);
        }
        hashing.finish().1
    };
    if checksum.takes(&hash) {
        return Ok(());
    }
    Err(status(RpcError::field("blob_digest", "is of content that checksum.sri does not match")))
}
