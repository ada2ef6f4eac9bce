//! Messages of the protocols as JSON, by protobuf's own mapping: camel-case names, 64-bit numbers as
//! strings, defaults left out, what an `Any` holds written out with its `@type`.

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

use crate::exit::Failure;

static POOL: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(grid_proto::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())
});

/// `message` as JSON.
///
/// # Errors
/// [`Failure::Protocol`] when it holds an `Any` whose type is unknown here or whose bytes are broken.
pub(crate) fn of<M: Name>(message: &M) -> Result<Value, Failure> {
    let name = M::full_name();
    let told = |reason: String| Failure::Protocol(format!("{name} can't be written as JSON: {reason}"));
    let pool = POOL.as_ref().map_err(|error| told(error.clone()))?;
    let descriptor = pool.get_message_by_name(&name).ok_or_else(|| told("unknown type".to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| told(error.to_string()))?;
    serde_json::to_value(dynamic).map_err(|error| told(error.to_string()))
}

#[cfg(test)]
mod tests {
    use grid_proto::longrunning::{Operation, operation};
    use grid_proto::reapi::{Digest, ExecuteOperationMetadata};
    use grid_proto::{any, rpc};

    use super::*;

    #[test]
    fn what_an_any_holds_is_written_out() {
        let metadata = ExecuteOperationMetadata {
            stage: 2,
            action_digest: Some(Digest { hash: "ab".to_owned(), size_bytes: 7 }),
            ..Default::default()
        };
        let operation = Operation {
            name: "main/1".to_owned(),
            metadata: Some(any::pack(&metadata)),
            done: true,
            result: Some(operation::Result::Error(rpc::Status { code: 1, ..Default::default() })),
        };
        let json = of(&operation).unwrap();
        assert_eq!(json["metadata"]["stage"], "QUEUED");
        assert_eq!(json["metadata"]["actionDigest"]["sizeBytes"], "7");
        assert_eq!(json["error"]["code"], 1);
        assert!(json["metadata"]["@type"].as_str().unwrap().ends_with("ExecuteOperationMetadata"));
    }

    #[test]
    fn an_unknown_type_is_an_error_and_no_panic() {
        let stranger = prost_types::Any { type_url: "type.example.org/no.Such".to_owned(), value: vec![1] };
        let operation = Operation { metadata: Some(stranger), ..Default::default() };
        assert!(matches!(of(&operation), Err(Failure::Protocol(_))));
    }
}
