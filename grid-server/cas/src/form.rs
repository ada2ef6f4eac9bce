//! [`Form`]: how a backend holds its blobs, and so what it can say of content whose length it sees.
//!
//! A backend in the packed form is the `zstd` decorator's own: nobody else reads or writes it.

use bytes::Bytes;
use grid_core::Digest;

use crate::content::{self, DigestMap};
use crate::{ByteStream, StoreError};

/// What the names of packed blobs end in.
const ENDING: &str = ".zst";

/// How a backend holds its blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As they are: content has the length that its digest says.
    #[default]
    Plain,
    /// Packed: under names of their own, with content of any length but none.
    Packed,
}

impl Form {
    /// Whether so many bytes can be the whole of a blob.
    #[must_use]
    pub fn fits(self, digest: &Digest, length: u64) -> bool {
        match self {
            Self::Plain => length == digest.size(),
            Self::Packed => length > 0,
        }
    }

    /// The name of a blob in this form, whose plain name this is.
    #[must_use]
    pub fn name(self, mut plain: String) -> String {
        if self == Self::Packed {
            plain.push_str(ENDING);
        }
        plain
    }

    /// The plain name of a blob whose name this is; `None` for one of the other form.
    #[must_use]
    pub fn plain_name(self, name: &str) -> Option<&str> {
        match self {
            Self::Plain => Some(name),
            Self::Packed => name.strip_suffix(ENDING),
        }
    }

    /// `content` with an error in place of its end where it is not as long as it has to be.
    #[must_use]
    pub fn checked(self, digest: &Digest, content: ByteStream) -> ByteStream {
        match self {
            Self::Plain => content::exact(*digest, content),
            // Who packs knows how long the blob was; its own length nobody knows before it ends.
            Self::Packed => content,
        }
    }

    /// As [`content::sized`].
    pub(crate) fn sized(self, blobs: Vec<(Digest, Bytes)>) -> (DigestMap<Bytes>, Vec<(usize, StoreError)>) {
        match self {
            Self::Plain => content::sized(blobs),
            Self::Packed => (blobs.into_iter().collect(), Vec::new()),
        }
    }
}
