//! The pod of a pool.

use std::collections::BTreeMap;

use grid_operator_api::{ActionLimits, PersistentWorkers, PreemptionNotice, Runtime, WorkerPoolSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, EphemeralVolumeSource,
    ObjectFieldSelector, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

use super::{WORKER, buildbox, isolation};
use crate::names::{GRID, Names, REVISION_ANNOTATION, VERSION_ANNOTATION, WORKER_ADMIN_PORT};
use crate::workerpool::validate::Pool;
use crate::workload::{
    container_security, http_probe, mount, pod_security, secret_volume, spread, tolerations,
};

/// User of grid-worker.
const WORKER_USER: i64 = 65531;
/// Group that owns the volume's root, so that both may use it, and the mounted credentials.
const VOLUME_GROUP: i64 = 65530;

pub(super) const GRID_DIR: &str = "/grid";
const BUILD_DIR: &str = "/grid/build";
const RUN_DIR: &str = "/grid/run";
const SOCKET: &str = "/grid/run/runner.sock";
const RUNNER_DIR: &str = "/grid-bin";
pub(super) const TOKEN_DIR: &str = "/etc/grid/credentials";
pub(super) const CERTIFICATE_DIR: &str = "/etc/grid/certificate";
pub(super) const AUTHORITY_DIR: &str = "/etc/grid/ca";
/// Seconds that a pod has beyond the grace of its actions, to upload and to say good-bye.
const FAREWELL_SECONDS: i64 = 30;

/// The template of a pool's pods.
pub(super) fn template(pool: &Pool<'_>) -> PodTemplateSpec {
    match pool.spec.runtime {
        Runtime::Grid => frame(pool, WORKER_USER, vec![install(pool), runner(pool)], worker(pool)),
        Runtime::Buildbox => {
            frame(pool, isolation::RUNNER_USER, vec![buildbox::daemon(pool)], buildbox::worker(pool))
        }
    }
}

/// What the pods of every runtime have.
fn frame(pool: &Pool<'_>, user: i64, before: Vec<Container>, worker: Container) -> PodTemplateSpec {
    let mut labels = pool.owner.labels(WORKER);
    labels.extend(pool.spec.grid_ref.name.clone().map(|grid| (GRID.to_owned(), grid)));
    let annotations =
        [(VERSION_ANNOTATION, pool.version.as_str()), (REVISION_ANNOTATION, pool.revision.as_str())];
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(Names(&pool.owner.name).component(WORKER)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(pool.spec.grace_period_seconds + FAREWELL_SECONDS),
            security_context: Some(PodSecurityContext { fs_group: Some(VOLUME_GROUP), ..pod_security(user) }),
            topology_spread_constraints: Some(spread(&pool.owner, WORKER)),
            tolerations: Some(tolerations()),
            init_containers: Some(before),
            containers: vec![worker],
            volumes: Some(volumes(pool)),
            ..PodSpec::default()
        }),
    }
}

/// Copies the runner's program to where any image can run it, and makes the folder of the actions as the worker: the mount
/// of a folder that is not there makes one that everybody writes in.
fn install(pool: &Pool<'_>) -> Container {
    Container {
        name: "install-runner".into(),
        image: Some(pool.image.clone()),
        command: Some(vec!["/grid-runner".into(), "install".into(), RUNNER_DIR.into()]),
        // An image of before this was there leaves it alone, as it would not an argument.
        env: Some(vec![EnvVar {
            name: "GRID_RUNNER_BUILD_DIR".into(),
            value: Some(BUILD_DIR.into()),
            value_from: None,
        }]),
        volume_mounts: Some(vec![mount("runner", RUNNER_DIR, false), mount("grid", GRID_DIR, false)]),
        security_context: Some(container_security()),
        ..Container::default()
    }
}

