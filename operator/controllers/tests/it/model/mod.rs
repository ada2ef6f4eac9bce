//! A model of the API server, in this process: enough of it for reconcilers to run against, and strict where they
//! could go wrong. Server-side apply with field removal by manager, resourceVersions as preconditions, generations,
//! defaults that it adds by itself, label selectors, the status subresource; and a record of every write.
//!
//! It refuses what it doesn't know, so that a test never passes on an answer that was made up.

mod apply;
mod faults;
mod gate;
mod http_api;
mod rules;
mod store;

pub(crate) use faults::{Chance, Faults};
pub(crate) use store::{Key, Model};

use std::sync::{Arc, Mutex};

use grid_operator_apply::Leadership;
use grid_operator_controllers::fleet::{Endpoint, FleetApi, FleetConnector, FleetError, Fleets};
use grid_operator_controllers::{Context, Images, Mint};
use k8s_openapi::jiff::Timestamp;

/// A clock that stands still, and tokens that can be read.
pub(crate) struct FixedMint(Timestamp);

impl Mint for FixedMint {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn token(&self) -> String {
        "a-token".to_owned()
    }
}

/// A clock that a test moves.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<Timestamp>>);

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(noon())))
    }
}

impl Clock {
    pub(crate) fn get(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap() = now;
    }
}

impl Mint for Clock {
    fn now(&self) -> Timestamp {
        self.get()
    }

    fn token(&self) -> String {
        "a-token".to_owned()
    }
}

/// Grids that can't be reached.
pub(crate) struct NoFleet;

impl FleetConnector for NoFleet {
    fn connect(&self, _: &Endpoint) -> Result<Arc<dyn FleetApi>, FleetError> {
        Err(FleetError("there is no network here".to_owned()))
    }
}

/// The time of all tests.
pub(crate) fn noon() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A context over the model.
pub(crate) fn context(model: &Model) -> Context {
    context_at(model, noon(), Leadership::sole())
}

/// A context at some time, under some leadership.
pub(crate) fn context_at(model: &Model, now: Timestamp, leadership: Leadership) -> Context {
    let images = Images::new("registry.example/grid", "1.0.0");
    let fleets = Arc::new(Fleets::new(Arc::new(NoFleet), leadership.clone()));
    Context::new(
        model.client(),
        leadership,
        images,
        Arc::new(FixedMint(now)),
        Some("operator-0".into()),
        fleets,
    )
}
