//! A CasStorage's named storages as nodes of the server's YAML, and what they need: files of Secrets, a volume.
//!
//! A storage is written where it is first needed and gets its name as anchor; who needs it again refers to that.
//! Unknown names and cycles are found here, before anything is built.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{
    ByteSize, CasStorageSpec, LocalRef, NamedStorage, RedisStorage, RemoteCredentials, RemoteStorage,
    S3Storage, SecretKeyRef, SqlIndex, StorageKind, ZstdStorage,
};

use super::connections::{self, Mounted, secret, secret_path};
use super::yaml::Node;
use crate::trouble::Trouble;

/// Where the volume is mounted in server pods.
pub(crate) const VOLUME_DIR: &str = "/var/lib/grid";

/// A composed tree: its YAML and its needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    /// Connections that the storages refer to, each with its anchor.
    pub(crate) connections: Vec<Node>,
    /// The storages, leaves first.
    pub(crate) storages: Vec<Node>,
    /// Anchor of the storage that is served.
    pub(crate) serve: String,
    /// Anchors of the indexes, in their order.
    pub(crate) indexes: Vec<String>,
    /// Keys of Secrets that have to be mounted.
    pub(crate) secrets: Mounted,
    /// Those of them that a server reads when it starts alone: it follows the files of the others.
    pub(crate) at_start: Mounted,
    /// A pod of its own has to hold it: something in it is neither shared nor a mere cache.
    pub(crate) is_local: bool,
}

/// Composes the storages that `spec.serve` needs, for the tier `owner`.
///
/// # Errors
/// An unknown name, a cycle, or a storage that nothing uses.
pub(crate) fn compose(owner: &str, spec: &CasStorageSpec) -> Result<Tree, Trouble> {
    let by_name: BTreeMap<&str, &NamedStorage> = spec.storages.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut composer = Composer {
        owner,
        by_name,
        volume: spec.volume.as_ref().map(|v| &v.size),
        tree: Tree { serve: spec.serve.clone(), ..Tree::default() },
        done: BTreeSet::new(),
        path: vec![],
    };
    composer.add(&spec.serve, "spec.serve")?;
    if let Some(unused) = spec.storages.iter().find(|s| !composer.done.contains(s.name.as_str())) {
        return Err(Trouble::new(
            "UnusedStorage",
            format!(
                "spec.storages: {} is used by no storage that is served: remove it, or refer to it",
                unused.name
            ),
        ));
    }
    composer.tree.is_local = composer.is_local(&spec.serve);
    composer.tree.secrets.extend(composer.tree.at_start.clone());
    Ok(composer.tree)
}

struct Composer<'a> {
    /// Namespace and name of the tier, by which its indexes are told from others.
    owner: &'a str,
    by_name: BTreeMap<&'a str, &'a NamedStorage>,
    volume: Option<&'a ByteSize>,
    tree: Tree,
    done: BTreeSet<&'a str>,
    path: Vec<&'a str>,
}

impl<'a> Composer<'a> {
    fn add(&mut self, name: &str, from: &str) -> Result<(), Trouble> {
        let Some((&name, &storage)) = self.by_name.get_key_value(name) else {
            let known: Vec<&str> = self.by_name.keys().copied().collect();
            return Err(Trouble::new(
                "UnknownStorage",
                format!(
                    "{from} refers to the storage {name}, which isn't in spec.storages: there are {}",
                    known.join(", ")
                ),
            ));
        };
        if self.path.contains(&name) {
            return Err(Trouble::new(
                "CyclicStorages",
                format!(
                    "spec.storages: {} → {name} is a cycle: a storage can't contain itself",
                    self.path.join(" → ")
                ),
            ));
        }
        if self.done.contains(name) {
            return Ok(());
        }
        let Some(kind) = storage.kind() else {
            return Err(Trouble::new("Invalid", format!("spec.storages: {name} has no kind")));
        };
        self.path.push(name);
        for reference in kind.references() {
            self.add(reference, &format!("the storage {name}"))?;
        }
        self.path.pop();
        let node = self.node(name, kind)?;
        self.tree.storages.push(node);
        self.done.insert(name);
        Ok(())
    }

