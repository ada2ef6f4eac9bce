//! What each isolation mode asks of the runner's container. The modes themselves are grid-runner's.

use grid_operator_api::{Isolation, WorkerPoolSpec};
use k8s_openapi::api::core::v1::{AppArmorProfile, Capabilities, SeccompProfile, SecurityContext};

use crate::workload::container_security;

/// User of grid-runner and the actions.
pub(super) const RUNNER_USER: i64 = 65533;
/// What a runner needs that changes roots and users: all of it passes Pod Security `baseline`.
const CHROOT_CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "SETGID", "SETUID", "SYS_CHROOT"];

/// The runner's arguments for a pool's mode.
pub(super) fn arguments(spec: &WorkerPoolSpec) -> Vec<String> {
    let arguments: &[&str] = match spec.isolation {
        Isolation::Plain => &[],
        Isolation::Bubblewrap => &["--isolation", "bubblewrap"],
        Isolation::Chroot => &["--isolation", "chroot"],
    };
    let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    if spec.allow_network {
        arguments.push("--allow-network".to_owned());
    }
    if spec.isolation == Isolation::Chroot {
        arguments.extend(["--chroot-uid".to_owned(), RUNNER_USER.to_string()]);
    }
    arguments
}

/// The security context of the runner's container.
pub(super) fn security(spec: &WorkerPoolSpec) -> SecurityContext {
    let plain = SecurityContext {
        run_as_user: Some(RUNNER_USER),
        run_as_group: Some(RUNNER_USER),
        ..container_security()
    };
    match spec.isolation {
        Isolation::Plain => plain,
        Isolation::Bubblewrap => bubblewrap(spec, plain),
        Isolation::Chroot => SecurityContext {
            run_as_non_root: Some(false),
            run_as_user: Some(0),
            run_as_group: Some(0),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: Some(CHROOT_CAPABILITIES.map(str::to_owned).into()),
            }),
            ..plain
        },
    }
}

/// Namespaces are made without privileges, but the runtime's own profiles refuse them.
fn bubblewrap(spec: &WorkerPoolSpec, plain: SecurityContext) -> SecurityContext {
    match &spec.seccomp_profile {
        Some(profile) => SecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "Localhost".into(),
                localhost_profile: Some(profile.clone()),
            }),
            ..plain
        },
        None => SecurityContext {
            seccomp_profile: Some(SeccompProfile { type_: "Unconfined".into(), localhost_profile: None }),
            app_armor_profile: Some(AppArmorProfile { type_: "Unconfined".into(), localhost_profile: None }),
            ..plain
        },
    }
}
