//! What reconcilers are given from outside: the API server, the images, the time and randomness.

use std::sync::Arc;

use grid_operator_apply::{Applier, Events, Leadership, OptionalKinds};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use rand::RngExt;

use crate::casstorage::Cleanups;
use crate::fleet::Fleets;
use crate::names::{MANAGER, TEMPLATE_REVISION};
use crate::rollouts::Rollouts;
use crate::workerpool::Scalers;

/// Where the grid's images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Registry and path before the image's name, without a trailing slash.
    pub registry: String,
    /// Version of this operator: that of every workload which doesn't name or have another.
    pub version: String,
    /// Revision of the templates that workloads are made by.
    pub revision: String,
}

impl Images {
    /// Images of a registry, for workloads made by this operator's own templates.
    #[must_use]
    pub fn new(registry: impl Into<String>, version: impl Into<String>) -> Self {
        Self { registry: registry.into(), version: version.into(), revision: TEMPLATE_REVISION.to_owned() }
    }

    pub(crate) fn of(&self, name: &str, version: &str) -> String {
        format!("{}/{name}:{version}", self.registry)
    }
}

/// Source of time and secrets; tests bring their own.
pub trait Mint: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// A new secret token of 256 bits, as text.
    fn token(&self) -> String;
}

/// The system's clock and its random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemMint;

impl Mint for SystemMint {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn token(&self) -> String {
        let bytes: [u8; 32] = rand::rng().random();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Everything that a reconciler needs besides its resource.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Applies objects under the operator's field manager.
    pub applier: Applier,
    /// Kinds that the cluster may lack.
    pub optional: OptionalKinds,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// Tells what was done.
    pub events: Events,
    /// Images of the workloads.
    pub images: Images,
    /// Time and randomness.
    pub mint: Arc<dyn Mint>,
    /// The grids' Fleet services.
    pub fleets: Arc<Fleets>,
    /// What is remembered of pools that are scaled.
    pub scalers: Scalers,
    /// Whose turn it is to replace pods.
    pub rollouts: Rollouts,
    /// How the tiers' cleanups ended.
    pub cleanups: Cleanups,
}

impl Context {
    /// A context over a client; `pod` is the operator's own pod, for its events.
    #[must_use]
    pub fn new(
        client: Client,
        leadership: Leadership,
        images: Images,
        mint: Arc<dyn Mint>,
        pod: Option<String>,
        fleets: Arc<Fleets>,
    ) -> Self {
        Self {
            applier: Applier::new(client.clone(), MANAGER, leadership.clone()),
            events: Events::new(client.clone(), pod),
            optional: OptionalKinds::default(),
            client,
            leadership,
            images,
            mint,
            fleets,
            scalers: Scalers::default(),
            rollouts: Rollouts::default(),
            cleanups: Cleanups::default(),
        }
    }
}
