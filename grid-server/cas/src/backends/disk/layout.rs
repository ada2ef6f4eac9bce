//! Where on a disk a blob lies: BuildGrid's layout for SHA-256, one folder more for every other function.

use std::path::{Path, PathBuf};

use grid_core::{Digest, DigestFunction};

/// What the names of our temporary files start with: others' are never touched.
pub(super) const TEMPORARY: &str = "grid-";

/// The folders of a disk storage.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    objects: PathBuf,
    temporary: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { objects: root.join("cas").join("objects"), temporary: root.join("tmp") }
    }

    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// `cas/objects/{hash[0:2]}/{hash[2:]}` under the root; other functions have a folder of their own, whose name
    /// can't be that of the first two digits of a hash.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let hash = digest.hash_hex();
        self.function_folder(digest.function()).join(&hash[..2]).join(&hash[2..])
    }

    pub(super) fn function_folder(&self, function: DigestFunction) -> PathBuf {
        match function {
            DigestFunction::Sha256 => self.objects.clone(),
            other => self.objects.join(other.name()),
        }
    }

    /// The 256 folders of a function's objects.
    pub(super) fn object_folders(
        &self,
        function: DigestFunction,
    ) -> impl Iterator<Item = (String, PathBuf)> + use<> {
        let parent = self.function_folder(function);
        (0..=u8::MAX).map(move |byte| {
            let prefix = hex::encode([byte]);
            let folder = parent.join(&prefix);
            (prefix, folder)
        })
    }

    /// The digest of the file `name` in the folder `prefix`; `None` for files that are no blobs.
    pub(super) fn digest(function: DigestFunction, prefix: &str, name: &str, size: u64) -> Option<Digest> {
        Digest::parse(function, &format!("{prefix}{name}"), i64::try_from(size).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_lies_where_buildgrid_puts_it() {
        let layout = Layout::new(Path::new("/cas"));
        let path = |function| layout.path(&Digest::of(function, b"abc"));
        assert_eq!(
            path(DigestFunction::Sha256),
            Path::new("/cas/cas/objects/ba/7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
        assert_eq!(
            path(DigestFunction::Sha1),
            Path::new("/cas/cas/objects/sha1/a9/993e364706816aba3e25717850c26c9cd0d89d")
        );
    }

    #[test]
    fn a_path_gives_its_digest_back() {
        for function in DigestFunction::ALL {
            let digest = Digest::of(function, b"abc");
            let hash = digest.hash_hex();
            assert_eq!(Layout::digest(function, &hash[..2], &hash[2..], 3), Some(digest));
            assert_eq!(Layout::digest(function, &hash[..2], "README", 3), None);
        }
    }
}
