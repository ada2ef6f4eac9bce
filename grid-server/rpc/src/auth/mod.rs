//! Who calls, and what they may do.
//!
//! [`layer::AuthLayer`] stands before all services: an [`Authenticator`] tells who calls, and the [`policy::Policy`]
//! what the caller may do where. Which instance a call is about stands in its message, so the decision falls where
//! a service looks up its instance: [`crate::Instances`] asks [`permit`] for every service alike, and none can
//! forget it. A server without the layer permits everything; `grid-server` decides where that is allowed.

mod acl;
pub mod headers;
pub mod jwks;
pub mod jwt;
pub mod layer;
pub mod policy;
pub mod tls;
pub mod tokens;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use grid_core::{CallInstance, InstanceName};
use http::request::Parts;

use crate::RpcError;

pub use acl::{Acl, AclError};
pub use layer::AuthLayer;
pub use policy::Policy;

/// Who calls. Empty text stands for what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The one in whose name the call is made.
    pub subject: String,
    /// The one who makes it for them.
    pub actor: String,
    /// What it is part of.
    pub workflow: String,
}

/// How callers are known.
#[async_trait]
pub trait Authenticator: Debug + Send + Sync {
    /// The caller, or `None` where the request says nothing of one.
    ///
    /// # Errors
    /// [`RpcError::Unauthenticated`] where what it says is not to be believed; [`RpcError::Unavailable`] where that
    /// can't be told just now.
    async fn authenticate(&self, request: &Parts) -> Result<Option<Identity>, RpcError>;
}

/// One call, as far as authorization is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The caller, or why there is none.
    caller: Result<Arc<Identity>, RpcError>,
    /// The method's name without its service, such as `UpdateActionResult`.
    method: Arc<str>,
    policy: Arc<Policy>,
}

tokio::task_local! {
    static CALL: Call;
    static INSTANCE: CallInstance;
}

/// Notes the instance of the call that this task serves, for those who count calls.
pub(crate) fn note_instance(instance: &InstanceName) {
    // Where nobody counts there is nothing to note.
    let _ = INSTANCE.try_with(|noted| noted.note(instance));
}

/// Whether the call that this task serves may go on in `instance`.
///
/// # Errors
/// [`RpcError::Unauthenticated`], [`RpcError::PermissionDenied`]; or why the caller can't be known.
pub fn permit(instance: &str) -> Result<(), RpcError> {
    CALL.try_with(|call| call.policy.permit(instance, &call.method, &call.caller)).unwrap_or(Ok(()))
}

/// The authenticated caller of the call that this task serves.
#[must_use]
pub fn caller() -> Option<Arc<Identity>> {
    CALL.try_with(|call| call.caller.as_ref().ok().cloned()).ok().flatten()
}

/// The token of an `authorization: Bearer` header.
fn bearer(request: &Parts) -> Option<&str> {
    let value = request.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