/// Runs the actions: a sidecar, so that it is there before the worker and leaves after it.
fn runner(pool: &Pool<'_>) -> Container {
    let mut command = vec![
        format!("{RUNNER_DIR}/grid-runner"),
        "serve".into(),
        "--socket".into(),
        SOCKET.into(),
        "--build-dir".into(),
        BUILD_DIR.into(),
        "--worker-uid".into(),
        WORKER_USER.to_string(),
    ];
    command.extend(isolation::arguments(pool.spec));
    Container {
        name: "runner".into(),
        image: Some(pool.spec.image.clone()),
        restart_policy: Some("Always".into()),
        command: Some(command),
        volume_mounts: Some(vec![
            part(BUILD_DIR, "build"),
            part(RUN_DIR, "run"),
            mount("runner", RUNNER_DIR, true),
            mount("tmp", "/tmp", false),
        ]),
        security_context: Some(isolation::security(pool.spec)),
        resources: pool.spec.resources.as_ref().and_then(|r| r.runner.clone()),
        ..Container::default()
    }
}

/// Takes actions, fetches their inputs, uploads their outputs; holds the credentials.
fn worker(pool: &Pool<'_>) -> Container {
    let mut mounts = vec![mount("grid", GRID_DIR, false)];
    mounts.extend(credentials(pool));
    Container {
        name: WORKER.into(),
        image: Some(pool.image.clone()),
        command: Some(vec!["/grid-worker".into()]),
        args: Some(arguments(pool)),
        env: Some(vec![
            field("POD_NAME", "metadata.name"),
            // What Fleet knows the worker by.
            EnvVar {
                name: "GRID_WORKER_POOL".into(),
                value: Some(format!("{}/{}", pool.owner.namespace, pool.owner.name)),
                value_from: None,
            },
            field("GRID_WORKER_NODE", "spec.nodeName"),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("admin".into()),
            container_port: WORKER_ADMIN_PORT,
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(mounts),
        startup_probe: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(150),
            ..http_probe("/healthz")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(5),
            failure_threshold: Some(3),
            ..http_probe("/readyz")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(15),
            failure_threshold: Some(8),
            ..http_probe("/healthz")
        }),
        security_context: Some(container_security()),
        resources: pool.spec.resources.as_ref().and_then(|r| r.worker.clone()),
        ..Container::default()
    }
}

/// What proves to the grid who calls, and the other way round.
pub(super) fn credentials(pool: &Pool<'_>) -> Vec<VolumeMount> {
    let mounts = [
        pool.token.as_ref().map(|_| mount("token", TOKEN_DIR, true)),
        pool.authority.as_ref().map(|_| mount("ca", AUTHORITY_DIR, true)),
        pool.certificate.as_ref().map(|_| mount("certificate", CERTIFICATE_DIR, true)),
    ];
    mounts.into_iter().flatten().collect()
}

/// An environment variable that Kubernetes fills in.
pub(super) fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), api_version: None }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

fn arguments(pool: &Pool<'_>) -> Vec<String> {
    let spec = pool.spec;
    let mut arguments = vec![];
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    add("--bots", pool.bots.clone());
    add("--cas", pool.cas.clone());
    add("--instance", spec.instance_name.clone());
    add("--name", "$(POD_NAME)".into());
    add("--concurrency", spec.concurrency.to_string());
    add("--runner", format!("unix:{SOCKET}"));
    add("--build-dir", BUILD_DIR.into());
    add("--cache-dir", format!("{GRID_DIR}/cache"));
    add("--cache-size", pool.cache_bytes.to_string());
    add("--admin", format!("0.0.0.0:{WORKER_ADMIN_PORT}"));
    add("--grace", spec.grace_period_seconds.to_string());
    for (flag, value) in limits(spec.limits.as_ref()) {
        add(flag, value);
    }
    for (flag, value) in work(spec) {
        add(flag, value);
    }
    if let Some(token) = &pool.token {
        add("--token-file", format!("{TOKEN_DIR}/{}", token.key));
    }
    if let Some(authority) = &pool.authority {
        add("--tls-ca", format!("{AUTHORITY_DIR}/{}", authority.key));
    }
    if pool.certificate.is_some() {
        add("--tls-cert", format!("{CERTIFICATE_DIR}/tls.crt"));
        add("--tls-key", format!("{CERTIFICATE_DIR}/tls.key"));
    }
    for property in &spec.properties {
        // Kubernetes expands $(NAME) in arguments; $$ stands for a dollar.
        add("--property", format!("{}={}", property.name, property.value).replace('$', "$$"));
    }
    arguments
}