    fn node(&mut self, name: &str, kind: StorageKind<'_>) -> Result<Node, Trouble> {
        let (tag, map) = match kind {
            StorageKind::Lru(s) => ("!lru-storage", vec![("size", size(&s.size, name)?)]),
            StorageKind::Disk(s) => ("!disk-storage", self.disk(name, s.size.as_ref())?),
            StorageKind::S3(s) => ("!s3-storage", self.s3(s)),
            StorageKind::Redis(s) => ("!redis-storage", self.redis(name, s)),
            StorageKind::Sql(s) => ("!sql-storage", vec![("sql", self.sql(name, &s.database))]),
            StorageKind::Remote(s) => ("!remote-storage", self.remote(s)),
            StorageKind::WithCache(s) => (
                "!with-cache-storage",
                vec![
                    ("cache", Node::alias(&s.cache)),
                    ("fallback", Node::alias(&s.fallback)),
                    ("defer-fallback-writes", Node::flag(s.defer_fallback_writes)),
                ],
            ),
            StorageKind::SizeDifferentiated(s) => {
                let mut limited = vec![];
                for entry in &s.size_limited_storages {
                    limited.push(Node::Map(vec![
                        ("max-size", size(&entry.max_size, name)?),
                        ("storage", Node::alias(&entry.storage)),
                    ]));
                }
                let map = vec![
                    ("size-limited-storages", Node::List(limited)),
                    ("fallback", Node::alias(&s.fallback)),
                ];
                ("!size-differentiated-storage", map)
            }
            StorageKind::Sharded(s) => (
                "!sharded-storage",
                vec![("shards", shards(s.shards.iter().map(|n| (n.clone(), Node::alias(n)))))],
            ),
            StorageKind::Replicated(s) => {
                let mut map = vec![("storages", Node::List(s.storages.iter().map(Node::alias).collect()))];
                map.extend(s.copy_queue_size.map(|size| ("replication-queue-size", Node::number(size))));
                ("!replicated-storage", map)
            }
            StorageKind::SqlIndex(s) => ("!sql-index", self.sql_index(name, s)?),
            StorageKind::Zstd(s) => ("!zstd-storage", self.zstd(name, s)?),
        };
        Ok(Node::anchored(tag, name, map))
    }

    fn disk(&self, name: &str, limit: Option<&ByteSize>) -> Result<Vec<(&'static str, Node)>, Trouble> {
        let volume = self.volume.and_then(ByteSize::bytes).unwrap_or_default();
        let bytes = match limit {
            Some(limit) => bytes(limit, name)?,
            None => disk_limit(volume),
        };
        if bytes > volume {
            return Err(Trouble::new(
                "DiskTooLarge",
                format!(
                    "the storage {name} may take {bytes} bytes, and spec.volume has {volume}: lower its size or make the volume larger"
                ),
            ));
        }
        Ok(vec![("path", Node::text(format!("{VOLUME_DIR}/{name}"))), ("max-size", Node::number(bytes))])
    }

    fn s3(&mut self, s: &S3Storage) -> Vec<(&'static str, Node)> {
        let mut map =
            connections::s3(&s.bucket, &s.endpoint, s.credentials.as_ref(), &mut self.tree.at_start);
        map.extend(s.path_prefix.as_ref().map(|prefix| ("path-prefix-string", Node::text(prefix))));
        map.extend(s.hash_prefix_size.map(|size| ("hash-prefix-size", Node::number(size))));
        map
    }

    fn redis(&mut self, name: &str, s: &RedisStorage) -> Vec<(&'static str, Node)> {
        let anchor = format!("{name}-connection");
        self.tree.connections.push(connections::redis(&anchor, s, &mut self.tree.at_start));
        vec![("redis", Node::alias(anchor))]
    }

    fn remote(&mut self, s: &RemoteStorage) -> Vec<(&'static str, Node)> {
        let mut map = vec![("url", Node::text(&s.url)), ("instance-name", Node::text(&s.instance_name))];
        let RemoteCredentials { token_secret_ref, ca_secret_ref, certificate_secret_ref } =
            s.credentials.clone().unwrap_or_default();
        let pair = certificate_secret_ref.map(|LocalRef { name }| {
            let key = |key: &str| SecretKeyRef { name: name.clone(), key: key.to_owned() };
            [("tls-client-key", key("tls.key")), ("tls-client-cert", key("tls.crt"))]
        });
        let files = pair.into_iter().flatten();
        let files = files.chain(ca_secret_ref.map(|secret| ("tls-server-cert", secret)));
        let files = files.chain(token_secret_ref.map(|secret| ("auth-token", secret)));
        let credentials: Vec<_> = files.map(|(key, secret)| (key, self.file(&secret))).collect();
        if !credentials.is_empty() {
            map.push(("credentials", Node::Map(credentials)));
        }
        map
    }

