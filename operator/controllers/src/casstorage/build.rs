//! The objects of a tier, computed from a valid wish.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{CasStorageSpec, CleanupSpec};
use grid_operator_apply::{Desired, Kind, content_hash};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use serde_json::json;

use super::access::{Access, SERVER};
use crate::error::Result;
use crate::foreign::Foreign;
use crate::mutual_tls::{MutualTls, PartsPairs};
use crate::names::{Names, Owner, SERVER_ADMIN_PORT, Wire, pods_of};
use crate::server_config::storage::VOLUME_DIR;
use crate::server_config::yaml::Node;
use crate::workload::revision::Draft;
use crate::workload::{
    MIN_READY_SECONDS, Ports, ServerPod, anywhere_in_cluster, at, channels, claim_template, cluster_service,
    disruption_budget, inbound, overlay, pods_service, policy, retention,
};

/// The component that expires blobs.
pub(crate) const CLEANUP: &str = "cleanup";

/// A tier that can be built.
pub(crate) struct Tier<'a> {
    pub(crate) owner: Owner,
    pub(crate) spec: &'a CasStorageSpec,
    pub(crate) image: String,
    pub(crate) version: String,
    /// Revision of the templates.
    pub(crate) revision: String,
    pub(crate) access: Access,
    pub(crate) secrets_hash: Option<String>,
    /// How its callers are known.
    pub(crate) mutual_tls: Option<MutualTls>,
    /// The certificates, where the operator makes them.
    pub(crate) parts: Option<PartsPairs>,
    /// Keys of Secrets that a server reads.
    pub(crate) secrets: BTreeSet<(String, String)>,
}

impl Tier<'_> {
    /// What its servers listen on: nobody but parts calls them.
    fn ports(&self) -> Ports {
        if self.mutual_tls.is_some() { Ports::Mutual } else { Ports::Plain }
    }

    /// Server pods that are to run now.
    fn replicas(&self) -> i32 {
        if self.spec.hibernate { 0 } else { self.access.replicas() }
    }
}

/// Every object of a tier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    service_account: ServiceAccount,
    secrets: Vec<Secret>,
    certificates: Vec<Foreign>,
    config_maps: Vec<ConfigMap>,
    services: Vec<Service>,
    deployment: Option<Deployment>,
    stateful_set: Option<StatefulSet>,
    budget: Option<PodDisruptionBudget>,
    network_policy: Option<NetworkPolicy>,
    cleanup: Option<CronJob>,
}

impl Objects {
    /// Every object goes into its phase; one that is forgotten doesn't compile.
    pub(crate) fn into_phases(self, tier: &Tier<'_>) -> Result<Phases> {
        let Self {
            service_account,
            secrets,
            certificates,
            config_maps,
            services,
            deployment,
            stateful_set,
            budget,
            network_policy,
            cleanup,
        } = self;
        let mut wanted = vec![Desired::new(&service_account)?];
        for secret in &secrets {
            wanted.push(Desired::new(secret)?);
        }
        for certificate in &certificates {
            wanted.push(certificate.desired()?);
        }
        for config_map in &config_maps {
            wanted.push(Desired::new(config_map)?);
        }
        for service in &services {
            wanted.push(Desired::new(service)?);
        }
        let template = tier.spec.pod_template.as_ref();
        let mut servers = vec![];
        if let Some(deployment) = deployment {
            let value = overlay(serde_json::to_value(deployment)?, template);
            servers.push(Draft { kind: Kind::of::<Deployment>(), value });
        }
        if let Some(set) = stateful_set {
            let value = overlay(serde_json::to_value(set)?, template);
            servers.push(Draft { kind: Kind::of::<StatefulSet>(), value });
        }
        if let Some(budget) = budget {
            wanted.push(Desired::new(&budget)?);
        }
        if let Some(policy) = network_policy {
            wanted.push(Desired::new(&policy)?);
        }
        if let Some(cleanup) = cleanup {
            let value = at("/spec/jobTemplate/spec/template", serde_json::to_value(cleanup)?, template);
            wanted.push(Desired::from_value(Kind::of::<CronJob>(), value)?);
        }
        Ok(Phases { rest: wanted, servers })
    }
}

/// Objects in the order of their application.
pub(crate) struct Phases {
    pub(crate) rest: Vec<Desired>,
    pub(crate) servers: Vec<Draft>,
}

