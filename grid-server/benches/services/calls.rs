//! Calls to a server, with a token where it asks for one.

use bytes::Bytes;
use futures::stream;
use grid_proto::bytestream::WriteRequest;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::batch_update_blobs_request::Request as Blob;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    ActionResult, BatchReadBlobsRequest, BatchUpdateBlobsRequest, Digest, FindMissingBlobsRequest,
    GetActionResultRequest, GetTreeRequest, UpdateActionResultRequest,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::blobs::{digest, uuid};

const LARGEST_MESSAGE: usize = 8 << 20;

/// A connection, and what is shown with each call.
pub(crate) struct Calls {
    service: InterceptedService<Channel, Show>,
}

#[derive(Clone)]
struct Show(Option<MetadataValue<Ascii>>);

impl Interceptor for Show {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Calls {
    /// Calls over `channel` that show `token`.
    pub(crate) fn new(channel: Channel, token: Option<&str>) -> Self {
        let shown = token.map(|token| format!("Bearer {token}").parse().expect("a header"));
        Self { service: InterceptedService::new(channel, Show(shown)) }
    }

    fn cas(&self) -> ContentAddressableStorageClient<InterceptedService<Channel, Show>> {
        ContentAddressableStorageClient::new(self.service.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    fn results(&self) -> ActionCacheClient<InterceptedService<Channel, Show>> {
        ActionCacheClient::new(self.service.clone())
    }

    pub(crate) async fn find_missing(&self, blob_digests: Vec<Digest>, missing: usize) {
        let ask = FindMissingBlobsRequest { blob_digests, ..FindMissingBlobsRequest::default() };
        let answer = self.cas().find_missing_blobs(ask).await.expect("an answer").into_inner();
        assert_eq!(answer.missing_blob_digests.len(), missing);
    }

    pub(crate) async fn store(&self, contents: impl IntoIterator<Item = Bytes>) {
        let blob =
            |data: Bytes| Blob { digest: Some(digest(std::slice::from_ref(&data))), data, ..Blob::default() };
        let requests = contents.into_iter().map(blob).collect();
        let update = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
        let answer = self.cas().batch_update_blobs(update).await.expect("an answer").into_inner();
        assert!(answer.responses.iter().all(|one| one.status.as_ref().is_none_or(|status| status.code == 0)));
    }

    pub(crate) async fn read_batch(&self, digests: Vec<Digest>) {
        let ask = BatchReadBlobsRequest { digests, ..BatchReadBlobsRequest::default() };
        let answer = self.cas().batch_read_blobs(ask).await.expect("an answer").into_inner();
        assert!(answer.responses.iter().all(|one| !one.data.is_empty()));
    }

    /// How many directories a tree has.
    pub(crate) async fn tree(&self, root: Digest) -> usize {
        let ask = GetTreeRequest { root_digest: Some(root), ..GetTreeRequest::default() };
        let mut pages = self.cas().get_tree(ask).await.expect("an answer").into_inner();
        let mut count = 0;
        while let Some(page) = pages.message().await.expect("a page") {
            count += page.directories.len();
        }
        count
    }

    pub(crate) async fn result(&self, action: Digest) {
        let ask = GetActionResultRequest { action_digest: Some(action), ..GetActionResultRequest::default() };
        let answer = self.results().get_action_result(ask).await.expect("a result").into_inner();
        assert_eq!(answer.output_files.len(), 1);
    }

    pub(crate) async fn record(&self, action: Digest, result: ActionResult) {
        let update = UpdateActionResultRequest {
            action_digest: Some(action),
            action_result: Some(result),
            ..UpdateActionResultRequest::default()
        };
        self.results().update_action_result(update).await.expect("an answer");
    }

    pub(crate) async fn write(&self, content: Bytes) {
        let name = digest(std::slice::from_ref(&content));
        let message = WriteRequest {
            resource_name: format!("uploads/{}/blobs/{}/{}", uuid(), name.hash, name.size_bytes),
            write_offset: 0,
            finish_write: true,
            data: content,
        };
        let mut client = ByteStreamClient::new(self.service.clone());
        let answer = client.write(stream::iter([message])).await.expect("an answer").into_inner();
        assert_eq!(answer.committed_size, name.size_bytes);
    }
}
