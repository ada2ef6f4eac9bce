//! Every name, label, annotation and selector of the objects that the operator makes. Nothing else composes one.

use std::collections::BTreeMap;

use grid_operator_api::MutualTlsSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, OwnerReference,
};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

/// Field manager of every apply.
pub const MANAGER: &str = "grid-operator";
/// The label by which the operator finds all its objects.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

const NAME: &str = "app.kubernetes.io/name";
const COMPONENT: &str = "app.kubernetes.io/component";
const INSTANCE: &str = "app.kubernetes.io/instance";
const OWNER_KIND: &str = "grid.build/kind";
/// The label of a pool's pods with the name of its grid.
pub(crate) const GRID: &str = "grid.build/grid";

/// Annotation of a workload with the hash of what was asked for when its pods were last replaced.
pub(crate) const WISH_ANNOTATION: &str = "grid.build/wish";
/// Annotation with the version that a workload runs.
pub(crate) const VERSION_ANNOTATION: &str = "grid.build/version";
/// Annotation with the revision of the templates that a workload was made by.
pub(crate) const REVISION_ANNOTATION: &str = "grid.build/template-revision";
/// Annotation with the time until which a generated certificate is good.
pub(crate) const NOT_AFTER_ANNOTATION: &str = "grid.build/not-after";
/// Annotation with the host of a generated certificate.
pub(crate) const HOST_ANNOTATION: &str = "grid.build/host";
/// Annotation of the Secret with tokens: the request for the rotation that was begun last.
pub(crate) const ROTATED_ANNOTATION: &str = "grid.build/rotated";
/// Annotation of the same: the step that a rotation is at.
pub(crate) const ROTATION_STEP_ANNOTATION: &str = "grid.build/rotation-step";
/// Annotation of the same: since when.
pub(crate) const ROTATION_SINCE_ANNOTATION: &str = "grid.build/rotation-since";
/// Annotation of a pod template with the hash of the secrets that its program reads at start.
pub(crate) const SECRETS_ANNOTATION: &str = "grid.build/secrets";
/// The revision of the templates that this operator makes.
pub(crate) const TEMPLATE_REVISION: &str = "6";

/// Port of gRPC.
pub(crate) const GRPC_PORT: i32 = 50051;
/// Port of gRPC with mutual TLS, between parts.
pub(crate) const MUTUAL_TLS_PORT: i32 = 50052;
/// Port of the server's metrics and probes.
pub(crate) const SERVER_ADMIN_PORT: i32 = 8980;
/// Port of the worker's metrics and probes.
pub(crate) const WORKER_ADMIN_PORT: i32 = 8981;

/// The selector of everything that the operator made.
#[must_use]
pub fn managed_selector() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// The resource that an object of ours was made for: its kind and name.
#[must_use]
pub fn owner_of(labels: &BTreeMap<String, String>) -> Option<(&str, &str)> {
    Some((labels.get(OWNER_KIND)?, labels.get(INSTANCE)?))
}

/// The selector of all pods of a BuildGrid.
pub(crate) fn servers_of(grid: &str) -> LabelSelector {
    let labels = [(INSTANCE, grid), (OWNER_KIND, "BuildGrid")];
    LabelSelector {
        match_labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        ..LabelSelector::default()
    }
}

/// The selector of all pods of resources of these kinds.
pub(crate) fn pods_of(kinds: &[&str]) -> LabelSelector {
    LabelSelector {
        match_labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: OWNER_KIND.to_owned(),
            operator: "In".to_owned(),
            values: Some(kinds.iter().map(ToString::to_string).collect()),
        }]),
    }
}

/// The resource that objects are made for, and so their common part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    reference: OwnerReference,
}

impl Owner {
    pub(crate) fn new<K: Resource<DynamicType = ()>>(resource: &K, kind: &'static str) -> Self {
        let name = resource.name_any();
        let uid = resource.uid().unwrap_or_default();
        let reference = OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: kind.to_owned(),
            name: name.clone(),
            uid: uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        Self { kind, name, namespace: resource.namespace().unwrap_or_default(), uid, reference }
    }

    /// Labels that tell a component's pods from all others. They never change: selectors are immutable.
    pub(crate) fn selector_labels(&self, component: &str) -> BTreeMap<String, String> {
        [(INSTANCE, self.name.as_str()), (OWNER_KIND, self.kind), (COMPONENT, component)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    /// Labels of an object of a component.
    pub(crate) fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.selector_labels(component);
        labels.insert(NAME.to_owned(), "grid".to_owned());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    pub(crate) fn selector(&self, component: &str) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector_labels(component)), ..LabelSelector::default() }
    }

    /// The selector of all objects of this resource, as a request takes it.
    pub(crate) fn list_selector(&self) -> String {
        format!("{MANAGED_BY}={MANAGER},{OWNER_KIND}={},{INSTANCE}={}", self.kind, self.name)
    }

    /// The selector of a component's pods, as a request takes it.
    pub(crate) fn pod_selector(&self, component: &str) -> String {
        self.selector_labels(component).iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
    }

    /// The selector of the claims of all its components: StatefulSets don't say who manages those.
    pub(crate) fn every_claim_selector(&self) -> String {
        format!("{OWNER_KIND}={},{INSTANCE}={}", self.kind, self.name)
    }

    /// Metadata of an object that is deleted with its resource.
    pub(crate) fn meta(&self, name: impl Into<String>, component: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(component)),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }
}

