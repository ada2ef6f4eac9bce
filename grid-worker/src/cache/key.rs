//! [`FileKey`]: what makes two input files one cached file, and its name on disk.
//!
//! Hard links share an inode, and with it mode and times; so whatever of these an action can ask for is part
//! of the key. The name on disk says it all, so that the index can be rebuilt from the directory.

use grid_core::{Digest, DigestFunction};

/// A cached file's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Its content.
    pub digest: Digest,
    /// Whether it is executable: mode 0555, else 0444.
    pub executable: bool,
    /// Its modification time as seconds and nanoseconds, where the input asks for one.
    pub mtime: Option<(i64, i32)>,
}

impl FileKey {
    /// `FUNCTION-HASH-SIZE-r`, with `x` for executable files, and `-SECONDS.NANOS` where a time is asked for.
    #[must_use]
    pub fn file_name(&self) -> String {
        let digest = &self.digest;
        let kind = if self.executable { 'x' } else { 'r' };
        let mut name = format!("{}-{}-{}-{kind}", digest.function(), digest.hash_hex(), digest.size());
        if let Some((seconds, nanos)) = self.mtime {
            name.push_str(&format!("-{seconds}.{nanos}"));
        }
        name
    }

    /// The key of a name that [`FileKey::file_name`] gave; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(5, '-');
        let function = DigestFunction::from_name(parts.next()?)?;
        let (hash, size) = (parts.next()?, parts.next()?);
        let digest = Digest::parse(function, hash, size.parse().ok()?).ok()?;
        let executable = match parts.next()? {
            "x" => true,
            "r" => false,
            _ => return None,
        };
        let mtime = match parts.next() {
            None => None,
            Some(time) => {
                let (seconds, nanos) = time.rsplit_once('.')?;
                Some((seconds.parse().ok()?, nanos.parse().ok()?))
            }
        };
        let key = Self { digest, executable, mtime };
        // One name a key: "+1" and "01" parse as numbers too.
        (key.file_name() == name).then_some(key)
    }

    /// Which of the 256 directories the file is in.
    #[must_use]
    pub fn shard(&self) -> usize {
        usize::from(self.digest.hash_bytes()[0])
    }

    /// The file's permission bits.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        if self.executable { 0o555 } else { 0o444 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_round_trip(content: Vec<u8>, executable: bool, mtime: Option<(i64, i32)>, function in 0_usize..6) {
            let digest = Digest::of(DigestFunction::ALL[function], &content);
            let key = FileKey { digest, executable, mtime };
            prop_assert_eq!(FileKey::parse(&key.file_name()), Some(key));
        }

        #[test]
        fn other_names_are_no_keys(name in ".{0,120}") {
            prop_assert_eq!(FileKey::parse(&name), None);
        }
    }
}
