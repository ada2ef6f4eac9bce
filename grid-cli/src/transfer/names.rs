//! ByteStream resource names of blobs (REAPI, `ContentAddressableStorage`).

use grid_core::{Digest, DigestFunction};
use uuid::Uuid;

/// The name under which to write `digest`; `zstd` for compressed content.
pub(crate) fn upload(instance: &str, upload: Uuid, digest: &Digest, zstd: bool) -> String {
    format!("{}uploads/{upload}/{}", prefix(instance), blob(digest, zstd))
}

/// The name under which to read `digest`; `zstd` for compressed content.
pub(crate) fn download(instance: &str, digest: &Digest, zstd: bool) -> String {
    format!("{}{}", prefix(instance), blob(digest, zstd))
}

fn prefix(instance: &str) -> String {
    if instance.is_empty() { String::new() } else { format!("{instance}/") }
}

fn blob(digest: &Digest, zstd: bool) -> String {
    let form = if zstd { "compressed-blobs/zstd" } else { "blobs" };
    // The function is told where the hash's length does not imply it, and left out everywhere else, for
    // servers older than the component.
    let function = match digest.function() {
        DigestFunction::Blake3 => "blake3/",
        _ => "",
    };
    format!("{form}/{function}{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        let sha = Digest::of(DigestFunction::Sha256, b"");
        let blake = Digest::of(DigestFunction::Blake3, b"");
        assert_eq!(download("", &sha, false), format!("blobs/{sha}"));
        assert_eq!(download("a/b", &blake, true), format!("a/b/compressed-blobs/zstd/blake3/{blake}"));
        let id = Uuid::nil();
        assert_eq!(upload("main", id, &sha, true), format!("main/uploads/{id}/compressed-blobs/zstd/{sha}"));
    }
}
