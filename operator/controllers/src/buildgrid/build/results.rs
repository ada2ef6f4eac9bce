//! The cache of results in the YAML of a grid's servers. What is in a database, Redis or a bucket every server opens itself; what
//! is in the memory of one, or of another grid's server, the others ask that one for.

use grid_operator_api::{RemoteActionCache, Span, SqlActionCache};

use super::super::roles::Role;
use super::super::validate::Grid;
use super::config::{Composed, DATABASE, RESULTS, remote};
use crate::server_config::connections;
use crate::server_config::yaml::Node;

/// Anchor of the connection to the Redis of results.
const REDIS: &str = "grid-results-connection";

type Keys = Vec<(&'static str, Node)>;

/// The cache as a role sees it; `composed` gets the connections and keys that it needs.
pub(super) fn results(grid: &Grid<'_>, role: Role, storage: &str, composed: &mut Composed) -> Node {
    let spec = &grid.spec.action_cache;
    if let Some(server) = &spec.remote {
        return Node::anchored("!remote-action-cache", RESULTS, elsewhere(server));
    }
    if spec.lru.is_some() && !role.has_action_cache() {
        let server = Role::ActionCache.component();
        let url = grid.names().pods_url(server, &grid.owner.namespace, grid.wire());
        return Node::anchored("!remote-action-cache", RESULTS, remote(grid, url));
    }
    let (tag, own) = kept(grid, composed);
    let mut map = vec![("storage", Node::alias(storage))];
    map.extend(own);
    map.push(("allow-updates", Node::flag(spec.allow_updates)));
    map.push(("cache-failed-actions", Node::flag(spec.cache_failed_actions)));
    if spec.write_once {
        let entries = ("action-cache", Node::tagged(tag, map));
        return Node::anchored("!write-once-action-cache", RESULTS, vec![entries]);
    }
    Node::anchored(tag, RESULTS, map)
}

fn elsewhere(server: &RemoteActionCache) -> Keys {
    let instance = server.instance_name.as_ref();
    let url = std::iter::once(("url", Node::text(&server.url)));
    url.chain(instance.map(|name| ("instance-name", Node::text(name)))).collect()
}

/// The tag of what a server opens itself, and its own keys.
fn kept(grid: &Grid<'_>, composed: &mut Composed) -> (&'static str, Keys) {
    let spec = &grid.spec.action_cache;
    if let Some(lru) = &spec.lru {
        return ("!lru-action-cache", vec![("max-cached-refs", Node::number(lru.max_entries))]);
    }
    if let Some(redis) = &spec.redis {
        composed.connections.push(connections::redis(REDIS, redis, &mut composed.secrets));
        return ("!redis-action-cache", vec![("redis", Node::alias(REDIS))]);
    }
    if let Some(s3) = &spec.s3 {
        let map = connections::s3(&s3.bucket, &s3.endpoint, s3.credentials.as_ref(), &mut composed.secrets);
        return ("!s3action-cache", map);
    }
    ("!sql-action-cache", in_database(&spec.sql.clone().unwrap_or_default()))
}

fn in_database(spec: &SqlActionCache) -> Keys {
    let mut map = vec![("sql", Node::alias(DATABASE)), ("max-entries", Node::number(spec.max_entries))];
    let unused = spec.expire_unused_after.as_ref().and_then(Span::seconds);
    let period = |seconds| Node::Map(vec![("seconds", Node::number(seconds))]);
    map.extend(unused.map(|seconds| ("expire-unused-after", period(seconds))));
    map
}
