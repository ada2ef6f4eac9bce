//! The names of `ByteStream` resources: blobs, uploads and log streams.
//!
//! REAPI, `ContentAddressableStorage`: `{instance}/blobs/…`, `{instance}/compressed-blobs/…` and both beneath
//! `{instance}/uploads/{uuid}/`. Log Stream API: `{parent}/logstreams/{id}` and, to write, one segment more;
//! BuildGrid spells it `logStreams`. An instance's name can hold none of the reserved segments, so the first
//! reserved one ends it.

use grid_core::{Digest, DigestFunction};

use crate::RpcError;
use crate::compression::Compression;

/// What a resource name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A blob to read.
    Blob(Blob<'a>),
    /// A blob to write, and the client's name for this attempt.
    Upload {
        /// The blob.
        blob: Blob<'a>,
        /// The client's identifier of the upload.
        uuid: &'a str,
    },
    /// A log stream, by the whole name as given.
    LogStream(&'a str),
}

/// A blob of an instance, in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob<'a> {
    /// The instance's name as given.
    pub instance: &'a str,
    /// The digest of the uncompressed blob.
    pub digest: Digest,
    /// The form in which its bytes travel.
    pub compression: Compression,
}

impl<'a> Resource<'a> {
    /// Reads a resource name.
    ///
    /// # Errors
    /// [`RpcError::Field`] and [`RpcError::Digest`], which name what is wrong with it.
    pub fn parse(name: &'a str) -> Result<Self, RpcError> {
        // The unnamed instance adds no slash.
        if name.starts_with('/') {
            return Err(form(name));
        }
        let mut start = 0;
        for segment in name.split('/') {
            // The instance's name, without the slash that ends it.
            let instance = &name[..start.max(1) - 1];
            let rest = &name[(start + segment.len() + 1).min(name.len())..];
            match segment {
                "blobs" | "compressed-blobs" => return blob(instance, segment, rest, false).map(Self::Blob),
                "uploads" => return upload(instance, rest),
                "logstreams" | "logStreams" => return Ok(Self::LogStream(name)),
                _ => start += segment.len() + 1,
            }
        }
        Err(form(name))
    }
}

fn form(name: &str) -> RpcError {
    let shown: String = name.chars().take(256).collect();
    RpcError::field(
        "resource_name",
        format!(
            "{shown:?} names neither a blob ([INSTANCE/]blobs/HASH/SIZE), an upload ([INSTANCE/]uploads/UUID/blobs/HASH/SIZE) nor a log stream"
        ),
    )
}

fn upload<'a>(instance: &'a str, rest: &'a str) -> Result<Resource<'a>, RpcError> {
    let missing = || RpcError::field("resource_name", "an upload is named uploads/UUID/blobs/HASH/SIZE");
    let (uuid, rest) = rest.split_once('/').ok_or_else(missing)?;
    let (kind, rest) = rest.split_once('/').ok_or_else(missing)?;
    if uuid.is_empty() || uuid.len() > 255 || !matches!(kind, "blobs" | "compressed-blobs") {
        return Err(missing());
    }
    Ok(Resource::Upload { blob: blob(instance, kind, rest, true)?, uuid })
}

/// The part after `blobs/` or `compressed-blobs/`; uploads may carry metadata of the client's after it.
fn blob<'a>(instance: &'a str, kind: &str, rest: &'a str, metadata: bool) -> Result<Blob<'a>, RpcError> {
    let mut segments = rest.split('/');
    let mut next = || segments.next().unwrap_or_default();
    let compression = match kind {
        "blobs" => Compression::Identity,
        _ => compressor(next())?,
    };
    let mut hash = next();
    let function = DigestFunction::from_name(hash);
    if function.is_some() {
        hash = next();
    }
    let size = next();
    let size = parse_size(size).ok_or_else(|| {
        let shown: String = size.chars().take(32).collect();
        RpcError::field("resource_name", format!("{shown:?} is not a blob's size in bytes"))
    })?;
    if !metadata && segments.next().is_some() {
        return Err(RpcError::field("resource_name", "goes on after the blob's size"));
    }
    let digest = Digest::parse_inferring(function, hash, size)
        .map_err(|source| RpcError::Digest { field: "resource_name", source })?;
    Ok(Blob { instance, digest, compression })
}

