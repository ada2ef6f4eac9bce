//! Digests as text and as messages: what is read is written as it was.

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;
use grid_rpc::digests::{Reader, all_functions, to_wire};

pub(crate) fn run(data: &[u8]) {
    let Some((&function, rest)) = data.split_first() else { return };
    let Some(text) = crate::text(rest) else { return };
    let named = DigestFunction::from_wire(i32::from(function));
    if let Ok(digest) = Digest::parse_text(named, text) {
        let (hash, size) = text.split_once('/').expect("a digest has both");
        assert_eq!(digest.hash_hex(), hash);
        assert_eq!(size.parse::<i64>().ok(), Some(digest.size_signed()));
        assert!(named.is_none_or(|named| named == digest.function()));
        assert_eq!(digest.hash_bytes().len(), digest.function().hash_len());
    }
    let accepted = all_functions();
    let Ok(reader) = Reader::new(i32::from(function), &accepted) else { return };
    let (hash, size) = text.split_once('/').unwrap_or((text, "0"));
    let wire = reapi::Digest { hash: hash.to_owned(), size_bytes: size.parse().unwrap_or(-1) };
    if let Ok(digest) = reader.read("digest", &wire) {
        assert_eq!(to_wire(&digest), wire);
    }
}
