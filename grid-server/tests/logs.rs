//! What the log tells of a call that goes wrong: which build it was a part of, and which trace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

use std::process::Stdio;
use std::time::Duration;

use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{FindMissingBlobsRequest, RequestMetadata};
use prost::Message as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

#[tokio::test]
async fn lines_of_a_call_carry_its_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.yml");
    // A remote that is not there: calls fail, and the server says so.
    let config = "
server: [!channel {address: '127.0.0.1:0', insecure-mode: yes}]
instances:
  - name: ''
    storages: [!remote-storage &cas {url: 'http://127.0.0.1:1', retries: 0, request-timeout: 1}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}]
";
    std::fs::write(&path, config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_grid-server"))
        .args(["serve", "--json-logs", "--admin", "127.0.0.1:0"])
        .arg(&path)
        .env("HOME", folder.path())
        .env("RUST_LOG", "info,grid_rpc=debug")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let found = tokio::time::timeout(Duration::from_secs(120), async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let message = line["message"].as_str().unwrap_or_default();
            if let Some((_, address)) = message.split_once("serving on ") {
                let address = address.to_owned();
                tokio::spawn(call(address, trace));
            }
            if line["span"]["invocation"] == "build-7" {
                return line;
            }
        }
        panic!("no line had the call's ids");
    });
    let line = found.await.unwrap();
    assert_eq!(line["span"]["action"], "action-9", "{line}");
    assert_eq!(line["span"]["trace"], trace, "{line}");
    assert!(line["span"]["method"].as_str().unwrap().ends_with("/FindMissingBlobs"), "{line}");
}

async fn call(address: String, trace: &'static str) {
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut request = Request::new(FindMissingBlobsRequest {
        instance_name: "nowhere".to_owned(),
        ..FindMissingBlobsRequest::default()
    });
    let sent = RequestMetadata {
        tool_invocation_id: "build-7".to_owned(),
        action_id: "action-9".to_owned(),
        ..RequestMetadata::default()
    };
    let headers = request.metadata_mut();
    let name = "build.bazel.remote.execution.v2.requestmetadata-bin";
    headers.insert_bin(name, MetadataValue::from_bytes(&sent.encode_to_vec()));
    headers.insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
    drop(ContentAddressableStorageClient::new(channel).find_missing_blobs(request).await);
}