    fn sql_index(&mut self, name: &str, s: &SqlIndex) -> Result<Vec<(&'static str, Node)>, Trouble> {
        let mut map = vec![
            ("storage", Node::alias(&s.storage)),
            ("sql", self.sql(name, &s.database)),
            // Other tiers may keep theirs in the same database.
            ("index-name", Node::text(format!("{}.{name}", self.owner))),
        ];
        if let Some(inline) = &s.max_inline_blob_size {
            map.push(("max-inline-blob-size", size(inline, name)?));
        }
        if let Some(promised) = &s.promised_lifetime {
            let seconds = Node::number(promised.seconds().unwrap_or_default());
            map.push(("promised-lifetime", Node::Map(vec![("seconds", seconds)])));
        }
        self.tree.indexes.push(name.to_owned());
        Ok(map)
    }

    fn zstd(&self, name: &str, s: &ZstdStorage) -> Result<Vec<(&'static str, Node)>, Trouble> {
        use StorageKind as K;
        let kind = self.by_name.get(s.storage.as_str()).and_then(|storage| storage.kind());
        if !matches!(kind, Some(K::Disk(_) | K::S3(_) | K::Redis(_) | K::Sql(_))) {
            return Err(Trouble::new(
                "Invalid",
                format!(
                    "the storage {name} packs blobs for a disk, s3, redis or sql storage, and {} is none: put whatever else there is in front of {name}",
                    s.storage
                ),
            ));
        }
        let mut others = self.by_name.values().filter(|other| other.name != name);
        let shares = |other: &&&NamedStorage| {
            other.kind().is_some_and(|kind| kind.references().contains(&s.storage.as_str()))
        };
        if let Some(other) = others.find(shares) {
            return Err(Trouble::new(
                "Invalid",
                format!(
                    "the storages {name} and {} both refer to {}: packed blobs need a storage of their own",
                    other.name, s.storage
                ),
            ));
        }
        let mut map = vec![("storage", Node::alias(&s.storage))];
        map.extend(s.level.map(|level| ("level", Node::number(level))));
        Ok(map)
    }

    /// A connection of its own for the storage `name`, or the one that has been made for the same database.
    fn sql(&mut self, name: &str, database: &SecretKeyRef) -> Node {
        let string = secret(database, &mut self.tree.at_start);
        let same = self.tree.connections.iter().find_map(|node| match node {
            Node::Tagged { tag: "!sql-connection", anchor: Some(anchor), value } => match value.as_ref() {
                Node::Map(map) if map.iter().any(|(_, v)| *v == string) => Some(anchor.clone()),
                _ => None,
            },
            _ => None,
        });
        let anchor = same.unwrap_or_else(|| {
            let anchor = format!("{name}-connection");
            let map = vec![("connection-string", string), ("automigrate", Node::flag(true))];
            self.tree.connections.push(Node::anchored("!sql-connection", &anchor, map));
            anchor
        });
        Node::alias(anchor)
    }

    /// The path of a secret that the server reads by itself.
    fn file(&mut self, secret: &SecretKeyRef) -> Node {
        self.tree.secrets.insert((secret.name.clone(), secret.key.clone()));
        Node::text(secret_path(secret))
    }

    /// Whether a storage is bound to one pod. The cache of a with-cache storage doesn't count, unless the cache
    /// alone has a blob for a while.
    fn is_local(&self, name: &str) -> bool {
        let Some(kind) = self.by_name.get(name).and_then(|s| s.kind()) else { return false };
        match kind {
            StorageKind::Lru(_) | StorageKind::Disk(_) => true,
            StorageKind::WithCache(s) if !s.defer_fallback_writes => {
                self.is_local(&s.fallback) || self.holds_disk(&s.cache)
            }
            other => other.references().into_iter().any(|reference| self.is_local(reference)),
        }
    }

    fn holds_disk(&self, name: &str) -> bool {
        let Some(kind) = self.by_name.get(name).and_then(|s| s.kind()) else { return false };
        matches!(kind, StorageKind::Disk(_)) || kind.references().into_iter().any(|r| self.holds_disk(r))
    }
}

/// What blobs may take of a volume: the rest is for the file system, temporary files and databases.
pub(crate) fn disk_limit(volume: u64) -> u64 {
    volume / 100 * 85
}

