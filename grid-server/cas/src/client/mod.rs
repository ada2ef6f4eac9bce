//! [`Connection`]: how this process reaches another gRPC server as a client: address, TLS, token, patience.
//!
//! The remote storage uses it, and so do the remote action cache and whatever else calls out. It refuses to know what
//! is called: services make their own clients over [`Connection::channel`].

mod auth;
mod endpoint;
mod patience;
mod tls;
mod tuning;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use grid_core::Digest;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub use self::auth::Auth;
pub use self::patience::Patience;
pub use self::tuning::Tuning;
use crate::StoreError;

/// A channel whose requests carry the token.
pub type AuthorizedChannel = InterceptedService<Channel, Auth>;

/// How a [`Connection`] is made.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// `http(s)://host:port`, `grpc(s)://host:port` or `unix:path`. All addresses of the host are used.
    pub url: String,
    /// The instance to name in requests.
    pub instance_name: String,
    /// The certificates that the server's must be signed by, in PEM (`tls-server-cert`); else the system's.
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate and key in PEM (`tls-client-cert`, `tls-client-key`).
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// A file with a bearer token (`auth-token`), read again as it ages.
    pub token_file: Option<PathBuf>,
    /// How old the token may become (`token-refresh-seconds`).
    pub token_refresh: Duration,
    /// How calls are tried again.
    pub patience: Patience,
    /// What differs from our defaults about the connection itself.
    pub tuning: Tuning,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
}

impl ConnectionOptions {
    /// A connection to `url` with the defaults of BuildGrid: no TLS files, no token, 3 retries.
    #[must_use]
    pub fn new(url: &str, instance_name: &str) -> Self {
        Self {
            url: url.to_owned(),
            instance_name: instance_name.to_owned(),
            tls_ca: None,
            tls_identity: None,
            token_file: None,
            token_refresh: Duration::from_secs(60),
            patience: Patience::default(),
            tuning: Tuning::default(),
            name: url.into(),
        }
    }
}

/// A way to a server, shared by the clients of its services.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    auth: Auth,
    options: Arc<ConnectionOptions>,
}

impl Connection {
    /// Prepares the way; nothing is sent yet, and the server need not be there. Call it inside of a runtime.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the address or a file of the options can't be used.
    pub fn new(options: ConnectionOptions) -> Result<Self, StoreError> {
        let channel = endpoint::channel(&options)?;
        let auth = Auth::new(options.token_file.clone(), options.token_refresh);
        Ok(Self { channel, auth, options: Arc::new(options) })
    }

    /// The channel for a generated client.
    #[must_use]
    pub fn channel(&self) -> AuthorizedChannel {
        InterceptedService::new(self.channel.clone(), self.auth.clone())
    }

    /// The instance to name in requests.
    #[must_use]
    pub fn instance_name(&self) -> &str {
        &self.options.instance_name
    }

    /// The largest message to take, in bytes, where `usual` is what the service's clients take.
    #[must_use]
    pub fn max_receive(&self, usual: usize) -> usize {
        self.options.tuning.max_receive_message.unwrap_or(usual)
    }

    /// The largest message to send, in bytes.
    #[must_use]
    pub fn max_send(&self) -> usize {
        self.options.tuning.max_send_message.unwrap_or(usize::MAX)
    }

    /// How to try again.
    #[must_use]
    pub fn patience(&self) -> &Patience {
        &self.options.patience
    }

    /// Its place in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.options.name
    }

    /// What a failed call means; `digest` is the blob that it was about, where it was about one.
    #[must_use]
    pub fn error(&self, status: &tonic::Status, digest: Option<&Digest>) -> StoreError {
        self.error_of(status.code(), status.message(), digest)
    }

    /// As [`Connection::error`], of a code and a message as batch answers have them.
    #[must_use]
    pub fn error_of(&self, code: Code, message: &str, digest: Option<&Digest>) -> StoreError {
        let backend = Arc::clone(&self.options.name);
        let message = format!("{code:?}: {message}");
        match (code, digest) {
            (Code::NotFound, Some(digest)) => StoreError::NotFound(*digest),
            (Code::DataLoss, Some(digest)) => StoreError::Corrupt { digest: *digest, backend },
            (Code::Unavailable | Code::DeadlineExceeded | Code::Aborted, _) => {
                StoreError::Unavailable { backend, message, retry_after: None }
            }
            (Code::ResourceExhausted, _) => StoreError::Full { backend, message },
            (Code::Cancelled, _) => StoreError::Interrupted(message.into()),
            (Code::InvalidArgument, Some(_)) => StoreError::Malformed(message.into()),
            (
                Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::NotFound,
                _,
            ) => StoreError::Refused { backend, message },
            _ => StoreError::Internal { backend, message },
        }
    }
}
