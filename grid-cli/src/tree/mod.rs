//! Directories: from disk to a Merkle tree of `Directory` messages, and back.
//!
//! Works on files, names and messages; the bytes travel by [`crate::transfer`].

pub(crate) mod checkout;
pub(crate) mod fetch;
pub(crate) mod scan;
