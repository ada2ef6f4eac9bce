//! Messages that carry directories as they are stored.
//!
//! A directory that is decoded and encoded again loses the fields that this crate does not know, and with them its digest.
//! On the wire these messages are those of the specification: a nested message is its bytes with a length before them.

use bytes::Bytes;
use prost::Message;

use crate::reapi::Directory;

/// A page of `GetTree` (REAPI): in it directories are what the blobs of the store are, byte by byte.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetTreeResponse {
    /// Encoded [`Directory`] messages.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub directories: Vec<Bytes>,
    /// How to ask for the next page; empty on the last.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

impl GetTreeResponse {
    /// The directories, decoded.
    ///
    /// # Errors
    /// Where one is no `Directory`.
    pub fn decoded(&self) -> Result<Vec<Directory>, prost::DecodeError> {
        self.directories.iter().map(|encoded| Directory::decode(encoded.clone())).collect()
    }
}
