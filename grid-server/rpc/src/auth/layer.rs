//! [`AuthLayer`]: the tower layer before all services.
//!
//! Health and reflection are open. With tokens for workers and administrators, Bots and the services of administrators ask
//! for those and for nothing else; every other call runs with what is known of its caller, for [`super::permit`] to decide.
//! Without a token for administrators, their services ask for a known caller whom the ACL, where there is one, grants the
//! call in the unnamed instance: what these calls do concerns all instances.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use grid_core::CallInstance;
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo};
use tower::{Layer, Service};

use super::tokens::TokenFile;
use super::{
    Authenticator, Authorizer, CALL, Call, Caller, INSTANCE, Identity, Policy, Rates, bearer, timed,
};
use crate::transport::around::{Around, Surrounded};
use crate::transport::place;
use crate::{RpcError, to_status};

const OPEN: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
const BOTS: &str = "google.devtools.remoteworkers.v1test2.Bots";
/// What a worker needs beside Bots to fetch inputs, store outputs and write logs. Results it does not record: the
/// scheduler does.
const WORKER: [&str; 5] = [
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.logstream.v1.LogStreamService",
    "google.bytestream.ByteStream",
];

/// What the layer works by.
#[derive(Clone, Debug, Default)]
pub struct AuthOptions {
    /// How callers are known, in the order in which they are asked.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// The server that decides of each call with a token, where one is asked.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Whether callers of whom nothing is known are let in as nobody (`method: none`). Without authenticators and an
    /// ACL they are permitted everything but what tokens guard.
    pub anonymous: bool,
    /// What callers may do.
    pub policy: Arc<Policy>,
    /// Whether callers from this machine need no authentication (`allow-localhost-requests`).
    pub allow_localhost: bool,
    /// What workers show to Bots.
    pub worker_token: Option<Arc<TokenFile>>,
    /// What administrators and the operator show to the services that are theirs.
    pub admin_token: Option<Arc<TokenFile>>,
    /// The full names of the services that are administrators'.
    pub admin_services: &'static [&'static str],
    /// How many calls a second callers may make, where that is limited. Workers and administrators may make any number.
    pub rates: Option<Arc<Rates>>,
}

/// Authentication before all services of a server.
#[derive(Clone, Debug)]
pub struct AuthLayer {
    options: Arc<AuthOptions>,
}

impl AuthLayer {
    /// A layer that works by `options`.
    #[must_use]
    pub fn new(options: AuthOptions) -> Self {
        Self { options: Arc::new(options) }
    }

    /// Serves a call that didn't come by gRPC as one of the gRPC method at `path`. It holds no place until it is admitted.
    ///
    /// # Errors
    /// Why it may not be made.
    pub(crate) async fn as_method<T>(
        &self,
        path: &str,
        request: &http::request::Parts,
        call: impl Future<Output = T>,
    ) -> Result<T, RpcError> {
        match place::away(self.options.admit(path, request)).await?? {
            Some(known) => Ok(CALL.scope(known, call).await),
            None => Ok(call.await),
        }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded::new(self.clone(), inner)
    }
}

impl Around for AuthLayer {
    async fn around<S>(self, request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send,
    {
        let (parts, body) = request.into_parts();
        let call = match timed(self.options.admit(parts.uri.path(), &parts)).await {
            Err(error) => return Ok(to_status(&error).into_http()),
            Ok(call) => call,
        };
        let counted = parts.extensions.get::<CallInstance>().cloned().unwrap_or_default();
        let future = INSTANCE.scope(counted, inner.call(Request::from_parts(parts, body)));
        match call {
            Some(call) => CALL.scope(call, future).await,
            None => future.await,
        }
    }
}

/// How a call goes on.
enum Verdict {
    /// Without any check.
    Open,
    /// As far as the caller may.
    Checked(Caller),
}

impl Verdict {
    /// What the call's task is to know; nothing where nothing is checked.
    fn call(self, path: &str, options: &AuthOptions) -> Option<Call> {
        match self {
            Self::Open => None,
            Self::Checked(caller) => Some(Call {
                caller,
                method: path.into(),
                policy: Arc::clone(&options.policy),
                permitted: Arc::new(OnceLock::new()),
            }),
        }
    }
}

impl AuthOptions {
    /// Judges a call of the method at `path`, `/SERVICE/METHOD`.
    async fn judge(&self, path: &str, request: &http::request::Parts) -> Result<Verdict, RpcError> {
        let path = path.trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        if OPEN.contains(&service) {
            return Ok(Verdict::Open);
        }
        let guard = match service {
            BOTS => self.worker_token.as_ref().map(|token| (token, "worker")),
            name if self.admin_services.contains(&name) => {
                self.admin_token.as_ref().map(|token| (token, "admin"))
            }
            _ => None,
        };
        if let Some((token, who)) = guard {
            return match bearer(request)? {
                Some(given) if token.matches(given) => Ok(Verdict::Open),
                Some(_) => Err(RpcError::PermissionDenied(format!("this call asks for the {who} token"))),
                None => Err(RpcError::Unauthenticated(format!(
                    "this call asks for the {who} token in `authorization: Bearer`"
                ))),
            };
        }
        let unguarded = self.anonymous && self.authenticators.is_empty() && self.policy.acl.is_none();
        if unguarded || self.is_worker(service, method, request) {
            return Ok(Verdict::Open);
        }
        if let Some(authorizer) = &self.authorizer {
            match bearer(request) {
                Ok(Some(token)) => {
                    return Ok(Verdict::Checked(Caller::Bearer(Arc::clone(authorizer), token.into())));
                }
                Ok(None) => {}
                // An instance that is open to everybody is open all the same.
                Err(error) => return Ok(Verdict::Checked(Caller::Known(Err(error)))),
            }
        }
        Ok(Verdict::Checked(Caller::Known(self.caller(request).await.map(Arc::new))))
    }

