//! `ActionCache`: results of actions by the action's digest.
//!
//! Whether a result's outputs are all there is the business of the cache's `completeness` decorator, and who may
//! update of authorization. This file inlines small outputs where a client asks for it (REAPI,
//! `GetActionResultRequest`), and refuses results whose digests are malformed.

use std::sync::Arc;
use std::time::SystemTime;

use grid_cache::SharedCache;
use grid_cas::SharedStore;
use grid_core::{CallEvent, Digest, DigestFunction};
use grid_proto::reapi::action_cache_server::ActionCache;
use grid_proto::reapi::{self, ActionResult, GetActionResultRequest, UpdateActionResultRequest};
use tonic::{Request, Response, Status};

use crate::digests::{Functions, Reader};
use crate::error::status;
use crate::{Instances, RpcError};

/// The most bytes of outputs that one answer inlines.
const INLINE_BYTES: u64 = 1 << 20;

/// What the action cache service needs to know of one instance.
#[derive(Clone, Debug)]
pub struct ActionCacheInstance {
    /// The cache, with `completeness` and whatever else the configuration puts around it.
    pub cache: SharedCache,
    /// Where outputs to inline are; without it nothing is inlined, which clients must bear.
    pub store: Option<SharedStore>,
    /// The digest functions that the instance takes.
    pub functions: Functions,
}

/// The `ActionCache` service.
#[derive(Clone, Debug)]
pub struct ActionCacheService {
    instances: Instances<ActionCacheInstance>,
}

impl ActionCacheService {
    /// A service over the instances that have an action cache.
    #[must_use]
    pub const fn new(instances: Instances<ActionCacheInstance>) -> Self {
        Self { instances }
    }

    async fn instance(&self, name: &str) -> Result<&Arc<ActionCacheInstance>, Status> {
        self.instances.get(name).await.map_err(status)
    }
}

/// Which outputs a client asks to have inlined.
#[derive(Clone, Copy, Debug)]
pub struct Inline<'a> {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Output files by path.
    pub files: &'a [String],
}

/// Puts small outputs into `result` itself, as far as they fit together; those that don't, or that can't be read,
/// stay digests. All digests of a result are by its action's `function`.
pub async fn inline(
    store: &SharedStore,
    function: DigestFunction,
    result: &mut ActionResult,
    wanted: Inline<'_>,
) {
    let mut digests = Vec::new();
    let mut places = Vec::new();
    let mut left = INLINE_BYTES;
    let mut want = |place: Place, digest: Option<&reapi::Digest>| {
        let digest = digest.and_then(|d| Digest::parse(function, &d.hash, d.size_bytes).ok());
        if let Some(digest) = digest.filter(|d| d.size() > 0 && d.size() <= left) {
            left -= digest.size();
            digests.push(digest);
            places.push(place);
        }
    };
    if wanted.stdout && result.stdout_raw.is_empty() {
        want(Place::Stdout, result.stdout_digest.as_ref());
    }
    if wanted.stderr && result.stderr_raw.is_empty() {
        want(Place::Stderr, result.stderr_digest.as_ref());
    }
    if !wanted.files.is_empty() {
        for (index, file) in result.output_files.iter().enumerate() {
            if file.contents.is_empty() && wanted.files.contains(&file.path) {
                want(Place::File(index), file.digest.as_ref());
            }
        }
    }
    if digests.is_empty() {
        return;
    }
    for (place, content) in places.into_iter().zip(store.read_batch(&digests).await) {
        let Ok(content) = content else { continue };
        match place {
            Place::Stdout => result.stdout_raw = content,
            Place::Stderr => result.stderr_raw = content,
            Place::File(index) => result.output_files[index].contents = content,
        }
    }
}

enum Place {
    Stdout,
    Stderr,
    File(usize),
}

/// Checks every digest that a client's result names.
fn check(reader: &Reader<'_>, result: &ActionResult) -> Result<(), RpcError> {
    for file in &result.output_files {
        reader.required("action_result.output_files.digest", file.digest.as_ref())?;
    }
    for directory in &result.output_directories {
        if let Some(root) = &directory.root_directory_digest {
            reader.read("action_result.output_directories.root_directory_digest", root)?;
        } else {
            reader
                .required("action_result.output_directories.tree_digest", directory.tree_digest.as_ref())?;
        }
        if let Some(tree) = &directory.tree_digest {
            reader.read("action_result.output_directories.tree_digest", tree)?;
        }
    }
    let logs = [
        ("action_result.stdout_digest", &result.stdout_digest),
        ("action_result.stderr_digest", &result.stderr_digest),
    ];
    for (field, digest) in logs {
        if let Some(digest) = digest {
            reader.read(field, digest)?;
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl ActionCache for ActionCacheService {
    async fn get_action_result(
        &self,
        request: Request<GetActionResultRequest>,
    ) -> Result<Response<ActionResult>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
        let action = reader.required("action_digest", request.action_digest.as_ref()).map_err(status)?;
        let found = instance.cache.get(&action).await.map_err(status)?;
        let mut result = found.ok_or_else(|| not_cached(&action))?;
        tell_age(&result);
        if let Some(store) = &instance.store {
            let wanted = Inline {
                stdout: request.inline_stdout,
                stderr: request.inline_stderr,
                files: &request.inline_output_files,
            };
            inline(store, action.function(), &mut result, wanted).await;
        }
        Ok(Response::new(result))
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<ActionResult>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
        let action = reader.required("action_digest", request.action_digest.as_ref()).map_err(status)?;
        let unset = || RpcError::field("action_result", "is not set; a result is required");
        let result = request.action_result.ok_or_else(|| status(unset()))?;
        check(&reader, &result).map_err(status)?;
        instance.cache.update(&action, &result).await.map_err(status)?;
        Ok(Response::new(result))
    }
}

/// Tells whoever measures the call how long ago the action ended, where its worker said when.
fn tell_age(result: &ActionResult) {
    let completed =
        result.execution_metadata.as_ref().and_then(|metadata| metadata.worker_completed_timestamp);
    let completed = completed.and_then(|completed| SystemTime::try_from(completed).ok());
    if let Some(completed) = completed {
        // A worker whose clock is ahead ended it just now.
        let age = SystemTime::now().duration_since(completed).unwrap_or_default();
        grid_core::call::tell(CallEvent::ResultAge(age));
    }
}

fn not_cached(action: &Digest) -> Status {
    status(RpcError::NotFound(format!("result of action {action}")))
}
