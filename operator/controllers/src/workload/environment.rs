//! Environment variables of containers.

use grid_operator_api::SecretKeyRef;
use k8s_openapi::api::core::v1::EnvVar;

use crate::server_config::connections::secret_path;

/// A variable with a value that is known.
pub(crate) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), ..EnvVar::default() }
}

/// Makes connections to PostgreSQL by TLS alone, to servers with a certificate that this CA signed for their host: these are
/// PostgreSQL's own variables, which its drivers read.
pub(crate) fn database_tls(authority: &SecretKeyRef) -> [EnvVar; 2] {
    [env("PGSSLMODE", "verify-full"), env("PGSSLROOTCERT", secret_path(authority))]
}