    /// What the task of a call is to know, where the call may reach its service.
    async fn admit(&self, path: &str, request: &http::request::Parts) -> Result<Option<Call>, RpcError> {
        let call = self.judge(path, request).await?.call(path, self);
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if let Some(call) = call.as_ref().filter(|_| self.admin_services.contains(&service)) {
            call.administers().await?;
        }
        if let Some(rates) = self.rates.as_ref().filter(|_| self.has_rate(path, service, request)) {
            rates.wait(call.as_ref().and_then(Call::subject), request).await?;
        }
        Ok(call)
    }

    /// Whether a call counts for its caller's rate: those of workers and administrators don't.
    fn has_rate(&self, path: &str, service: &str, request: &http::request::Parts) -> bool {
        let is_other = service == BOTS || OPEN.contains(&service) || self.admin_services.contains(&service);
        let method = path.rsplit('/').next().unwrap_or_default();
        !is_other && !self.is_worker(service, method, request)
    }

    fn is_worker(&self, service: &str, method: &str, request: &http::request::Parts) -> bool {
        let Some(token) = &self.worker_token else { return false };
        WORKER.contains(&service)
            && method != "UpdateActionResult"
            && bearer(request).is_ok_and(|given| given.is_some_and(|given| token.matches(given)))
    }

    async fn caller(&self, request: &http::request::Parts) -> Result<Identity, RpcError> {
        for authenticator in &self.authenticators {
            if let Some(identity) = authenticator.authenticate(request).await? {
                return Ok(identity);
            }
        }
        if self.allow_localhost && from_localhost(request) {
            return Ok(Identity {
                subject: "localhost".into(),
                actor: "localhost".into(),
                ..Identity::default()
            });
        }
        if self.anonymous {
            return Ok(Identity::default());
        }
        Err(RpcError::Unauthenticated("No valid authorization or authentication provided".into()))
    }
}

/// Whether a caller is on this machine, as all are who come by a UNIX socket.
fn from_localhost(request: &http::request::Parts) -> bool {
    if request.extensions.get::<UdsConnectInfo>().is_some() {
        return true;
    }
    peer(request).is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// The other end of the connection that a call came by.
pub(super) fn peer(request: &http::request::Parts) -> Option<SocketAddr> {
    let tcp = request.extensions.get::<TcpConnectInfo>();
    let tls = request.extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(TlsConnectInfo::get_ref);
    tcp.or(tls).and_then(TcpConnectInfo::remote_addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn judged(allow_localhost: bool, connection: impl Clone + Send + Sync + 'static) -> bool {
        let options = AuthOptions { allow_localhost, ..AuthOptions::default() };
        let mut request = Request::new(());
        request.extensions_mut().insert(connection);
        options.caller(&request.into_parts().0).await.is_ok()
    }

    fn tcp(address: &str) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(address.parse().unwrap()) }
    }

    #[tokio::test]
    async fn callers_on_this_machine_come_by_loopback_or_a_unix_socket() {
        let unix = UdsConnectInfo { peer_addr: None, peer_cred: None };
        assert!(judged(true, unix.clone()).await && !judged(false, unix).await);
        assert!(judged(true, tcp("127.0.0.1:9")).await && judged(true, tcp("[::ffff:127.0.0.1]:9")).await);
        assert!(!judged(true, tcp("192.0.2.1:9")).await);
    }
}
