//! Where on a disk a blob lies: BuildGrid's layout for SHA-256, one folder more for every other function.

use std::path::{Path, PathBuf};

use grid_core::{Digest, DigestFunction};

use crate::form::Form;

/// What the names of our temporary files start with: others' are never touched.
pub(super) const TEMPORARY: &str = "grid-";

/// The folders of a disk storage.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    objects: PathBuf,
    temporary: PathBuf,
    form: Form,
}

impl Layout {
    pub(super) fn new(root: &Path, form: Form) -> Self {
        Self { objects: root.join("cas").join("objects"), temporary: root.join("tmp"), form }
    }

    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// `cas/objects/{hash[0:2]}/{hash[2:]}` under the root; other functions have a folder of their own, whose name
    /// can't be that of the first two digits of a hash. The file of a packed blob has the blob's size in its name.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let hash = digest.hash_hex();
        let name = match self.form {
            Form::Plain => hash[2..].to_owned(),
            Form::Packed => self.form.name(format!("{}_{}", &hash[2..], digest.size())),
        };
        self.function_folder(digest.function()).join(&hash[..2]).join(name)
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

    /// The digest of the file `name` of so many bytes in the folder `prefix`; `None` for files that are no blobs.
    pub(super) fn digest(
        &self,
        function: DigestFunction,
        prefix: &str,
        name: &str,
        length: u64,
    ) -> Option<Digest> {
        let (rest, size) = match self.form {
            Form::Plain => (name, i64::try_from(length).ok()?),
            Form::Packed => {
                let (rest, size) = self.form.plain_name(name)?.rsplit_once('_')?;
                (rest, size.parse().ok()?)
            }
        };
        Digest::parse(function, &format!("{prefix}{rest}"), size).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_lies_where_buildgrid_puts_it() {
        let layout = Layout::new(Path::new("/cas"), Form::Plain);
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
        for (form, length) in [(Form::Plain, 3), (Form::Packed, 99)] {
            let layout = Layout::new(Path::new("/cas"), form);
            for function in DigestFunction::ALL {
                let digest = Digest::of(function, b"abc");
                let path = layout.path(&digest);
                let name = path.file_name().unwrap().to_str().unwrap();
                let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
                assert_eq!(layout.digest(function, folder, name, length), Some(digest));
                assert_eq!(layout.digest(function, folder, "README", 3), None);
                let other = if form == Form::Plain { Form::Packed } else { Form::Plain };
                assert_eq!(Layout::new(Path::new("/cas"), other).digest(function, folder, name, 3), None);
            }
        }
    }
}