/// Builds them.
pub(crate) fn build(tier: &Tier<'_>) -> Objects {
    let names = Names(&tier.owner.name);
    let mut objects = Objects {
        service_account: ServiceAccount {
            metadata: tier.owner.meta(names.service_account(), "storage"),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        ..Objects::default()
    };
    if tier.access.replicas() > 0 {
        add_server(tier, &mut objects);
        add_certificates(tier, &mut objects);
    }
    if let Some(cleanup) = tier.spec.cleanup.as_ref().filter(|_| tier.access.is_direct()) {
        let config = config_map(tier, CLEANUP, cleanup_config(tier, cleanup).to_yaml());
        let name = config.metadata.name.clone().unwrap_or_default();
        objects.config_maps.push(config);
        objects.cleanup = Some(cron_job(tier, cleanup, name));
    }
    objects
}

fn add_server(tier: &Tier<'_>, objects: &mut Objects) {
    let config = config_map(tier, SERVER, server_config(tier).to_yaml());
    let template = pod(tier, SERVER, config.metadata.name.clone().unwrap_or_default()).template();
    objects.config_maps.push(config);
    objects.services.push(cluster_service(&tier.owner, SERVER, tier.ports()));
    objects.services.push(pods_service(&tier.owner, SERVER, tier.ports()));
    objects.budget = disruption_budget(&tier.owner, SERVER, tier.replicas());
    objects.network_policy = tier.spec.network_policy.then(|| network_policy(tier));
    if tier.access.has_disk() {
        objects.stateful_set = Some(stateful_set(tier, template));
    } else {
        objects.deployment = Some(deployment(tier, template));
    }
}

/// What its servers and their callers show each other.
fn add_certificates(tier: &Tier<'_>, objects: &mut Objects) {
    let Some(wish) = &tier.mutual_tls else { return };
    objects.secrets = tier.parts.as_ref().map_or_else(Vec::new, |parts| parts.secrets(&tier.owner, wish));
    objects.certificates = wish.certificates(&tier.owner, std::iter::once(SERVER));
}

/// Only servers of the namespace's grids and tiers reach a tier's servers.
fn network_policy(tier: &Tier<'_>) -> NetworkPolicy {
    let fronts = NetworkPolicyPeer {
        pod_selector: Some(pods_of(&["BuildGrid", "CasStorage"])),
        ..NetworkPolicyPeer::default()
    };
    let rules = vec![
        inbound(Wire::of(tier.spec.mutual_tls.as_ref()).port(), Some(vec![fronts])),
        inbound(SERVER_ADMIN_PORT, Some(vec![anywhere_in_cluster()])),
    ];
    let metadata = tier.owner.meta(Names(&tier.owner.name).component(SERVER), SERVER);
    policy(metadata, tier.owner.selector(SERVER), rules, None)
}

fn pod<'a>(tier: &'a Tier<'a>, component: &'a str, config: String) -> ServerPod<'a> {
    ServerPod {
        owner: &tier.owner,
        component,
        image: tier.image.clone(),
        version: &tier.version,
        revision: &tier.revision,
        config,
        credentials: None,
        ports: tier.ports(),
        secrets: if component == SERVER { &tier.secrets } else { &tier.access.tree().secrets },
        database_authority: None,
        secrets_hash: tier.secrets_hash.as_deref(),
        has_claim: component == SERVER && tier.access.has_disk(),
        resources: tier.spec.resources.as_ref(),
    }
}