fn compressor(name: &str) -> Result<Compression, RpcError> {
    Compression::from_name(name).ok_or_else(|| {
        let shown: String = name.chars().take(32).collect();
        RpcError::field("resource_name", format!("compressor {shown:?} is not supported; zstd is"))
    })
}

// `i64::from_str` would take a sign.
fn parse_size(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn digest(function: DigestFunction) -> Digest {
        Digest::parse(function, HASH, 7).unwrap()
    }

    #[test]
    fn every_form_of_the_specification_is_read() {
        let sha = digest(DigestFunction::Sha256);
        let identity = |instance| Blob { instance, digest: sha, compression: Compression::Identity };
        let parse = |name: &'static str| Resource::parse(Box::leak(name.replace('H', HASH).into_boxed_str()));
        assert_eq!(parse("blobs/H/7").unwrap(), Resource::Blob(identity("")));
        assert_eq!(parse("a/b/blobs/H/7").unwrap(), Resource::Blob(identity("a/b")));
        assert_eq!(parse("blobs/sha256/H/7").unwrap(), Resource::Blob(identity("")));
        let zstd = Blob { instance: "m", digest: sha, compression: Compression::Zstd };
        assert_eq!(parse("m/compressed-blobs/zstd/H/7").unwrap(), Resource::Blob(zstd));
        let blake = Blob { digest: digest(DigestFunction::Blake3), ..zstd };
        assert_eq!(parse("m/compressed-blobs/zstd/blake3/H/7").unwrap(), Resource::Blob(blake));
        let upload = |blob| Resource::Upload { blob, uuid: "u-1" };
        assert_eq!(parse("uploads/u-1/blobs/H/7").unwrap(), upload(identity("")));
        assert_eq!(parse("m/uploads/u-1/compressed-blobs/zstd/H/7/x/y").unwrap(), upload(zstd));
        assert_eq!(parse("m/uploads/u-1/blobs/H/7/some/file").unwrap(), upload(identity("m")));
        assert!(matches!(parse("p/logStreams/x").unwrap(), Resource::LogStream("p/logStreams/x")));
    }

    #[test]
    fn malformed_names_are_refused() {
        for name in [
            "",
            "/",
            "blobs",
            "blobs/",
            "blobs/H",
            "blobs/H/",
            "blobs/H/x",
            "blobs/H/-7",
            "blobs/H/+7",
            "blobs/H/99999999999999999999",
            "blobs/H/7/more",
            "blobs/md5/H/7",
            "blobs/xyz/H/7",
            "uploads/u/H/7",
            "uploads//blobs/H/7",
            "uploads/u/blobs",
            "compressed-blobs/H/7",
            "compressed-blobs/brotli/H/7",
            "compressed-blobs/identity/H/7",
            "main/H/7",
            "/blobs/H/7",
        ] {
            let name = name.replace('H', HASH);
            assert!(Resource::parse(&name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(name in "(uploads|blobs|compressed-blobs|zstd|[a-f0-9é/]{0,8}|/){0,12}") {
            let _ = Resource::parse(&name);
        }

        #[test]
        fn any_instance_is_found_again(instance in "[a-z]{1,5}(/[a-z]{1,5}){0,3}") {
            prop_assume!(!instance.split('/').any(|s| matches!(s, "blobs" | "uploads")));
            let name = format!("{instance}/uploads/u/blobs/{HASH}/7");
            let Ok(Resource::Upload { blob, .. }) = Resource::parse(&name) else { panic!("{name}") };
            prop_assert_eq!(blob.instance, instance);
        }
    }
}
