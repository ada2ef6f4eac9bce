//! The containers of a pool of BuildBox: buildbox-casd, which fetches, stages and uploads, and buildbox-worker, which takes
//! actions and runs them by a buildbox-run program. All three are in the user's image.
//!
//! The two containers are one user and see one volume at one place, for the daemon stages what the worker runs.

use grid_operator_api::Isolation;
use k8s_openapi::api::core::v1::{Container, EnvVar, VolumeMount};

use super::isolation;
use super::pod::{AUTHORITY_DIR, CERTIFICATE_DIR, GRID_DIR, TOKEN_DIR, field};
use crate::fleet::offered;
use crate::workerpool::validate::Pool;
use crate::workload::{container_security, mount};

/// Where the daemon listens.
const SOCKET: &str = "unix:/grid/casd.sock";

/// The daemon: a sidecar, so that it is there before the worker and leaves after it.
pub(super) fn daemon(pool: &Pool<'_>) -> Container {
    let mut arguments = remote(pool, "cas", &pool.cas);
    arguments.push(format!("--bind={SOCKET}"));
    arguments.push(format!("--quota-high={}", pool.cache_bytes));
    arguments.push(format!("{GRID_DIR}/cache"));
    Container {
        name: "buildbox-casd".into(),
        image: Some(pool.spec.image.clone()),
        restart_policy: Some("Always".into()),
        command: Some(vec!["buildbox-casd".into()]),
        args: Some(arguments),
        // Where its image has buildbox-fuse, it would count on a device that no pod has.
        env: Some(vec![EnvVar {
            name: "BUILDBOX_STAGER".into(),
            value: Some("hardlink".into()),
            ..EnvVar::default()
        }]),
        volume_mounts: Some(mounts(pool)),
        security_context: Some(container_security()),
        resources: pool.spec.resources.as_ref().and_then(|r| r.worker.clone()),
        ..Container::default()
    }
}

/// The bot, in whose container the actions run.
pub(super) fn worker(pool: &Pool<'_>) -> Container {
    let spec = pool.spec;
    let mut arguments = remote(pool, "bots", &pool.bots);
    arguments.push(format!("--cas-remote={SOCKET}"));
    arguments.push(format!("--concurrent-jobs={}", spec.concurrency));
    arguments.push(format!("--graceful-shutdown-timeout={}", spec.grace_period_seconds));
    arguments.push(format!("--buildbox-run={}", run(pool)));
    for (name, value) in offered(spec) {
        // Kubernetes expands $(NAME) in arguments; $$ stands for a dollar.
        arguments.extend(["--platform".to_owned(), format!("{name}={value}").replace('$', "$$")]);
    }
    arguments.push("$(POD_NAME)".into());
    Container {
        name: "buildbox-worker".into(),
        image: Some(spec.image.clone()),
        command: Some(vec!["buildbox-worker".into()]),
        args: Some(arguments),
        env: Some(vec![field("POD_NAME", "metadata.name")]),
        volume_mounts: Some(mounts(pool)),
        security_context: Some(isolation::security(spec)),
        resources: spec.resources.as_ref().and_then(|r| r.runner.clone()),
        ..Container::default()
    }
}

/// The program that runs an action.
fn run<'a>(pool: &'a Pool<'_>) -> &'a str {
    let asked = pool.spec.buildbox.as_ref().and_then(|buildbox| buildbox.run.as_deref());
    asked.unwrap_or(match pool.spec.isolation {
        Isolation::Bubblewrap => "/usr/bin/buildbox-run-bubblewrap",
        Isolation::Plain | Isolation::Chroot => "/usr/bin/buildbox-run-hosttools",
    })
}

/// How the grid is reached for one of its services.
fn remote(pool: &Pool<'_>, service: &str, url: &str) -> Vec<String> {
    let mut arguments = vec![
        format!("--{service}-remote={url}"),
        format!("--{service}-instance={}", pool.spec.instance_name),
    ];
    if let Some(token) = &pool.token {
        arguments.push(format!("--{service}-access-token={TOKEN_DIR}/{}", token.key));
    }
    if let Some(authority) = &pool.authority {
        arguments.push(format!("--{service}-server-cert={AUTHORITY_DIR}/{}", authority.key));
    }
    if pool.certificate.is_some() {
        arguments.push(format!("--{service}-client-cert={CERTIFICATE_DIR}/tls.crt"));
        arguments.push(format!("--{service}-client-key={CERTIFICATE_DIR}/tls.key"));
    }
    arguments
}

fn mounts(pool: &Pool<'_>) -> Vec<VolumeMount> {
    let mut mounts = super::pod::credentials(pool);
    mounts.extend([mount("grid", GRID_DIR, false), mount("tmp", "/tmp", false)]);
    mounts
}