/// A ConfigMap under a name made of its content.
fn config_map(tier: &Tier<'_>, component: &str, yaml: String) -> ConfigMap {
    let data = BTreeMap::from([("server.yml".to_owned(), yaml)]);
    let name = Names(&tier.owner.name).config(component, &content_hash(&json!(data)));
    ConfigMap {
        metadata: tier.owner.meta(name, component),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn server_config(tier: &Tier<'_>) -> Node {
    let tree = tier.access.tree();
    let storage = || vec![("storage", Node::alias(&tree.serve))];
    let instance = Node::Map(vec![
        ("name", Node::text("")),
        ("connections", Node::List(tree.connections.clone())),
        ("storages", Node::List(tree.storages.clone())),
        (
            "services",
            Node::List(vec![Node::tagged("!cas", storage()), Node::tagged("!bytestream", storage())]),
        ),
    ]);
    let mut document = vec![
        ("description", Node::text(format!("the storage {}", tier.owner.name))),
        ("server", Node::List(channels(tier.ports(), tier.mutual_tls.as_ref()))),
        ("admin", Node::Map(vec![("address", Node::text(format!("0.0.0.0:{SERVER_ADMIN_PORT}")))])),
        ("state-directory", Node::text(VOLUME_DIR)),
        ("instances", Node::List(vec![instance])),
    ];
    // No Job can mount the volume of a server: what is on one is expired by the server itself.
    if let Some(cleanup) = tier.spec.cleanup.as_ref().filter(|_| !tier.access.is_direct()) {
        document.push(("cleanup", expiry(tier, cleanup)));
    }
    Node::Map(document)
}

fn cleanup_config(tier: &Tier<'_>, cleanup: &CleanupSpec) -> Node {
    let tree = tier.access.tree();
    Node::Map(vec![
        ("description", Node::text(format!("expiry of the storage {}", tier.owner.name))),
        ("connections", Node::List(tree.connections.clone())),
        ("storages", Node::List(tree.storages.clone())),
        ("cleanup", expiry(tier, cleanup)),
    ])
}

/// What is expired, and when.
fn expiry(tier: &Tier<'_>, cleanup: &CleanupSpec) -> Node {
    let bytes = |size: &grid_operator_api::ByteSize| Node::number(size.bytes().unwrap_or_default());
    let unused = cleanup.only_if_unused_for.seconds().unwrap_or_default();
    let indexes = tier.access.tree().indexes.iter().map(|index| {
        Node::Map(vec![
            ("instance-name", Node::text(index)),
            ("index", Node::alias(index)),
            ("high-watermark", bytes(&cleanup.high_watermark)),
            ("low-watermark", bytes(&cleanup.low_watermark)),
            ("batch-size", bytes(&cleanup.batch_size)),
            ("only-if-unused-for", Node::Map(vec![("seconds", Node::number(unused))])),
        ])
    });
    Node::List(indexes.collect())
}

fn deployment(tier: &Tier<'_>, template: PodTemplateSpec) -> Deployment {
    Deployment {
        metadata: tier.owner.meta(Names(&tier.owner.name).component(SERVER), SERVER),
        spec: Some(DeploymentSpec {
            replicas: Some(tier.replicas()),
            selector: tier.owner.selector(SERVER),
            revision_history_limit: Some(2),
            min_ready_seconds: Some(MIN_READY_SECONDS),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn stateful_set(tier: &Tier<'_>, template: PodTemplateSpec) -> StatefulSet {
    let volume = tier.spec.volume.clone().unwrap_or_default();
    let names = Names(&tier.owner.name);
    StatefulSet {
        metadata: tier.owner.meta(names.component(SERVER), SERVER),
        spec: Some(StatefulSetSpec {
            replicas: Some(tier.replicas()),
            service_name: Some(names.pods(SERVER)),
            pod_management_policy: Some("Parallel".into()),
            selector: tier.owner.selector(SERVER),
            template,
            volume_claim_templates: Some(vec![claim_template(&tier.owner, SERVER, &volume)]),
            persistent_volume_claim_retention_policy: Some(retention(tier.spec.deletion_policy)),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Expiry, never two at once.
fn cron_job(tier: &Tier<'_>, cleanup: &CleanupSpec, config: String) -> CronJob {
    let pod =
        pod(tier, CLEANUP, config).one_off(CLEANUP, &["cleanup", "/etc/grid/config/server.yml", "--once"]);
    CronJob {
        metadata: tier.owner.meta(Names(&tier.owner.name).cleanup(), CLEANUP),
        spec: Some(CronJobSpec {
            schedule: cleanup.schedule.clone(),
            suspend: Some(tier.spec.hibernate),
            concurrency_policy: Some("Forbid".into()),
            successful_jobs_history_limit: Some(3),
            failed_jobs_history_limit: Some(2),
            starting_deadline_seconds: Some(300),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(tier.owner.labels(CLEANUP)),
                    ..ObjectMeta::default()
                }),
                spec: Some(JobSpec {
                    backoff_limit: Some(2),
                    template: PodTemplateSpec {
                        metadata: Some(ObjectMeta {
                            labels: Some(tier.owner.labels(CLEANUP)),
                            ..ObjectMeta::default()
                        }),
                        spec: Some(pod),
                    },
                    ..JobSpec::default()
                }),
            },
            ..CronJobSpec::default()
        }),
        ..CronJob::default()
    }
}
