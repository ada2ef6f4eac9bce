//! What a Redis server's errors mean to us.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::StoreError;

/// Whether the connection is of no use any more: it broke, or its server takes no writes since it is no primary now.
pub(super) fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Whether the server is on its way up, or to a new primary.
pub(super) fn is_of_server_start(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly
        )
    )
}

/// What an error means. Passwords are in none: the server does not repeat them.
pub(super) fn meaning(name: &Arc<str>, error: &RedisError) -> StoreError {
    let (backend, message) = (Arc::clone(name), error.to_string());
    if is_of_connection(error) || is_of_server_start(error) {
        return StoreError::Unavailable { backend, message, retry_after: None };
    }
    // In a pipeline the code is that of the first command which failed.
    let errors = error.clone().into_server_errors();
    let code = errors.as_ref().and_then(|errors| errors.first()).map(|(_, error)| error.code());
    match (error.kind(), code.unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => {
            StoreError::Refused { backend, message: format!("{message}; correct `password`") }
        }
        (_, "NOPERM") => StoreError::Refused { backend, message },
        (ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported, _) => {
            StoreError::Refused { backend, message }
        }
        (_, "OOM") => StoreError::Full { backend, message },
        (
            ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel
            | ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown),
            _,
        )
        | (_, "MISCONF" | "BUSY" | "NOREPLICAS") => {
            StoreError::Unavailable { backend, message, retry_after: None }
        }
        _ => StoreError::Internal { backend, message },
    }
}
