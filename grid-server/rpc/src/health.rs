//! Health and reflection: what every server has beside its own services.
//!
//! The standard health service answers by service name; whoever watches the dependencies sets the answers through
//! [`tonic_health::server::HealthReporter`]. Reflection serves the descriptors of every message, those that only
//! occur within an `Any` included.

use grid_proto::FILE_DESCRIPTOR_SET;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::{Builder, Error, v1alpha};

/// A reporter, and the health service that it feeds. The empty name stands for the whole server, and serves from
/// the start.
#[must_use]
pub fn health() -> (HealthReporter, HealthServer<impl Health>) {
    tonic_health::server::health_reporter()
}

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The reflection service in its current version.
///
/// # Errors
/// Where the descriptors that were compiled in can't be read.
pub fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, Error> {
    builder().build_v1()
}

/// The reflection service in the version that older tools still ask for.
///
/// # Errors
/// As [`reflection`].
pub fn reflection_v1alpha() -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error>
{
    builder().build_v1alpha()
}