/// The shards of a `!sharded-storage`.
pub(crate) fn shards(shards: impl Iterator<Item = (String, Node)>) -> Node {
    Node::List(
        shards
            .map(|(name, storage)| Node::Map(vec![("name", Node::text(name)), ("storage", storage)]))
            .collect(),
    )
}

fn size(size: &ByteSize, storage: &str) -> Result<Node, Trouble> {
    bytes(size, storage).map(Node::number)
}

fn bytes(size: &ByteSize, storage: &str) -> Result<u64, Trouble> {
    size.bytes().ok_or_else(|| {
        Trouble::new(
            "Invalid",
            format!("the storage {storage}: {} is no size that fits into 64 bits", size.0),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> CasStorageSpec {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn leaves_come_before_those_that_refer_to_them_and_once() {
        let tree = compose("builds.tier", &spec(
            "{serve: top, volume: {size: 100Gi}, storages: [{name: top, replicated: {storages: [a, b]}}, {name: a, withCache: {cache: mem, fallback: disk}}, {name: b, lru: {size: 1Gi}}, {name: mem, lru: {size: 64Mi}}, {name: disk, disk: {}}]}",
        ))
        .unwrap();
        let yaml = Node::List(tree.storages).to_yaml();
        let order: Vec<usize> =
            ["&mem", "&disk", "&a", "&b", "&top"].iter().map(|anchor| yaml.find(anchor).unwrap()).collect();
        assert!(order.is_sorted(), "{yaml}");
        assert_eq!(yaml.matches("&disk").count(), 1);
    }

    #[test]
    fn a_memory_cache_before_shared_storage_is_shared_unless_writes_are_deferred() {
        let shape = |defer: bool, cache: &str| {
            format!(
                "{{serve: top, volume: {{size: 1Gi}}, storages: [{{name: top, withCache: {{cache: c, fallback: r, deferFallbackWrites: {defer}}}}}, {{name: c, {cache}}}, {{name: r, remote: {{url: 'http://x'}}}}]}}"
            )
        };
        assert!(!compose("builds.tier", &spec(&shape(false, "lru: {size: 1Mi}"))).unwrap().is_local);
        assert!(compose("builds.tier", &spec(&shape(true, "lru: {size: 1Mi}"))).unwrap().is_local);
        assert!(
            compose("builds.tier", &spec(&shape(false, "disk: {}"))).unwrap().is_local,
            "a disk needs its pod's volume"
        );
    }

    #[test]
    fn one_database_is_one_connection() {
        let tree = compose("builds.tier", &spec(
            "{serve: i, storages: [{name: i, sqlIndex: {storage: s, database: {name: db, key: uri}}}, {name: s, sql: {database: {name: db, key: uri}}}]}",
        ))
        .unwrap();
        assert_eq!(tree.connections.len(), 1);
        assert_eq!(tree.indexes, ["i"]);
        assert_eq!(tree.secrets, BTreeSet::from([("db".to_owned(), "uri".to_owned())]));
    }

    #[test]
    fn wrong_references_are_named() {
        for (yaml, reason, part) in [
            (
                "{serve: a, storages: [{name: a, sharded: {shards: [b]}}]}",
                "UnknownStorage",
                "the storage a refers to the storage b",
            ),
            (
                "{serve: a, storages: [{name: a, sharded: {shards: [b]}}, {name: b, sharded: {shards: [a]}}]}",
                "CyclicStorages",
                "a → b → a",
            ),
            (
                "{serve: a, storages: [{name: a, lru: {size: 1Gi}}, {name: b, lru: {size: 1Gi}}]}",
                "UnusedStorage",
                "b is used by no storage",
            ),
            (
                "{serve: a, storages: [{name: a, zstd: {storage: b}}, {name: b, lru: {size: 1Gi}}]}",
                "Invalid",
                "b is none",
            ),
            (
                "{serve: a, volume: {size: 1Gi}, storages: [{name: a, replicated: {storages: [b, c]}}, {name: b, zstd: {storage: c}}, {name: c, disk: {}}]}",
                "Invalid",
                "both refer to c",
            ),
            (
                "{serve: a, volume: {size: 1Gi}, storages: [{name: a, disk: {size: 2Gi}}]}",
                "DiskTooLarge",
                "make the volume larger",
            ),
        ] {
            let trouble = compose("builds.tier", &spec(yaml)).unwrap_err();
            assert_eq!(trouble.reason, reason);
            assert!(trouble.message.contains(part), "{}", trouble.message);
        }
    }
}
