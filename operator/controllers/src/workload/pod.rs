//! The pod of a grid-server, whichever resource it is for, and the parts that worker pods share with it.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::SecretKeyRef;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler, PodSecurityContext, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, SleepAction,
    Toleration, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::Ports;
use super::environment::{database_tls, env};
use crate::names::{
    Names, Owner, REVISION_ANNOTATION, SECRETS_ANNOTATION, SERVER_ADMIN_PORT, VERSION_ANNOTATION,
};
use crate::server_config::connections::SECRETS_DIR;
use crate::server_config::storage::VOLUME_DIR;

/// User and group of servers.
pub(crate) const SERVER_USER: i64 = 65532;
/// Where a server's configuration is mounted.
const CONFIG_DIR: &str = "/etc/grid/config";
/// Where the tokens of the grid are mounted.
pub(crate) const CREDENTIALS_DIR: &str = "/etc/grid/credentials";
/// Name of the volume with the server's data, which a claim template takes the place of in a StatefulSet.
pub(crate) const DATA_VOLUME: &str = "data";
/// Seconds that a new pod must have been ready before the next old one leaves: names and routes need a moment to
/// reach everyone.
pub(crate) const MIN_READY_SECONDS: i32 = 5;
/// Seconds that a server goes on taking calls after it was told to leave, for its address to be forgotten.
const LINGER_SECONDS: i64 = 5;
/// Seconds that a server has to finish its streams: those that it hands over to other replicas end at once.
const STREAM_GRACE_SECONDS: i64 = 75;
/// Seconds after which a server that was told to leave is killed.
const SERVER_GRACE_SECONDS: i64 = LINGER_SECONDS + STREAM_GRACE_SECONDS + 10;

/// What tells one server's pod from another's.
pub(crate) struct ServerPod<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) component: &'a str,
    pub(crate) image: String,
    pub(crate) version: &'a str,
    /// Revision of the templates.
    pub(crate) revision: &'a str,
    /// Name of the ConfigMap with `server.yml`.
    pub(crate) config: String,
    /// What the server listens on.
    pub(crate) ports: Ports,
    /// Secret with the grid's tokens, where the server asks for them.
    pub(crate) credentials: Option<String>,
    /// Keys of Secrets to mount.
    pub(crate) secrets: &'a BTreeSet<(String, String)>,
    /// The one of these that certificates of databases are verified by.
    pub(crate) database_authority: Option<&'a SecretKeyRef>,
    /// Hash of the secrets that are read at start.
    pub(crate) secrets_hash: Option<&'a str>,
    /// The data are on a claim of the workload's; else on an emptyDir.
    pub(crate) has_claim: bool,
    pub(crate) resources: Option<&'a ResourceRequirements>,
}

