//! The lease of the election, kept as a `coordination.k8s.io/v1` Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

use crate::lease::{LeaseStore, Term};

/// A Lease in the operator's namespace.
#[derive(Clone)]
pub struct KubeLease {
    api: Api<Lease>,
    name: String,
}

impl KubeLease {
    /// The Lease of that name; it is made by the first leader.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }
}

impl LeaseStore for KubeLease {
    type Error = kube::Error;

    async fn get(&self) -> Result<Option<Term>, kube::Error> {
        Ok(self.api.get_opt(&self.name).await?.map(|lease| {
            let version = lease.resource_version().unwrap_or_default();
            let spec = lease.spec.unwrap_or_default();
            Term {
                holder: spec.holder_identity.unwrap_or_default(),
                transitions: spec.lease_transitions.unwrap_or_default(),
                version,
            }
        }))
    }

    async fn put(&self, term: &Term, duration: Duration) -> Result<String, kube::Error> {
        // The time is for people and for other implementations: ours compares versions by its own clock.
        let now = MicroTime(Timestamp::now());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: (!term.version.is_empty()).then(|| term.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(term.holder.clone()),
                lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
                lease_transitions: Some(term.transitions),
                acquire_time: None,
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams::default();
        let written = if term.version.is_empty() {
            self.api.create(&params, &lease).await?
        } else {
            self.api.replace(&self.name, &params, &lease).await?
        };
        Ok(written.resource_version().unwrap_or_default())
    }
}
