//! Who may call.

use std::path::PathBuf;
use std::time::Duration;

use super::ClientCredentials;

/// `authorization`.
#[derive(Debug, PartialEq)]
pub struct Authorization {
    /// How callers are known.
    pub method: Method,
    /// A file with who may call what.
    pub acl: Option<PathBuf>,
    /// Subjects that may record results beside the scheduler.
    pub cache_writers: Vec<String>,
    /// Instances that everybody may call.
    pub open_instances: Vec<String>,
    /// Whether calls from this machine need no authentication.
    pub allow_localhost: bool,
}

/// How callers are known.
#[derive(Debug, PartialEq)]
pub enum Method {
    /// They aren't: everybody may call.
    None,
    /// By headers that a proxy sets.
    Headers,
    /// By bearer tokens.
    Jwt(Jwt),
    /// By asking a server.
    Server(AuthorizationServer),
}

/// Bearer tokens.
#[derive(Debug, PartialEq)]
pub struct Jwt {
    /// Where the keys come from.
    pub keys: JwtKeys,
    /// The audiences that a token may be for; empty for any.
    pub audiences: Vec<String>,
    /// The algorithm of the signatures.
    pub algorithm: Algorithm,
}

/// Where the keys of signatures come from.
#[derive(Debug, PartialEq)]
pub enum JwtKeys {
    /// A file with the secret or public key.
    File(PathBuf),
    /// Key sets that are fetched.
    Fetched {
        /// From where.
        urls: Vec<String>,
        /// How often.
        every: Duration,
    },
}

/// An algorithm of signatures, as RFC 7518 names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

/// A server of `build.buildgrid.Auth`.
#[derive(Debug, PartialEq)]
pub struct AuthorizationServer {
    /// Its URL.
    pub url: String,
    /// How long a call may take.
    pub request_timeout: Duration,
    /// What is shown to it.
    pub credentials: ClientCredentials,
}