impl ServerPod<'_> {
    pub(crate) fn template(&self) -> PodTemplateSpec {
        let mut annotations = BTreeMap::from([
            (VERSION_ANNOTATION.to_owned(), self.version.to_owned()),
            (REVISION_ANNOTATION.to_owned(), self.revision.to_owned()),
        ]);
        if let Some(hash) = self.secrets_hash {
            annotations.insert(SECRETS_ANNOTATION.to_owned(), hash.to_owned());
        }
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(self.owner.labels(self.component)),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                termination_grace_period_seconds: Some(SERVER_GRACE_SECONDS),
                topology_spread_constraints: Some(spread(self.owner, self.component)),
                tolerations: Some(tolerations()),
                ..self.pod(vec![self.server()])
            }),
        }
    }

    /// A pod that runs a command of the same image with the same files, once.
    pub(crate) fn one_off(&self, name: &str, args: &[&str]) -> PodSpec {
        PodSpec {
            restart_policy: Some("OnFailure".to_owned()),
            ..self.pod(vec![Container {
                args: Some(args.iter().map(ToString::to_string).collect()),
                resources: self.resources.cloned(),
                ..self.container(name)
            }])
        }
    }

    fn pod(&self, containers: Vec<Container>) -> PodSpec {
        PodSpec {
            service_account_name: Some(Names(&self.owner.name).service_account()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                fs_group: Some(SERVER_USER),
                ..pod_security(SERVER_USER)
            }),
            containers,
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        }
    }

    fn server(&self) -> Container {
        Container {
            args: Some(vec![
                "serve".to_owned(),
                format!("{CONFIG_DIR}/server.yml"),
                "--grace".to_owned(),
                STREAM_GRACE_SECONDS.to_string(),
            ]),
            ports: Some(self.ports()),
            startup_probe: Some(Probe {
                period_seconds: Some(2),
                failure_threshold: Some(150),
                ..http_probe("/healthz")
            }),
            readiness_probe: Some(Probe {
                period_seconds: Some(3),
                failure_threshold: Some(2),
                ..http_probe("/readyz")
            }),
            liveness_probe: Some(Probe {
                period_seconds: Some(10),
                failure_threshold: Some(6),
                ..http_probe("/healthz")
            }),
            lifecycle: Some(Lifecycle {
                pre_stop: Some(LifecycleHandler {
                    sleep: Some(SleepAction { seconds: LINGER_SECONDS }),
                    ..LifecycleHandler::default()
                }),
                ..Lifecycle::default()
            }),
            resources: self.resources.cloned(),
            ..self.container("grid-server")
        }
    }

    fn ports(&self) -> Vec<ContainerPort> {
        let served = self.ports.named().into_iter().chain([("admin", SERVER_ADMIN_PORT)]);
        served.map(|(name, number)| port(name, number)).collect()
    }

    fn container(&self, name: &str) -> Container {
        Container {
            name: name.to_owned(),
            image: Some(self.image.clone()),
            command: Some(vec!["/grid-server".to_owned()]),
            env: Some(self.environment()),
            volume_mounts: Some(self.mounts()),
            security_context: Some(container_security()),
            ..Container::default()
        }
    }

    fn environment(&self) -> Vec<EnvVar> {
        let mut environment = vec![env("HOME", VOLUME_DIR)];
        environment.extend(self.database_authority.into_iter().flat_map(database_tls));
        environment
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = vec![
            Volume {
                name: "config".into(),
                config_map: Some(ConfigMapVolumeSource {
                    name: self.config.clone(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            empty_dir("tmp"),
        ];
        if !self.has_claim {
            volumes.push(empty_dir(DATA_VOLUME));
        }
        if let Some(secret) = &self.credentials {
            volumes.push(secret_volume("credentials", secret, &["worker-token", "admin-token"]));
        }
        for (index, secret) in self.secret_names().into_iter().enumerate() {
            let keys: Vec<&str> =
                self.secrets.iter().filter(|(name, _)| name == secret).map(|(_, key)| key.as_str()).collect();
            volumes.push(secret_volume(&format!("secret-{index}"), secret, &keys));
        }
        volumes
    }

    fn mounts(&self) -> Vec<VolumeMount> {
        let mut mounts = vec![
            mount("config", CONFIG_DIR, true),
            mount("tmp", "/tmp", false),
            mount(DATA_VOLUME, VOLUME_DIR, false),
        ];
        if self.credentials.is_some() {
            mounts.push(mount("credentials", CREDENTIALS_DIR, true));
        }
        for (index, secret) in self.secret_names().into_iter().enumerate() {
            mounts.push(mount(&format!("secret-{index}"), &format!("{SECRETS_DIR}/{secret}"), true));
        }
        mounts
    }

    fn secret_names(&self) -> BTreeSet<&str> {
        self.secrets.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// A volume with some keys of a Secret, readable for the pod's group alone.
pub(crate) fn secret_volume(name: &str, secret: &str, keys: &[&str]) -> Volume {
    let items =
        keys.iter().map(|key| KeyToPath { key: (*key).into(), path: (*key).into(), mode: None }).collect();
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(items),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// A mount of a volume.
pub(crate) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// A probe of the admin port.
pub(crate) fn http_probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

/// A pod's part of the restricted profile.
pub(crate) fn pod_security(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// A container's part of the restricted profile, and a root that can't be written.
pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// Pods of a component over the nodes, each rollout for itself.
pub(crate) fn spread(owner: &Owner, component: &str) -> Vec<TopologySpreadConstraint> {
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(owner.selector(component)),
        match_label_keys: Some(vec!["pod-template-hash".into()]),
        ..TopologySpreadConstraint::default()
    }]
}

/// A pod leaves a node that is gone after half a minute instead of five.
pub(crate) fn tolerations() -> Vec<Toleration> {
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .map(|key| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: Some(30),
            ..Toleration::default()
        })
        .into()
}