/// The flags of what a worker does besides running one action after the other.
fn work(spec: &WorkerPoolSpec) -> Vec<(&'static str, String)> {
    let prefetch = (spec.prefetch > 0).then(|| ("--prefetch", spec.prefetch.to_string()));
    let mut flags: Vec<_> = prefetch.into_iter().collect();
    if let Some(PersistentWorkers { max, idle }) = &spec.persistent_workers {
        flags.push(("--persistent-workers", max.to_string()));
        flags.extend(idle.seconds().map(|seconds| ("--persistent-worker-idle", seconds.max(1).to_string())));
    }
    if let Some(PreemptionNotice { url, header }) = &spec.preemption_notice {
        // Kubernetes expands $(NAME) in arguments; $$ stands for a dollar.
        flags.push(("--preemption-url", url.replace('$', "$$")));
        flags.extend(header.as_ref().map(|header| ("--preemption-header", header.replace('$', "$$"))));
    }
    flags
}

/// The flags of what one action may use.
fn limits(limits: Option<&ActionLimits>) -> Vec<(&'static str, String)> {
    let Some(limits) = limits else { return vec![] };
    let ActionLimits { memory, processes, file_size, disk, log } = limits;
    let sizes = [
        ("--memory-limit", memory),
        ("--file-limit", file_size),
        ("--action-disk-limit", disk),
        ("--log-limit", log),
    ];
    let sizes =
        sizes.into_iter().filter_map(|(flag, size)| Some((flag, size.as_ref()?.bytes()?.to_string())));
    sizes.chain(processes.map(|count| ("--process-limit", count.to_string()))).collect()
}

fn volumes(pool: &Pool<'_>) -> Vec<Volume> {
    // Half as much again as the cache, for what actions write.
    let size = Quantity((pool.cache_bytes / 2 * 3).to_string());
    let mut volumes = vec![grid_volume(pool, size)];
    if pool.spec.runtime == Runtime::Grid {
        volumes.push(empty_dir("runner"));
    }
    volumes.push(empty_dir("tmp"));
    if let Some(token) = &pool.token {
        volumes.push(secret_volume("token", &token.name, &[&token.key]));
    }
    if let Some(authority) = &pool.authority {
        volumes.push(secret_volume("ca", &authority.name, &[&authority.key]));
    }
    if let Some(secret) = &pool.certificate {
        volumes.push(secret_volume("certificate", secret, &["tls.crt", "tls.key"]));
    }
    volumes
}

fn grid_volume(pool: &Pool<'_>, size: Quantity) -> Volume {
    let Some(class) = &pool.spec.cache.storage_class_name else {
        return Volume {
            name: "grid".into(),
            empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(size), medium: None }),
            ..Volume::default()
        };
    };
    Volume {
        name: "grid".into(),
        ephemeral: Some(EphemeralVolumeSource {
            volume_claim_template: Some(PersistentVolumeClaimTemplate {
                metadata: Some(ObjectMeta {
                    labels: Some(pool.owner.selector_labels(WORKER)),
                    ..ObjectMeta::default()
                }),
                spec: PersistentVolumeClaimSpec {
                    access_modes: Some(vec!["ReadWriteOnce".into()]),
                    storage_class_name: Some(class.clone()),
                    resources: Some(VolumeResourceRequirements {
                        requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                        ..VolumeResourceRequirements::default()
                    }),
                    ..PersistentVolumeClaimSpec::default()
                },
            }),
        }),
        ..Volume::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// A mount of a folder of the grid's volume.
fn part(path: &str, sub_path: &str) -> VolumeMount {
    VolumeMount { sub_path: Some(sub_path.into()), ..mount("grid", path, false) }
}
