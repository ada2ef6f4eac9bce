//! Who calls, and what they may do.
//!
//! [`layer::AuthLayer`] stands before all services: an [`Authenticator`] tells who calls, and the [`policy::Policy`]
//! what the caller may do where. Which instance a call is about stands in its message, so the decision falls where
//! a service looks up its instance: [`crate::Instances`] asks [`permit`] for every service alike, and none can
//! forget it. A server without the layer permits everything; `grid-server` decides where that is allowed.

mod acl;
pub mod es512;
mod followed;
pub mod headers;
pub mod jwks;
pub mod jwt;
pub mod layer;
pub mod policy;
mod rates;
pub mod server;
pub mod tls;
pub mod tokens;

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use grid_core::{CallEvent, CallInstance, InstanceName};
use http::request::Parts;

use crate::RpcError;
use crate::transport::place;

pub use acl::{Acl, AclError};
pub use followed::Followed;
pub use layer::AuthLayer;
pub use policy::Policy;
pub use rates::Rates;

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

/// A server that is asked of each call (BuildGrid's `method: server`).
#[async_trait]
pub trait Authorizer: Debug + Send + Sync {
    /// Who the bearer of `token` is, where they may call `method`, a path `/SERVICE/METHOD`, in `instance`.
    ///
    /// # Errors
    /// [`RpcError::Unauthenticated`], [`RpcError::PermissionDenied`]; [`RpcError::Unavailable`] where nobody answers.
    async fn authorize(&self, instance: &str, method: &str, token: &str) -> Result<Arc<Identity>, RpcError>;
}

/// The method that records a result.
pub(crate) const UPDATE_ACTION_RESULT: &str =
    "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";

/// What is known of a caller.
#[derive(Clone, Debug)]
enum Caller {
    /// Who it is, or why that is not known.
    Known(Result<Arc<Identity>, RpcError>),
    /// What it shows to the server that is asked.
    Bearer(Arc<dyn Authorizer>, Arc<str>),
}

/// One call, as far as authorization is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    caller: Caller,
    /// The method's path, `/SERVICE/METHOD`.
    method: Arc<str>,
    policy: Arc<Policy>,
    /// Who was let in.
    permitted: Arc<OnceLock<Arc<Identity>>>,
}

impl Call {
    /// What tells the caller from others, where that is known before the call is looked at, and how to call them. A token
    /// that only another server can read stands for its bearer, and is told to nobody.
    fn subject(&self) -> Option<(&str, &str)> {
        match &self.caller {
            Caller::Known(identity) => {
                let subject = identity.as_ref().ok().map(|identity| identity.subject.as_str());
                subject.filter(|subject| !subject.is_empty()).map(|subject| (subject, subject))
            }
            Caller::Bearer(_, token) => Some((token, "the bearer of this token")),
        }
    }

    async fn permit(&self, instance: &str, method: &str) -> Result<(), RpcError> {
        let identity = match &self.caller {
            Caller::Known(caller) => {
                self.policy.permit(instance, method, caller)?;
                caller.as_ref().ok().cloned()
            }
            Caller::Bearer(..) if self.policy.is_open(instance) => {
                let nobody = RpcError::Unauthenticated(String::new());
                self.policy.permit(instance, method, &Err(nobody))?;
                None
            }
            Caller::Bearer(authorizer, token) => {
                // Who is not admitted yet takes no place from those who are.
                Some(place::away(authorizer.authorize(instance, method, token)).await??)
            }
        };
        if let Some(identity) = identity {
            // The first instance that a call names is the one that it is about.
            let _ = self.permitted.set(identity);
        }
        Ok(())
    }
}

impl Call {
    /// Whether the caller may make a call that concerns all instances. An instance that is open to everybody opens none of
    /// these.
    async fn administers(&self) -> Result<(), RpcError> {
        let everywhere = "";
        match &self.caller {
            Caller::Known(caller) => self.policy.administers(everywhere, &self.method, caller),
            Caller::Bearer(authorizer, token) => {
                authorizer.authorize(everywhere, &self.method, token).await.map(drop)
            }
        }
    }
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
pub async fn permit(instance: &str) -> Result<(), RpcError> {
    match CALL.try_with(Call::clone) {
        Ok(call) => timed(call.permit(instance, &call.method)).await,
        Err(_) => Ok(()),
    }
}

/// Tells whoever measures the call how long it took to know its caller, or what they may do.
async fn timed<T>(work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.await;
    grid_core::call::tell(CallEvent::Authorized(began.elapsed()));
    done
}

/// Whether the caller of the call that this task serves may call another method, by its path, in `instance`.
pub(crate) async fn may(method: &str, instance: &str) -> bool {
    match CALL.try_with(Call::clone) {
        Ok(call) => call.permit(instance, method).await.is_ok(),
        Err(_) => true,
    }
}

/// The caller who was let in by [`permit`], where one is known.
#[must_use]
pub fn caller() -> Option<Arc<Identity>> {
    let permitted = CALL.try_with(|call| call.permitted.get().cloned()).ok().flatten();
    permitted.filter(|identity| !identity.subject.is_empty())
}

/// The token of an `authorization: Bearer` header (RFC 6750); `None` where there is no such header, or one of another scheme.
///
/// # Errors
/// [`RpcError::Unauthenticated`] where it is no text, holds no token, or is there twice: whoever shows something that can't be
/// read is not taken for nobody.
fn bearer(request: &Parts) -> Result<Option<&str>, RpcError> {
    let refuse = |problem: &str| RpcError::Unauthenticated(format!("the `authorization` header {problem}"));
    let mut values = request.headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refuse("is there more than once"));
    }
    let text = value.to_str().map_err(|_| refuse("holds what is no text"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    match token.trim() {
        "" => Err(refuse("has no token after `Bearer`")),
        token => Ok(Some(token)),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn shown(values: &[&[u8]]) -> Result<Option<String>, RpcError> {
        let mut request = Request::new(());
        for value in values {
            request.headers_mut().append("authorization", HeaderValue::from_bytes(value).unwrap());
        }
        bearer(&request.into_parts().0).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn who_shows_nothing_or_something_else_is_nobody() {
        for nothing in [&[][..], &[&b"Basic dXNlcjpw"[..]], &[b"Negotiate"], &[b""]] {
            assert_eq!(shown(nothing).unwrap(), None, "{nothing:?}");
        }
        assert_eq!(shown(&[b"bearer  a.b.c "]).unwrap().unwrap(), "a.b.c");
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        for wrong in
            [&[&b"Bearer"[..]][..], &[b"Bearer  "], &[b"Bearer \xff\xfe"], &[b"Bearer a", b"Bearer a"]]
        {
            assert!(matches!(shown(wrong), Err(RpcError::Unauthenticated(_))), "{wrong:?}");
        }
    }
}
