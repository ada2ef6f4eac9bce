//! `Capabilities`: what each instance can do, neither more nor less.
//!
//! A server's own parts are plain data here. Parts that lie behind another server (a remote CAS, a remote action
//! cache) are asked of it through [`CapabilitySource`], and the answers are put together.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use grid_core::DigestFunction;
use grid_proto::reapi::capabilities_server::Capabilities;
use grid_proto::reapi::compressor::Value as Compressor;
use grid_proto::reapi::priority_capabilities::PriorityRange;
use grid_proto::reapi::symlink_absolute_path_strategy::Value as Symlinks;
use grid_proto::reapi::{
    ActionCacheUpdateCapabilities, CacheCapabilities, ExecutionCapabilities, FastCdc2020Params,
    GetCapabilitiesRequest, PriorityCapabilities, ServerCapabilities,
};
use grid_proto::semver::SemVer;
use tonic::{Request, Response, Status};

use crate::auth::{UPDATE_ACTION_RESULT, may};
use crate::cas::fastcdc::Parameters;
use crate::digests::Functions;
use crate::error::status;
use crate::{Instances, RpcError};

/// The lowest version of the API that the server speaks.
pub const LOW_VERSION: (i32, i32) = (2, 0);
/// The highest.
pub const HIGH_VERSION: (i32, i32) = (2, 13);

/// Where the capabilities of a part are asked, that lies behind another server.
#[async_trait]
pub trait CapabilitySource: Debug + Send + Sync {
    /// The other server's answer.
    ///
    /// # Errors
    /// [`RpcError::Unavailable`] where it gives none.
    async fn capabilities(&self) -> Result<ServerCapabilities, RpcError>;
}

/// What an instance's CAS can do.
#[derive(Clone, Debug)]
pub struct CasAbilities {
    /// The most bytes of blobs in one batch.
    pub max_batch_bytes: u64,
    /// The largest blob, in bytes.
    pub max_blob_bytes: Option<u64>,
    /// How blobs are split, where they are.
    pub chunking: Option<Parameters>,
}

/// What an instance's action cache can do.
#[derive(Clone, Copy, Debug)]
pub struct ActionCacheAbilities {
    /// Whether clients may update it.
    pub update_enabled: bool,
}

/// What an instance's execution can do.
#[derive(Clone, Debug)]
pub struct ExecutionAbilities {
    /// The least and the greatest priority; lower runs sooner.
    pub priorities: (i32, i32),
    /// Node properties that workers honour.
    pub node_properties: Vec<String>,
}

/// A part that the instance has.
#[derive(Clone, Debug)]
pub enum Part<T> {
    /// It is this server's.
    Local(T),
    /// This server passes calls on to another one: it can do what both can.
    Front(T, Arc<dyn CapabilitySource>),
    /// Another server does it, and clients call that one; this one only tells of it.
    Remote(Arc<dyn CapabilitySource>),
}

/// The parts of one instance; those that it does not have are `None`, and so are absent from its capabilities.
#[derive(Clone, Debug)]
pub struct CapabilitiesInstance {
    /// The digest functions that the instance takes, the preferred one first.
    pub functions: Functions,
    /// Blobs.
    pub cas: Option<Part<CasAbilities>>,
    /// Results.
    pub action_cache: Option<Part<ActionCacheAbilities>>,
    /// Execution.
    pub execution: Option<ExecutionAbilities>,
}

/// The `Capabilities` service.
#[derive(Clone, Debug)]
pub struct CapabilitiesService {
    instances: Instances<CapabilitiesInstance>,
}

impl CapabilitiesService {
    /// A service over all instances of the server.
    #[must_use]
    pub const fn new(instances: Instances<CapabilitiesInstance>) -> Self {
        Self { instances }
    }
}

fn version((major, minor): (i32, i32)) -> SemVer {
    SemVer { major, minor, ..SemVer::default() }
}

fn wire(functions: &[DigestFunction]) -> Vec<i32> {
    functions.iter().map(|f| f.to_wire()).collect()
}

