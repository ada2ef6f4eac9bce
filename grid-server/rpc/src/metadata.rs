//! What clients tell of themselves in request headers.
//!
//! REAPI's `RequestMetadata` arrives in a binary header; BuildGrid's services read the identity and scheduling
//! headers beside it. A header that can't be decoded counts as absent: it is only a description, and refusing a
//! build for it would help nobody.

use grid_proto::reapi::RequestMetadata;
use prost::Message;
use tonic::metadata::MetadataMap;

/// The header of REAPI's `RequestMetadata` (REAPI, `RequestMetadata`).
pub const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// The optional header that names a `ByteStream` resource for proxies that route by it (REAPI 2.12).
pub const RESOURCE_NAME: &str = "build.bazel.remote.execution.v2.resource-name";

/// The client's `RequestMetadata`, where it sent one.
#[must_use]
pub fn request_metadata(headers: &MetadataMap) -> Option<RequestMetadata> {
    decode(headers, REQUEST_METADATA)
}

/// The message in the binary header `name`, where there is one.
#[must_use]
pub fn decode<M: Message + Default>(headers: &MetadataMap, name: &'static str) -> Option<M> {
    let bytes = headers.get_bin(name)?.to_bytes().ok()?;
    M::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    #[test]
    fn the_metadata_header_is_read() {
        let sent = RequestMetadata { tool_invocation_id: "i".into(), ..RequestMetadata::default() };
        let mut headers = MetadataMap::new();
        headers.insert_bin(REQUEST_METADATA, MetadataValue::from_bytes(&sent.encode_to_vec()));
        assert_eq!(request_metadata(&headers), Some(sent));
    }

    #[test]
    fn garbage_counts_as_absent() {
        let mut headers = MetadataMap::new();
        headers.insert_bin(REQUEST_METADATA, MetadataValue::from_bytes(b"\xff\xff\xff"));
        assert_eq!(request_metadata(&headers), None);
    }
}
