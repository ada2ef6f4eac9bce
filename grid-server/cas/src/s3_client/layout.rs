//! [`Layout`]: the bucket and the key of a blob. For SHA-256 they are BuildGrid's, so that its buckets are used in
//! place; blobs of other digest functions lie in a folder of the function's name.

use grid_core::{Digest, DigestFunction};

/// Where blobs lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The bucket; `{digest[N]}` stands for a digit of the hash.
    pub bucket: String,
    /// A folder to stay in, without slashes at its ends.
    pub path_prefix: Option<String>,
    /// How many digits of the hash make a folder.
    pub hash_prefix_size: usize,
}

impl Layout {
    /// Everything in one bucket, in no folder.
    #[must_use]
    pub fn plain(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), path_prefix: None, hash_prefix_size: 0 }
    }

    /// A blob's bucket.
    #[must_use]
    pub fn bucket_of(&self, digest: &Digest) -> String {
        bucket_of(&self.bucket, &digest.hash_hex())
    }

    /// All buckets that blobs can be in; templates of more than two digits name too many to go through.
    #[must_use]
    pub fn buckets(&self) -> Option<Vec<String>> {
        let mut names = vec![self.bucket.clone()];
        for _ in 0..2 {
            names = names.into_iter().flat_map(expand).collect();
        }
        let done = names.iter().all(|name| !name.contains('{'));
        names.sort_unstable();
        names.dedup();
        done.then_some(names)
    }

    /// What all keys start with.
    #[must_use]
    pub fn root(&self) -> String {
        self.path_prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default()
    }

    /// A blob's key: `{path-prefix/}{function/}{hash's first digits/}{the others}_{size}`.
    #[must_use]
    pub fn key_of(&self, digest: &Digest) -> String {
        let hash = digest.hash_hex();
        let (folder, rest) = hash.split_at(self.hash_prefix_size.min(hash.len()));
        let mut key = self.root();
        if digest.function() != DigestFunction::Sha256 {
            key.push_str(digest.function().name());
            key.push('/');
        }
        if !folder.is_empty() {
            key.push_str(folder);
            key.push('/');
        }
        format!("{key}{rest}_{}", digest.size())
    }

    /// The blob whose key this is; `None` for a key that is no blob's.
    #[must_use]
    pub fn digest_of(&self, key: &str) -> Option<Digest> {
        let rest = key.strip_prefix(&self.root())?;
        let (function, rest) = match rest.split_once('/') {
            Some((name, after)) => match DigestFunction::from_name(name) {
                Some(function) => (function, after),
                None => (DigestFunction::Sha256, rest),
            },
            None => (DigestFunction::Sha256, rest),
        };
        let (hash, size) = rest.rsplit_once('_')?;
        let digest = Digest::parse(function, &hash.replace('/', ""), size.parse().ok()?).ok()?;
        (self.key_of(&digest) == key).then_some(digest)
    }
}

/// The bucket that a template names for a hash.
#[must_use]
pub fn bucket_of(template: &str, hash: &str) -> String {
    let mut name = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{digest[") {
        let Some((index, after)) = after.split_once("]}") else { break };
        name.push_str(before);
        let digit = index.parse::<usize>().ok().and_then(|index| hash.get(index..=index));
        name.push_str(digit.unwrap_or_default());
        rest = after;
    }
    name.push_str(rest);
    name
}

/// The names that a template becomes when its first digit is put in.
fn expand(template: String) -> Vec<String> {
    let Some(start) = template.find("{digest[") else { return vec![template] };
    let Some(end) = template[start..].find('}').map(|end| start + end + 1) else { return vec![template] };
    let place = template[start..end].to_owned();
    (0..16_u32)
        .filter_map(|digit| char::from_digit(digit, 16))
        .map(|digit| template.replace(&place, &digit.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(path_prefix: Option<&str>, hash_prefix_size: usize) -> Layout {
        Layout {
            bucket: "cas-{digest[0]}{digest[1]}".into(),
            path_prefix: path_prefix.map(str::to_owned),
            hash_prefix_size,
        }
    }

    #[test]
    fn keys_are_those_of_buildgrid() {
        let digest = Digest::of(DigestFunction::Sha256, b"hello");
        let hash = digest.hash_hex();
        assert_eq!(hash[..3], *"2cf");
        assert_eq!(layout(None, 0).key_of(&digest), format!("{hash}_5"));
        assert_eq!(layout(Some("a/b"), 0).key_of(&digest), format!("a/b/{hash}_5"));
        assert_eq!(layout(None, 3).key_of(&digest), format!("2cf/{}_5", &hash[3..]));
        assert_eq!(layout(Some("p"), 2).key_of(&digest), format!("p/2c/{}_5", &hash[2..]));
        assert_eq!(layout(None, 0).bucket_of(&digest), "cas-2c");
        let blake = Digest::of(DigestFunction::Blake3, b"hello");
        assert_eq!(layout(Some("p"), 0).key_of(&blake), format!("p/blake3/{}_5", blake.hash_hex()));
    }

    #[test]
    fn a_template_names_its_buckets() {
        let names = layout(None, 0).buckets().unwrap();
        assert_eq!((names.len(), names[0].as_str(), names[255].as_str()), (256, "cas-00", "cas-ff"));
        assert_eq!(Layout::plain("one").buckets().unwrap(), ["one"]);
        assert_eq!(Layout::plain("{digest[0]}{digest[1]}{digest[2]}").buckets(), None);
    }

    #[test]
    fn strangers_keys_are_no_blobs() {
        let digest = Digest::of(DigestFunction::Sha256, b"hello");
        let key = layout(Some("p"), 2).key_of(&digest);
        for other in ["", "p/", "x", "p/2c/abc_5", &key[2..], &format!("{key}x"), &key.replace("2c/", "2c")] {
            assert_eq!(layout(Some("p"), 2).digest_of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_key_tells_its_blob(
            seed in any::<u64>(), size in 0..i64::MAX, folder in 0_usize..70, prefix in any::<bool>(), f in 0_usize..6,
        ) {
            let function = DigestFunction::ALL[f];
            let hash = Digest::of(function, &seed.to_le_bytes());
            let digest = Digest::parse(function, &hash.hash_hex(), size).unwrap();
            let layout = layout(prefix.then_some("some/where"), folder);
            prop_assert_eq!(layout.digest_of(&layout.key_of(&digest)), Some(digest));
        }
    }
}