fn priorities((min_priority, max_priority): (i32, i32)) -> PriorityCapabilities {
    PriorityCapabilities { priorities: vec![PriorityRange { min_priority, max_priority }] }
}

impl CapabilitiesInstance {
    async fn cache(&self) -> Result<Option<CacheCapabilities>, RpcError> {
        if self.cas.is_none() && self.action_cache.is_none() {
            return Ok(None);
        }
        let mut capabilities = match &self.cas {
            Some(Part::Local(cas)) => self.local_cas(cas),
            Some(Part::Front(cas, source)) => both(self.local_cas(cas), self.remote_cas(source).await?),
            Some(Part::Remote(source)) => self.remote_cas(source).await?,
            None => {
                CacheCapabilities { digest_functions: wire(&self.functions), ..CacheCapabilities::default() }
            }
        };
        let update_enabled = match &self.action_cache {
            Some(Part::Local(cache)) => cache.update_enabled,
            Some(Part::Front(cache, source)) => cache.update_enabled && remote_updates(source).await?,
            Some(Part::Remote(source)) => remote_updates(source).await?,
            None => false,
        };
        capabilities.action_cache_update_capabilities =
            Some(ActionCacheUpdateCapabilities { update_enabled });
        // Every priority is taken, and means nothing here; without a range Bazel refuses to send one.
        capabilities.cache_priority_capabilities = Some(priorities((i32::MIN, i32::MAX)));
        Ok(Some(capabilities))
    }

    fn local_cas(&self, cas: &CasAbilities) -> CacheCapabilities {
        let zstd = vec![Compressor::Zstd as i32];
        let fast_cdc_2020_params =
            cas.chunking.map(|p| FastCdc2020Params { avg_chunk_size_bytes: p.avg as u64, seed: p.seed });
        CacheCapabilities {
            digest_functions: wire(&self.functions),
            max_batch_total_size_bytes: i64::try_from(cas.max_batch_bytes).unwrap_or(i64::MAX),
            symlink_absolute_path_strategy: Symlinks::Allowed as i32,
            supported_compressors: zstd.clone(),
            supported_batch_update_compressors: zstd,
            max_cas_blob_size_bytes: cas.max_blob_bytes.map_or(0, |b| i64::try_from(b).unwrap_or(i64::MAX)),
            split_blob_support: cas.chunking.is_some(),
            splice_blob_support: cas.chunking.is_some(),
            fast_cdc_2020_params,
            ..CacheCapabilities::default()
        }
    }

    /// What the other server says of its blobs, as far as this one passes it on.
    async fn remote_cas(&self, source: &Arc<dyn CapabilitySource>) -> Result<CacheCapabilities, RpcError> {
        let none = || RpcError::Unavailable("the remote CAS of this instance says that it is none".into());
        let theirs = source.capabilities().await?.cache_capabilities.ok_or_else(none)?;
        let ours = wire(&self.functions);
        let digest_functions = theirs.digest_functions.iter().copied().filter(|f| ours.contains(f)).collect();
        Ok(CacheCapabilities { digest_functions, ..theirs })
    }

    fn execution(&self) -> Option<ExecutionCapabilities> {
        let abilities = self.execution.as_ref()?;
        Some(ExecutionCapabilities {
            // The one function that a client of before 2.5 may use.
            digest_function: self.functions.first().map_or(0, |f| f.to_wire()),
            exec_enabled: true,
            execution_priority_capabilities: Some(priorities(abilities.priorities)),
            supported_node_properties: abilities.node_properties.clone(),
            digest_functions: wire(&self.functions),
        })
    }
}

