//! How the servers of a grid reach a CasStorage: by opening its storages themselves where all of them are shared,
//! else through the CasStorage's own servers, each of which is a shard where there are several.

use std::collections::BTreeSet;

use grid_operator_api::CasStorage;
use kube::ResourceExt;

use crate::mutual_tls::{client_credentials, client_secret, files};
use crate::names::{Names, Wire};
use crate::server_config::storage::{Tree, compose, shards};
use crate::server_config::yaml::Node;
use crate::trouble::Trouble;

/// The component of a CasStorage's servers.
pub(crate) const SERVER: &str = "server";

/// What grids have to know of a CasStorage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Access {
    name: String,
    replicas: i32,
    has_disk: bool,
    tree: Tree,
    /// The Secret that callers of its servers show the pair of.
    client: Option<String>,
}

/// A CasStorage as a part of a server's configuration.
pub(crate) struct View {
    pub(crate) connections: Vec<Node>,
    pub(crate) storages: Vec<Node>,
    pub(crate) serve: String,
    pub(crate) secrets: BTreeSet<(String, String)>,
}

impl Access {
    /// What `storage`'s spec says of it.
    ///
    /// # Errors
    /// Where its storages don't fit together.
    pub(crate) fn of(storage: &CasStorage) -> Result<Self, Trouble> {
        let (name, spec) = (storage.name_any(), &storage.spec);
        let tree = compose(&format!("{}.{name}", storage.namespace().unwrap_or_default()), spec)?;
        let has_disk = spec.storages.iter().any(|s| s.disk.is_some());
        let replicas = spec.replicas.unwrap_or(i32::from(tree.is_local));
        if tree.is_local && replicas == 0 {
            return Err(Trouble::new(
                "NoServer",
                "spec.replicas is 0, and the storage that is served is in its servers: give it at least one replica",
            ));
        }
        if tree.is_local && !has_disk && replicas > 1 {
            return Err(Trouble::new(
                "MemoryNotShared",
                "spec.replicas is more than 1, and the storage that is served is the memory of one server: use one replica, or a disk",
            ));
        }
        if tree.is_local && replicas > 1 && !tree.indexes.is_empty() {
            return Err(Trouble::new(
                "IndexNotSharded",
                "spec.replicas is more than 1, and each pod would keep its own disk under one index: use one replica, or an index over shared storages",
            ));
        }
        let client = spec.mutual_tls.as_ref().map(|wish| client_secret(&name, wish));
        Ok(Self { name, replicas, has_disk, tree, client })
    }

    /// True where grids open the storages themselves.
    pub(crate) fn is_direct(&self) -> bool {
        !self.tree.is_local
    }

    /// The tree that the tier's own servers serve.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// How many servers it has.
    pub(crate) fn replicas(&self) -> i32 {
        self.replicas
    }

    /// True where each server keeps a disk.
    pub(crate) fn has_disk(&self) -> bool {
        self.has_disk
    }

    /// As part of the configuration of a server of `namespace`; a storage that stands for the whole is anchored
    /// as `anchor`.
    pub(crate) fn view(&self, namespace: &str, anchor: &str) -> View {
        if self.is_direct() {
            return View {
                connections: self.tree.connections.clone(),
                storages: self.tree.storages.clone(),
                serve: self.tree.serve.clone(),
                secrets: self.tree.secrets.clone(),
            };
        }
        let names = Names(&self.name);
        let storages = if self.replicas > 1 {
            let remotes = (0..self.replicas).map(|ordinal| {
                let url = names.pod_url(SERVER, namespace, ordinal, self.wire());
                (format!("shard-{ordinal}"), Node::tagged("!remote-storage", self.remote(&url)))
            });
            vec![Node::anchored("!sharded-storage", anchor, vec![("shards", shards(remotes))])]
        } else {
            let url = names.pods_url(SERVER, namespace, self.wire());
            vec![Node::anchored("!remote-storage", anchor, self.remote(&url))]
        };
        let secrets = self.client.as_ref().map_or_else(BTreeSet::new, |client| files(client));
        View { connections: vec![], storages, serve: anchor.to_owned(), secrets }
    }

    fn wire(&self) -> Wire {
        if self.client.is_some() { Wire::Mutual } else { Wire::Plain }
    }

    fn remote(&self, url: &str) -> Vec<(&'static str, Node)> {
        let mut map = vec![("url", Node::text(url)), ("instance-name", Node::text(""))];
        let credentials = self.client.as_ref().map(|client| Node::Map(client_credentials(client)));
        map.extend(credentials.map(|credentials| ("credentials", credentials)));
        map
    }
}
