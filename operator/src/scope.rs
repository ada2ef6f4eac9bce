//! Which part of the cluster the operator looks at.

use anyhow::{Context as _, bail};
use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_controllers::managed_selector;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

/// All namespaces, or one.
pub(crate) struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    pub(crate) fn new(client: Client, namespace: Option<String>) -> Self {
        Self { client, namespace }
    }

    /// The API of a kind within the scope.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// The nodes, which are nobody's namespace: only a scope of all namespaces has them.
    pub(crate) fn nodes(&self) -> Option<Api<Node>> {
        self.namespace.is_none().then(|| Api::all(self.client.clone()))
    }

    /// A watch of the resources themselves.
    pub(crate) fn resources() -> watcher::Config {
        // Some load balancers forget a quiet connection after four minutes.
        watcher::Config::default().timeout(200)
    }

    /// A watch of the objects that the operator made, and no others.
    pub(crate) fn managed() -> watcher::Config {
        Self::resources().labels(&managed_selector())
    }

    /// A watch of what others made.
    pub(crate) fn others() -> watcher::Config {
        Self::resources().labels(&managed_selector().replacen('=', "!=", 1))
    }

    /// Fails with a remedy where the CRDs aren't there, or may not be read.
    pub(crate) async fn check_crds(&self) -> anyhow::Result<()> {
        self.check::<BuildGrid>("buildgrids").await?;
        self.check::<CasStorage>("casstorages").await?;
        self.check::<WorkerPool>("workerpools").await
    }

    async fn check<K>(&self, plural: &str) -> anyhow::Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        match self.api::<K>().list(&ListParams::default().limit(1)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => bail!(
                "{plural}.grid.build is no resource here: install the CRDs (chart value crds.enabled, or kubectl apply -f crds/)"
            ),
            Err(error) => Err(error).with_context(|| format!("{plural}.grid.build can't be read")),
        }
    }
}
