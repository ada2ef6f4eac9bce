//! Actions of ours, for what no build asks for on purpose.

use anyhow::Result;
use grid_proto::reapi::command::EnvironmentVariable;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    Action, BatchUpdateBlobsRequest, Command, Digest, Platform, batch_update_blobs_request, platform,
};
use prost::Message as _;

use crate::remote::{Remote, digest};

/// Stores an action without inputs that runs `script` on workers with that property `toolchain`, and is never taken from
/// the cache.
///
/// # Errors
/// Where the grid does not take it.
pub(crate) fn store(remote: &Remote, toolchain: &str, script: &str) -> Result<Digest> {
    let toolchain = platform::Property { name: "toolchain".to_owned(), value: toolchain.to_owned() };
    let path = EnvironmentVariable { name: "PATH".to_owned(), value: "/usr/bin:/bin".to_owned() };
    let command = Command {
        arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment_variables: vec![path],
        ..Default::default()
    };
    let command = command.encode_to_vec();
    let action = Action {
        command_digest: Some(digest(&command)),
        input_root_digest: Some(digest(b"")),
        do_not_cache: true,
        platform: Some(Platform { properties: vec![toolchain] }),
        ..Default::default()
    };
    let action = action.encode_to_vec();
    let requests: Vec<_> = [&command, &action]
        .map(|data| batch_update_blobs_request::Request {
            digest: Some(digest(data)),
            data: data.clone().into(),
            ..Default::default()
        })
        .to_vec();
    remote.retried("BatchUpdateBlobs", async || {
        let request = BatchUpdateBlobsRequest { requests: requests.clone(), ..Default::default() };
        ContentAddressableStorageClient::new(remote.channel.clone()).batch_update_blobs(request).await
    })?;
    Ok(digest(&action))
}
