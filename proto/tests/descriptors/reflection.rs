//! What other crates rely on: a complete descriptor set and the generated types' performance shape.

use std::collections::BTreeSet;

use bytes::Bytes;
use grid_proto::{FILE_DESCRIPTOR_SET, bytestream, reapi};
use prost::{Message as _, Name as _};
use prost_types::FileDescriptorSet;

#[test]
fn descriptor_set_contains_every_import_before_its_use() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut seen = BTreeSet::new();
    for file in &set.file {
        for import in &file.dependency {
            assert!(
                seen.contains(import.as_str()),
                "{} imports {import}, which is not before it",
                file.name()
            );
        }
        assert!(file.source_code_info.is_none(), "{} carries comments", file.name());
        seen.insert(file.name());
    }
}

#[test]
fn payloads_are_shared_not_copied() {
    let data = Bytes::from(vec![7_u8; 4096]);
    let message = bytestream::ReadResponse { data: data.clone() };
    assert_eq!(message.data.as_ptr(), data.as_ptr());

    let wire = Bytes::from(message.encode_to_vec());
    let decoded = bytestream::ReadResponse::decode(wire.clone()).unwrap();
    assert!(wire.as_ptr_range().contains(&decoded.data.as_ptr()), "decoding copied the payload");

    let _: Bytes = reapi::batch_update_blobs_request::Request::default().data;
    let _: Bytes = reapi::ActionResult::default().stdout_raw;
}

#[test]
fn names_carry_their_package() {
    assert_eq!(reapi::ExecuteResponse::full_name(), "build.bazel.remote.execution.v2.ExecuteResponse");
    assert_eq!(
        reapi::ExecuteResponse::type_url(),
        "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse"
    );
}
