//! The names of blobs in ByteStream (REAPI, `ByteStream` under `ContentAddressableStorage`).

use grid_core::{Digest, DigestFunction};
use uuid::Uuid;

/// `{instance/}blobs/{function/}{hash}/{size}`.
pub(super) fn read(instance: &str, digest: &Digest) -> String {
    format!("{}blobs/{}", prefix(instance), blob(digest))
}

/// `{instance/}uploads/{uuid}/blobs/{function/}{hash}/{size}`.
pub(super) fn write(instance: &str, digest: &Digest) -> String {
    format!("{}uploads/{}/blobs/{}", prefix(instance), Uuid::new_v4(), blob(digest))
}

fn prefix(instance: &str) -> String {
    if instance.is_empty() { String::new() } else { format!("{instance}/") }
}

/// The function is named only where the hash's length does not tell it: older servers know no other form.
fn blob(digest: &Digest) -> String {
    let told = DigestFunction::from_hash_len(digest.hash_bytes().len()) == Some(digest.function());
    if told { digest.to_string() } else { format!("{}/{digest}", digest.function()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        let sha = Digest::of(DigestFunction::Sha256, b"abc");
        let blake = Digest::of(DigestFunction::Blake3, b"abc");
        assert_eq!(read("", &sha), format!("blobs/{}/3", sha.hash_hex()));
        assert_eq!(read("a/b", &blake), format!("a/b/blobs/blake3/{}/3", blake.hash_hex()));
        let name = write("main", &sha);
        let parts: Vec<_> = name.split('/').collect();
        assert_eq!((parts[0], parts[1], parts[3], parts[5]), ("main", "uploads", "blobs", "3"));
        assert!(Uuid::parse_str(parts[2]).is_ok());
    }
}