/// Of a server and the one that it passes calls on to: the functions and the sizes that both take. Compression, batches
/// and chunks are ours, for we take them apart.
fn both(ours: CacheCapabilities, theirs: CacheCapabilities) -> CacheCapabilities {
    // Zero means without a limit.
    let smaller =
        |ours: i64, theirs: i64| if ours == 0 || theirs == 0 { ours.max(theirs) } else { ours.min(theirs) };
    CacheCapabilities {
        digest_functions: theirs.digest_functions,
        max_cas_blob_size_bytes: smaller(ours.max_cas_blob_size_bytes, theirs.max_cas_blob_size_bytes),
        ..ours
    }
}

async fn remote_updates(source: &Arc<dyn CapabilitySource>) -> Result<bool, RpcError> {
    let theirs = source.capabilities().await?.cache_capabilities;
    Ok(theirs.and_then(|c| c.action_cache_update_capabilities).is_some_and(|c| c.update_enabled))
}

#[tonic::async_trait]
impl Capabilities for CapabilitiesService {
    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        let name = &request.get_ref().instance_name;
        let instance = self.instances.get(name).await.map_err(status)?;
        let mut cache_capabilities = instance.cache().await.map_err(status)?;
        let updates =
            cache_capabilities.as_mut().and_then(|cache| cache.action_cache_update_capabilities.as_mut());
        if let Some(updates) = updates.filter(|updates| updates.update_enabled) {
            updates.update_enabled = may(UPDATE_ACTION_RESULT, name).await;
        }
        let execution_capabilities = instance.execution();
        Ok(Response::new(ServerCapabilities {
            cache_capabilities,
            execution_capabilities,
            deprecated_api_version: None,
            low_api_version: Some(version(LOW_VERSION)),
            high_api_version: Some(version(HIGH_VERSION)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digests::all_functions;

    #[derive(Debug)]
    struct Other(CacheCapabilities);

    #[async_trait]
    impl CapabilitySource for Other {
        async fn capabilities(&self) -> Result<ServerCapabilities, RpcError> {
            Ok(ServerCapabilities {
                cache_capabilities: Some(self.0.clone()),
                ..ServerCapabilities::default()
            })
        }
    }

    fn other() -> Arc<dyn CapabilitySource> {
        Arc::new(Other(CacheCapabilities {
            // The second is one that nobody here knows.
            digest_functions: vec![DigestFunction::Blake3.to_wire(), 4711],
            max_batch_total_size_bytes: 7,
            max_cas_blob_size_bytes: 1 << 20,
            action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities { update_enabled: true }),
            ..CacheCapabilities::default()
        }))
    }

    fn instance(
        cas: Option<Part<CasAbilities>>,
        action_cache: Option<Part<ActionCacheAbilities>>,
    ) -> CapabilitiesInstance {
        CapabilitiesInstance { functions: all_functions(), cas, action_cache, execution: None }
    }

    const OURS: CasAbilities =
        CasAbilities { max_batch_bytes: 1_000, max_blob_bytes: Some(1 << 30), chunking: None };

    #[tokio::test]
    async fn a_front_can_do_what_both_can() {
        let updates = ActionCacheAbilities { update_enabled: false };
        let front = instance(Some(Part::Front(OURS, other())), Some(Part::Front(updates, other())));
        let cache = front.cache().await.unwrap().unwrap();
        assert_eq!(cache.digest_functions, [DigestFunction::Blake3.to_wire()]);
        assert_eq!((cache.max_batch_total_size_bytes, cache.max_cas_blob_size_bytes), (1_000, 1 << 20));
        assert_eq!(cache.supported_compressors, [Compressor::Zstd as i32]);
        assert!(!cache.action_cache_update_capabilities.unwrap().update_enabled);
    }

    #[tokio::test]
    async fn what_another_server_does_is_told_in_its_words() {
        let elsewhere = instance(Some(Part::Remote(other())), Some(Part::Remote(other())));
        let cache = elsewhere.cache().await.unwrap().unwrap();
        assert_eq!((cache.max_batch_total_size_bytes, cache.max_cas_blob_size_bytes), (7, 1 << 20));
        assert!(cache.supported_compressors.is_empty());
        assert!(cache.action_cache_update_capabilities.unwrap().update_enabled);
    }
}
