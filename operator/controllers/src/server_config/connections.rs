//! How a server opens Redis and S3, and reads what it must not be told in its YAML: by the paths at which keys of Secrets are
//! mounted. Storages and caches of results are opened alike.

use std::collections::BTreeSet;

use grid_operator_api::{RedisStorage, S3Credentials, SecretKeyRef};

use super::yaml::Node;

/// Where the keys of Secrets are mounted in server pods: a folder for each Secret.
pub(crate) const SECRETS_DIR: &str = "/etc/grid/secrets";

/// Name and key of each key of a Secret that has to be mounted.
pub(crate) type Mounted = BTreeSet<(String, String)>;

/// The path of a key of a Secret in a server pod.
pub(crate) fn secret_path(secret: &SecretKeyRef) -> String {
    format!("{SECRETS_DIR}/{}/{}", secret.name, secret.key)
}

/// A key of a Secret, which the server reads when it starts.
pub(crate) fn secret(secret: &SecretKeyRef, mounted: &mut Mounted) -> Node {
    mounted.insert((secret.name.clone(), secret.key.clone()));
    Node::read_file(secret_path(secret))
}

/// A bucket with its keys; without, a server has those of its pod's identity.
pub(crate) fn s3(
    bucket: &str,
    endpoint: &str,
    credentials: Option<&S3Credentials>,
    mounted: &mut Mounted,
) -> Vec<(&'static str, Node)> {
    let mut map = vec![("bucket", Node::text(bucket)), ("endpoint", Node::text(endpoint))];
    if let Some(S3Credentials { access_key, secret_key }) = credentials {
        map.push(("access-key", secret(access_key, mounted)));
        map.push(("secret-key", secret(secret_key, mounted)));
    }
    map
}

/// The connection `anchor` to Redis.
pub(crate) fn redis(anchor: &str, server: &RedisStorage, mounted: &mut Mounted) -> Node {
    let mut map = vec![("host", Node::text(&server.host)), ("port", Node::number(server.port))];
    map.extend(server.db.map(|db| ("db", Node::number(db))));
    map.extend(server.password.as_ref().map(|password| ("password", secret(password, mounted))));
    Node::anchored("!redis-connection", anchor, map)
}