/// Names of a resource's objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a>(pub(crate) &'a str);

impl Names<'_> {
    /// A component's workload, and the Service that clients use.
    pub(crate) fn component(&self, component: &str) -> String {
        format!("{}-{component}", self.0)
    }

    /// The headless Service by which workers and servers see each pod of a component.
    pub(crate) fn pods(&self, component: &str) -> String {
        format!("{}-{component}-pods", self.0)
    }

    /// The ConfigMap with a component's configuration, by its content.
    pub(crate) fn config(&self, component: &str, hash: &str) -> String {
        format!("{}-{component}-{}", self.0, short(hash))
    }

    /// The ServiceAccount of all pods.
    pub(crate) fn service_account(&self) -> String {
        self.0.to_owned()
    }

    /// The Secret with the tokens of workers and operator.
    pub(crate) fn credentials(&self) -> String {
        format!("{}-credentials", self.0)
    }

    /// The Secret with the grid's own CA.
    pub(crate) fn authority(&self) -> String {
        format!("{}-ca", self.0)
    }

    /// The Secret with the certificate of the ingress.
    pub(crate) fn certificate(&self) -> String {
        format!("{}-tls", self.0)
    }

    /// The Secret with the CA of mutual TLS.
    pub(crate) fn parts_authority(&self) -> String {
        format!("{}-parts-ca", self.0)
    }

    /// The Secret with what servers show each other and their callers.
    pub(crate) fn server_certificate(&self) -> String {
        format!("{}-server-tls", self.0)
    }

    /// The Secret with what those show who only call.
    pub(crate) fn client_certificate(&self) -> String {
        format!("{}-client-tls", self.0)
    }

    /// The ConfigMap with the dashboard.
    pub(crate) fn dashboard(&self) -> String {
        format!("{}-dashboard", self.0)
    }

    /// The ConfigMap with configuration for clients.
    pub(crate) fn clients(&self) -> String {
        format!("{}-clients", self.0)
    }

    /// The Job that migrates the database, by what it does.
    pub(crate) fn migration(&self, hash: &str) -> String {
        format!("{}-migrate-{}", self.0, short(hash))
    }

    /// The CronJob that expires blobs.
    pub(crate) fn cleanup(&self) -> String {
        format!("{}-cleanup", self.0)
    }

    /// The one address of a component, for who needs any of its pods.
    pub(crate) fn component_url(&self, component: &str, namespace: &str, wire: Wire) -> String {
        wire.url(&format!("{}.{namespace}.svc", self.component(component)))
    }

    /// The address of all pods of a component, for connections from inside the namespace's cluster.
    pub(crate) fn pods_url(&self, component: &str, namespace: &str, wire: Wire) -> String {
        wire.url(&format!("{}.{namespace}.svc", self.pods(component)))
    }

    /// The address of one pod of a StatefulSet component.
    pub(crate) fn pod_url(&self, component: &str, namespace: &str, ordinal: i32, wire: Wire) -> String {
        let (pod, service) = (self.component(component), self.pods(component));
        wire.url(&format!("{pod}-{ordinal}.{service}.{namespace}.svc"))
    }

    /// Every host name by which the servers of a component are called.
    pub(crate) fn hosts(&self, component: &str, namespace: &str) -> [String; 3] {
        let pods = format!("{}.{namespace}.svc", self.pods(component));
        [format!("{}.{namespace}.svc", self.component(component)), format!("*.{pods}"), pods]
    }
}

/// How parts speak to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// In plain text.
    Plain,
    /// By mutual TLS.
    Mutual,
}

impl Wire {
    /// Mutual TLS where the spec has a word on it.
    pub(crate) fn of(mutual_tls: Option<&MutualTlsSpec>) -> Self {
        if mutual_tls.is_some() { Self::Mutual } else { Self::Plain }
    }

    /// The port of parts.
    pub(crate) fn port(self) -> i32 {
        match self {
            Self::Plain => GRPC_PORT,
            Self::Mutual => MUTUAL_TLS_PORT,
        }
    }

    fn url(self, host: &str) -> String {
        let scheme = match self {
            Self::Plain => "http",
            Self::Mutual => "https",
        };
        format!("{scheme}://{host}:{}", self.port())
    }
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_resource_name_still_gives_valid_service_names() {
        let longest = "n".repeat(40);
        let names = Names(&longest);
        for name in [
            names.pods("action-cache"),
            names.config("action-cache", "0123456789abcdef"),
            names.migration("0123456789abcdef"),
        ] {
            assert!(name.len() <= 63, "{name} has {} characters", name.len());
        }
        // The pods of a StatefulSet carry a label of its name and an eleven-character hash.
        for component in ["server", "cas"] {
            assert!(names.component(component).len() <= 52);
        }
    }
}
