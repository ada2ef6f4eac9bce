//! Kinds that a cluster may lack: those of other operators (Prometheus's, cert-manager's, the Gateway API's).
//!
//! That a kind is missing is remembered for a while, so that resources which could use it cost no request each.

use std::collections::HashMap;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::desired::Kind;
use crate::error::Result;
use crate::observed::Observed;

/// How long a kind is taken to be missing.
const REMEMBERED: Duration = Duration::from_secs(300);

/// What is known of kinds that may be missing.
#[derive(Debug, Default)]
pub struct OptionalKinds {
    missing: Mutex<HashMap<Kind, Instant>>,
}

impl OptionalKinds {
    /// Lists the objects of those of `kinds` that the cluster has into `observed`; the others.
    ///
    /// # Errors
    /// Where a list can't be had for another reason than that the kind isn't there or not for the operator.
    pub async fn list(
        &self,
        client: &Client,
        namespace: &str,
        kinds: &[Kind],
        selector: &str,
        observed: &mut Observed,
    ) -> Result<Vec<Kind>> {
        let mut missing = vec![];
        for kind in kinds {
            if self.is_missing(*kind) {
                missing.push(*kind);
                continue;
            }
            match Observed::list(client, namespace, &[*kind], selector).await {
                Ok(found) => observed.extend(found),
                Err(error) if error.is_absent() => {
                    self.missing.lock().insert(*kind, Instant::now());
                    missing.push(*kind);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    fn is_missing(&self, kind: Kind) -> bool {
        self.missing.lock().get(&kind).is_some_and(|since| since.elapsed() < REMEMBERED)
    }
}
