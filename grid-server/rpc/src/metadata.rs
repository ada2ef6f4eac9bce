//! What clients tell of themselves in request headers, and what is told of them to others.
//!
//! REAPI's `RequestMetadata` arrives in a binary header; BuildGrid's services read the identity and scheduling
//! headers beside it. A header that can't be decoded counts as absent: it is only a description, and refusing a
//! build for it would help nobody.

use grid_core::Digest;
use grid_proto::buildgrid::ClientIdentity;
use grid_proto::reapi::{RequestMetadata, ToolDetails};
use grid_scheduler::operation::{self, Operation};
use prost::Message;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

/// The header of REAPI's `RequestMetadata` (REAPI, `RequestMetadata`).
pub const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// The header of BuildGrid's `ClientIdentity`.
pub const CLIENT_IDENTITY: &str = "buildgrid.v2.clientidentity-bin";

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

/// Tells of an operation with which tool and by whom it was asked for, where that is known; as BuildGrid does, for its
/// clients' `--show-request-metadata`.
pub(crate) fn tell(operation: &Operation, action: &Digest, metadata: &mut MetadataMap) {
    if operation.metadata != operation::RequestMetadata::default() {
        let mut request = to_wire(&operation.metadata);
        if request.action_id.is_empty() {
            request.action_id = action.to_string();
        }
        metadata.insert_bin(REQUEST_METADATA, BinaryMetadataValue::from_bytes(&request.encode_to_vec()));
    }
    if operation.client != operation::ClientIdentity::default() {
        let operation::ClientIdentity { workflow, actor, subject } = operation.client.clone();
        let client = ClientIdentity { actor, subject, workflow };
        metadata.insert_bin(CLIENT_IDENTITY, BinaryMetadataValue::from_bytes(&client.encode_to_vec()));
    }
}

/// What was told of a request, as a message.
pub(crate) fn to_wire(metadata: &operation::RequestMetadata) -> RequestMetadata {
    RequestMetadata {
        tool_details: Some(ToolDetails {
            tool_name: metadata.tool_name.clone(),
            tool_version: metadata.tool_version.clone(),
        }),
        action_id: metadata.action_id.clone(),
        tool_invocation_id: metadata.invocation_id.clone(),
        correlated_invocations_id: metadata.correlated_invocations_id.clone(),
        action_mnemonic: metadata.action_mnemonic.clone(),
        target_id: metadata.target_id.clone(),
        configuration_id: metadata.configuration_id.clone(),
    }
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
