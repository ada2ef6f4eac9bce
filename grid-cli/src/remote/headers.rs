//! The headers of every call: token, request metadata, and the identity headers of BuildGrid.

use std::fs;

use grid_proto::reapi::{RequestMetadata, ToolDetails};
use prost::Message as _;
use tonic::metadata::{AsciiMetadataValue, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::args::connection::Connection;
use crate::exit::Failure;

/// Carries a serialized `RequestMetadata` (REAPI, `RequestMetadata`).
pub(crate) const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// Adds its headers to each call.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    headers: MetadataMap,
}

impl Headers {
    /// The headers that `connection` asks for.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let mut headers = MetadataMap::new();
        let metadata = request_metadata(connection).encode_to_vec();
        headers.insert_bin(REQUEST_METADATA, MetadataValue::from_bytes(&metadata));
        if let Some(path) = &connection.auth_token {
            let token = fs::read_to_string(path).map_err(|error| Failure::path("read", path, error))?;
            let name = format!("the token in {}", path.display());
            let token = token.trim().lines().next().unwrap_or_default().trim_end();
            let mut value = ascii(&format!("Bearer {token}"), &name)?;
            value.set_sensitive(true);
            headers.insert("authorization", value);
        }
        let identity = [
            ("x-request-workflow", "--request-workflow", &connection.request_workflow),
            ("x-request-actor", "--request-actor", &connection.request_actor),
            ("x-request-subject", "--request-subject", &connection.request_subject),
        ];
        for (header, option, value) in identity {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                headers.insert(header, ascii(value, option)?);
            }
        }
        Ok(Self { headers })
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let own = self.headers.clone().into_headers();
        let mut all = std::mem::take(request.metadata_mut()).into_headers();
        all.extend(own);
        *request.metadata_mut() = MetadataMap::from_headers(all);
        Ok(request)
    }
}

fn request_metadata(connection: &Connection) -> RequestMetadata {
    let tool =
        ToolDetails { tool_name: "grid".to_owned(), tool_version: env!("CARGO_PKG_VERSION").to_owned() };
    RequestMetadata {
        tool_details: Some(tool),
        action_id: connection.action_id.clone().unwrap_or_default(),
        tool_invocation_id: connection.invocation_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string()),
        correlated_invocations_id: connection.correlation_id.clone().unwrap_or_default(),
        ..Default::default()
    }
}

/// `text` as a header's value; the error names `what` and never shows the text, which may be a secret.
fn ascii(text: &str, what: &str) -> Result<AsciiMetadataValue, Failure> {
    text.parse().map_err(|_| Failure::Usage(format!("{what} has characters that no header may have")))
}
