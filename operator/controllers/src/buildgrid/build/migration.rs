//! The Job that brings the database up to the servers' version, under a name made of what it does: another
//! version or another database is another Job, and a Job that is done stays done.

use std::collections::BTreeMap;

use grid_operator_apply::content_hash;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, PodTemplateSpec};
use kube::api::ObjectMeta;
use serde_json::json;

use super::super::validate::{Database, Grid};
use crate::names::{REVISION_ANNOTATION, VERSION_ANNOTATION};
use crate::server_config::connections::{SECRETS_DIR, secret_path};
use crate::workload::{SERVER_USER, container_security, database_tls, mount, pod_security, secret_volume};

const COMPONENT: &str = "migrate";

/// The Job, if the grid has a database.
pub(super) fn job(grid: &Grid<'_>) -> Option<Job> {
    let database = grid.database.as_ref()?;
    let hash = content_hash(&json!([grid.image, database.secret, database.hash]));
    let mut metadata = grid.owner.meta(grid.names().migration(&hash), COMPONENT);
    metadata.annotations = Some(
        [(VERSION_ANNOTATION, grid.version.as_str()), (REVISION_ANNOTATION, grid.revision.as_str())]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
    );
    Some(Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(4),
            active_deadline_seconds: Some(3_600),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(grid.owner.labels(COMPONENT)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(grid, database)),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    })
}

fn pod(grid: &Grid<'_>, database: &Database) -> PodSpec {
    let secret = &database.secret;
    // By Secret: both keys may be in one.
    let mut keys = BTreeMap::from([(secret.name.as_str(), vec![secret.key.as_str()])]);
    if let Some(authority) = &database.authority {
        keys.entry(&authority.name).or_default().push(&authority.key);
    }
    let volume = |index: usize| if index == 0 { "database".to_owned() } else { format!("database-{index}") };
    let mounts = keys.keys().enumerate();
    let mounts = mounts.map(|(index, name)| mount(&volume(index), &format!("{SECRETS_DIR}/{name}"), true));
    let volumes = keys.iter().enumerate();
    let volumes = volumes.map(|(index, (name, keys))| secret_volume(&volume(index), name, keys));
    PodSpec {
        restart_policy: Some("Never".into()),
        service_account_name: Some(grid.names().service_account()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            fs_group: Some(SERVER_USER),
            ..pod_security(SERVER_USER)
        }),
        containers: vec![Container {
            name: "migrate".into(),
            image: Some(grid.image.clone()),
            command: Some(vec!["/grid-server".into()]),
            args: Some(vec!["migrate".into(), "--database-file".into(), secret_path(secret)]),
            env: database.authority.as_ref().map(|authority| database_tls(authority).into()),
            volume_mounts: Some(mounts.collect()),
            security_context: Some(container_security()),
            ..Container::default()
        }],
        volumes: Some(volumes.collect()),
        ..PodSpec::default()
    }
}
