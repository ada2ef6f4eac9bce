//! One server: a connection, the headers of each call, and the policy for trying again.

mod address;
mod connect;
mod headers;
pub(crate) mod retry;
mod tls;

use std::future::Future;

use grid_core::DigestFunction;
use grid_proto::buildgrid::quota_client::QuotaClient;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::fleet::fleet_client::FleetClient;
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use grid_proto::longrunning::operations_client::OperationsClient;
use grid_proto::reapi;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::args::connection::Connection;
use crate::exit::Failure;
use crate::remote::headers::Headers;
use crate::remote::retry::Retry;

pub(crate) use self::headers::REQUEST_METADATA;
pub(crate) use self::tls::Identity;

/// A channel that adds the headers of this invocation to each call.
pub(crate) type Service = InterceptedService<Channel, Headers>;

/// The largest answer that is taken. Servers keep to 4 MiB, but a page of a tree or an action result with
/// inlined outputs may be larger.
const MAX_ANSWER: usize = 64 << 20;

/// A connected server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    service: Service,
    instance: String,
    retry: Retry,
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name(&self) -> $client<Service> {
            $client::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER)
        })*
    };
}

impl Remote {
    /// Connects to the server that `connection` names.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, Failure> {
        Self::connect_to(connection, &connection.remote, Identity::of(connection)).await
    }

    /// Connects to `remote` as `identity`, with everything else as in `connection`.
    pub(crate) async fn connect_to(
        connection: &Connection,
        remote: &str,
        identity: Identity,
    ) -> Result<Self, Failure> {
        let retry = Retry::new(connection.retries);
        let headers = Headers::new(connection)?;
        let channel = connect::connect(remote, &identity, retry).await?;
        let service = InterceptedService::new(channel, headers);
        Ok(Self { service, instance: connection.instance_name.clone(), retry })
    }

    /// Name of the instance that calls are for.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// `name` below the instance, unless it is there already.
    pub(crate) fn qualified(&self, name: &str) -> String {
        let instance = &self.instance;
        let inside = name.strip_prefix(instance.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if instance.is_empty() || inside { name.to_owned() } else { format!("{instance}/{name}") }
    }

    clients! {
        /// Stub of the CAS.
        cas: ContentAddressableStorageClient;
        /// Stub of ByteStream.
        bytestream: ByteStreamClient;
        /// Stub of the action cache.
        action_cache: ActionCacheClient;
        /// Stub of Execution.
        execution: ExecutionClient;
        /// Stub of Capabilities.
        capabilities_service: CapabilitiesClient;
        /// Stub of Operations.
        operations: OperationsClient;
        /// Stub of LogStream.
        logstream: LogStreamServiceClient;
        /// Stub of Quota.
        quota: QuotaClient;
        /// Stub of Fleet.
        fleet: FleetClient;
    }

    /// Makes `call`, and makes it again for as long as the policy allows; `what` is for the error's text.
    pub(crate) async fn call<T, F>(&self, what: &str, call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let answer = self.retry.run(call).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Failure::rpc(what, status))
    }

    /// The policy for trying again.
    pub(crate) fn retry(&self) -> Retry {
        self.retry
    }

    /// What the server offers for the instance.
    pub(crate) async fn capabilities(&self) -> Result<reapi::ServerCapabilities, Failure> {
        let request = reapi::GetCapabilitiesRequest { instance_name: self.instance.clone() };
        self.call("ask for the server's capabilities", || {
            let (mut client, request) = (self.capabilities_service(), request.clone());
            async move { client.get_capabilities(request).await }
        })
        .await
    }
}

/// The digest function to work with: the one that was asked for, or the first of ours that `offered` has.
/// Servers that tell none speak SHA-256, as all did before functions could be told.
pub(crate) fn choose_function(
    asked: Option<DigestFunction>,
    offered: &[i32],
) -> Result<DigestFunction, Failure> {
    let offers = |function: &DigestFunction| offered.contains(&function.to_wire());
    let names = || {
        let known: Vec<_> = offered.iter().filter_map(|&f| DigestFunction::from_wire(f)).collect();
        known.iter().map(|function| function.name()).collect::<Vec<_>>().join(", ")
    };
    match asked {
        _ if offered.is_empty() => Ok(asked.unwrap_or_default()),
        Some(function) if offers(&function) => Ok(function),
        Some(function) => {
            let text = format!("the server does not offer {function}; it offers {}", names());
            Err(Failure::Unsupported(text))
        }
        None => DigestFunction::ALL.into_iter().find(offers).ok_or_else(|| {
            Failure::Unsupported("the server offers no digest function that this client knows".to_owned())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_the_one_that_both_sides_know() {
        let (sha256, blake3) = (DigestFunction::Sha256, DigestFunction::Blake3);
        let wire =
            |functions: &[DigestFunction]| -> Vec<i32> { functions.iter().map(|f| f.to_wire()).collect() };
        assert_eq!(choose_function(None, &[]).unwrap(), sha256);
        assert_eq!(choose_function(Some(blake3), &[]).unwrap(), blake3);
        assert_eq!(choose_function(None, &wire(&[blake3, sha256])).unwrap(), sha256);
        assert_eq!(choose_function(None, &wire(&[blake3])).unwrap(), blake3);
        let refused = choose_function(Some(blake3), &wire(&[sha256])).unwrap_err();
        assert!(refused.to_string().contains("offers sha256"), "{refused}");
        assert!(choose_function(None, &[8]).is_err());
    }
}
