//! `spec.configFrom`: a configuration that the user wrote, completed by what makes it run in a pod.
//!
//! It is read by the same crate as in the server, so what is wrong with it stands in a condition, with line and
//! column. What it reads from files of Secrets is found by asking for it; nothing of a Secret is looked at here.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use grid_config::model::{Endpoint, Service, Storage};
use grid_config::{ServerConfig, Severity, Surroundings, load};

use crate::names::{GRPC_PORT, SERVER_ADMIN_PORT};
use crate::server_config::connections::SECRETS_DIR;
use crate::server_config::storage::VOLUME_DIR;
use crate::trouble::Trouble;
use crate::workload::CREDENTIALS_DIR;

/// A user's configuration, ready to be served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) yaml: String,
    /// Keys of Secrets that it reads.
    pub(crate) secrets: BTreeSet<(String, String)>,
    /// Names of its instances.
    pub(crate) instances: Vec<String>,
}

/// Completes and checks a configuration.
///
/// # Errors
/// It isn't one, or doesn't fit the pod or `spec.execution.enabled`.
pub(crate) fn complete(text: &str, executes: bool) -> Result<Raw, Trouble> {
    let yaml = completed(text, executes);
    let files = Files::default();
    let loaded = load(&yaml, &files);
    let errors: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(|d| d.render("spec.configFrom"))
        .collect();
    let config = match loaded.config {
        Some(config) if errors.is_empty() => config,
        _ => return Err(Trouble::new("ConfigInvalid", errors.join("; "))),
    };
    check(&config, executes)?;
    let instances = config.instances.iter().flat_map(|i| &i.names).map(|n| n.as_str().to_owned()).collect();
    Ok(Raw { yaml, secrets: files.secrets.into_inner(), instances })
}

/// With the keys that a pod needs, where they are missing.
fn completed(text: &str, executes: bool) -> String {
    let has = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key}:")));
    let mut yaml = text.trim_end().to_owned();
    yaml.push('\n');
    if !has("admin") {
        yaml.push_str(&format!("admin:\n  address: \"0.0.0.0:{SERVER_ADMIN_PORT}\"\n"));
    }
    // Only where something comes of it: a newer operator must not replace the pods of grids that do without.
    if !has("pod") && is_for_a_machine(text) {
        yaml.push_str(&format!("pod: {{port: {GRPC_PORT}, working-directory: \"{VOLUME_DIR}\"}}\n"));
    }
    if !has("state-directory") {
        yaml.push_str(&format!("state-directory: \"{VOLUME_DIR}\"\n"));
    }
    if executes && !has("grid-credentials") {
        yaml.push_str(&format!(
            "grid-credentials:\n  worker-token: \"{CREDENTIALS_DIR}/worker-token\"\n  admin-token: \"{CREDENTIALS_DIR}/admin-token\"\n"
        ));
    }
    yaml
}

/// Whether a configuration listens where only its own machine gets, or has paths that begin where it was started.
fn is_for_a_machine(text: &str) -> bool {
    let Some(config) = load(text, &Files::default()).config else { return true };
    let is_reachable = |endpoint: &Endpoint| match endpoint {
        Endpoint::Tcp { host, port } => {
            i32::from(*port) == GRPC_PORT && !["localhost", "127.0.0.1", "::1"].contains(&host.as_str())
        }
        Endpoint::Unix(_) => false,
    };
    let mut disks = config.storages.iter().filter_map(|storage| match &storage.value {
        Storage::Disk(disk) => Some(&disk.path),
        _ => None,
    });
    let relative_database = |rest: &str| !rest.is_empty() && !rest.starts_with('/');
    !config.channels.iter().any(|channel| is_reachable(&channel.endpoint))
        || disks.any(|path| path.is_relative())
        || text.split("sqlite:///").skip(1).any(relative_database)
}

fn check(config: &ServerConfig, executes: bool) -> Result<(), Trouble> {
    let wrong = |message: String| Err(Trouble::new("ConfigInvalid", message));
    let listens = config.channels.iter().any(
        |channel| matches!(channel.endpoint, Endpoint::Tcp { port, .. } if i32::from(port) == GRPC_PORT),
    );
    if !listens {
        return wrong(format!(
            "spec.configFrom: server listens on no address with the port {GRPC_PORT}, to which the Services lead: give it `address: \"[::]:{GRPC_PORT}\"`"
        ));
    }
    if !config.admin.address.ends_with(&format!(":{SERVER_ADMIN_PORT}")) {
        return wrong(format!(
            "spec.configFrom: admin.address is {}: leave it out, or end it with :{SERVER_ADMIN_PORT}, where the probes ask",
            config.admin.address
        ));
    }
    let serves = config
        .instances
        .iter()
        .flat_map(|instance| &instance.services)
        .any(|service| matches!(&service.value, Service::Execution(e) if e.endpoints.execution));
    if serves != executes {
        let (has, set) = if serves { ("has an", "true") } else { ("has no", "false") };
        return wrong(format!(
            "spec.configFrom {has} execution service: set spec.execution.enabled to {set}, by which ways in and tokens are made"
        ));
    }
    Ok(())
}

/// Answers every read of a Secret's key with something that fits where a Secret can stand, and remembers it.
#[derive(Default)]
struct Files {
    secrets: RefCell<BTreeSet<(String, String)>>,
}

impl Surroundings for Files {
    /// The one variable that every server pod has and a configuration may stand on.
    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| VOLUME_DIR.to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let inside = path.strip_prefix(SECRETS_DIR).ok().and_then(Path::to_str);
        match inside.and_then(|inside| inside.split_once('/')) {
            Some((secret, key)) if !key.contains('/') => {
                self.secrets.borrow_mut().insert((secret.to_owned(), key.to_owned()));
                Ok("postgresql://grid@database/grid".to_owned())
            }
            _ => Err(io::Error::other(format!(
                "only keys of Secrets can be read, as {SECRETS_DIR}/SECRET/KEY"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: &str = r#"
server:
  - !channel {address: "[::]:50051", insecure-mode: true}
instances:
  - name: main
    connections:
      - !sql-connection &db {connection-string: !read-file /etc/grid/secrets/pg/uri}
    storages:
      - !lru-storage &cas {size: 5M}
    services:
      - !cas {storage: *cas}
      - !bytestream {storage: *cas}
      - !build-events {sql: *db}
"#;

    #[test]
    fn what_a_pod_needs_is_added_and_what_is_there_is_kept() {
        let raw = complete(CACHE, false).unwrap();
        assert!(raw.yaml.contains("admin:") && raw.yaml.contains("state-directory:"));
        assert!(!raw.yaml.contains("grid-credentials:") && !raw.yaml.contains("pod:"));
        for changed in
            [CACHE.replace("[::]:50051", "localhost:50051"), format!("{CACHE}# sqlite:///./grid.db\n")]
        {
            assert!(complete(&changed, false).unwrap().yaml.contains("pod: {port: 50051"));
        }
        assert_eq!(raw.secrets, BTreeSet::from([("pg".to_owned(), "uri".to_owned())]));
        assert_eq!(raw.instances, ["main"]);
        let own = format!("{CACHE}admin: {{address: \"127.0.0.1:8980\"}}\n");
        assert_eq!(complete(&own, false).unwrap().yaml.matches("admin:").count(), 1);
    }

    #[test]
    fn what_does_not_fit_says_where_and_what_to_do() {
        for (text, executes, part) in [
            (CACHE.to_owned(), true, "has no execution service"),
            (
                CACHE
                    .replace("insecure-mode: true", "credentials: {tls-server-key: k, tls-server-cert: c}")
                    .replace("50051", "50052"),
                false,
                "nothing listens at port 50051",
            ),
            (
                format!("{CACHE}pod: {{}}\n").replace("50051", "50052"),
                false,
                "no address with the port 50051",
            ),
            (CACHE.replace("size: 5M", "sise: 5M"), false, "sise"),
            (CACHE.replace("/etc/grid/secrets/pg/uri", "/etc/passwd"), false, "only keys of Secrets"),
            (format!("{CACHE}admin: {{address: \"[::]:9\"}}\n"), false, "end it with :8980"),
            ("- a list".to_owned(), false, "spec.configFrom:2:1"),
        ] {
            let trouble = complete(&text, executes).unwrap_err();
            assert_eq!(trouble.reason, "ConfigInvalid");
            assert!(trouble.message.contains(part), "{part}: {}", trouble.message);
        }
    }
}
