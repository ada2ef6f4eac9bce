//! Server-side apply of the wanted objects that differ, and removal of those that are no longer wanted.

use std::collections::HashMap;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;

use crate::APPLIED_ANNOTATION;
use crate::contained::contained;
use crate::desired::{Desired, Kind};
use crate::error::{Error, Result};
use crate::leadership::Leadership;
use crate::observed::Observed;

/// One write that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object was made.
    Created(Kind, String),
    /// An object was brought back to, or on to, its wanted state.
    Updated(Kind, String),
    /// An object that is no longer wanted was removed.
    Deleted(Kind, String),
}

/// What came of one pass: the world as it is now, and the writes that it took.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The objects after the pass.
    pub observed: Observed,
    /// The writes, in their order.
    pub changes: Vec<Change>,
}

/// Applies objects under one field manager.
pub struct Applier {
    client: Client,
    manager: &'static str,
    leadership: Leadership,
    /// By uid: the hash that was applied, and the resourceVersion that came of it.
    known: Mutex<HashMap<String, (String, String)>>,
}

impl Applier {
    /// An applier of one controller; `manager` is its field manager.
    #[must_use]
    pub fn new(client: Client, manager: &'static str, leadership: Leadership) -> Self {
        Self { client, manager, leadership, known: Mutex::new(HashMap::new()) }
    }

    /// Brings every wanted object into its state, in the given order, and records the result in `applied`.
    ///
    /// # Errors
    /// At the first object that can't be applied: what was done before stays recorded in `applied`.
    pub async fn apply(
        &self,
        owner_uid: &str,
        namespace: &str,
        wanted: &[Desired],
        applied: &mut Applied,
    ) -> Result<()> {
        for desired in wanted {
            let live = applied.observed.get(desired.kind, &desired.name);
            if live.is_some_and(|live| self.is_current(desired, live)) {
                continue;
            }
            let created = live.is_none();
            let live = self.apply_one(owner_uid, namespace, desired, live).await?;
            let change = if created { Change::Created } else { Change::Updated };
            applied.changes.push(change(desired.kind, desired.name.clone()));
            applied.observed.insert(desired.kind, live);
        }
        Ok(())
    }

    /// Removes the objects of `owner_uid` that are neither wanted nor spared by `keep`.
    ///
    /// # Errors
    /// At the first object that can't be removed.
    pub async fn remove_orphans(
        &self,
        owner_uid: &str,
        namespace: &str,
        wanted: &[Desired],
        keep: impl Fn(Kind, &DynamicObject) -> bool,
        applied: &mut Applied,
    ) -> Result<()> {
        let orphans: Vec<(Kind, DynamicObject)> = applied
            .observed
            .iter()
            .filter(|(kind, object)| {
                let is_wanted = wanted.iter().any(|d| d.kind == *kind && d.name == object.name_any());
                !is_wanted
                    && is_owned_by(object, owner_uid)
                    && object.metadata.deletion_timestamp.is_none()
                    && !keep(*kind, object)
            })
            .map(|(kind, object)| (kind, object.clone()))
            .collect();
        for (kind, object) in orphans {
            self.delete(namespace, kind, &object, PropagationPolicy::Background).await?;
            applied.changes.push(Change::Deleted(kind, object.name_any()));
            applied.observed.remove(kind, &object.name_any());
        }
        Ok(())
    }

    /// Changes some fields of an object that others own: a claim, a pod. The patch names the resourceVersion that it was
    /// computed from. The object as it is then.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub async fn patch(
        &self,
        namespace: &str,
        kind: Kind,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<DynamicObject> {
        self.check_leader()?;
        let api = self.api(namespace, kind);
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(|source| Error::Request {
            verb: "patch",
            kind: kind.kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        })
    }

    /// Ends an object that others made, this very one: a pod.
    ///
    /// # Errors
    /// Where the API server refuses it. That it is gone already is none.
    pub async fn end(&self, namespace: &str, kind: Kind, name: &str, uid: &str) -> Result<()> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        self.request_delete(namespace, kind, name, preconditions, PropagationPolicy::Background).await
    }

    /// Removes a workload and leaves its pods, for a new one to take over.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub async fn leave_pods(
        &self,
        namespace: &str,
        kind: Kind,
        name: &str,
        applied: &mut Applied,
    ) -> Result<()> {
        let Some(object) = applied.observed.get(kind, name).cloned() else { return Ok(()) };
        self.delete(namespace, kind, &object, PropagationPolicy::Orphan).await?;
        applied.changes.push(Change::Deleted(kind, name.to_owned()));
        applied.observed.remove(kind, name);
        Ok(())
    }

    /// Nothing to do: this very wish is in this very object, as we left it or as its values show.
    fn is_current(&self, desired: &Desired, live: &DynamicObject) -> bool {
        let (uid, version) = (live.uid().unwrap_or_default(), live.resource_version().unwrap_or_default());
        let known = self.known.lock().get(&uid).cloned();
        if known.is_some_and(|(hash, at)| hash == desired.hash && at == version) {
            return true;
        }
        let same_wish = live.annotations().get(APPLIED_ANNOTATION) == Some(&desired.hash);
        same_wish && values_contained(desired, live)
    }

    async fn apply_one(
        &self,
        owner_uid: &str,
        namespace: &str,
        desired: &Desired,
        live: Option<&DynamicObject>,
    ) -> Result<DynamicObject> {
        self.check_leader()?;
        let mut object = desired.object.clone();
        let request_error = |verb| {
            move |source| Error::Request {
                verb,
                kind: desired.kind.kind.to_owned(),
                namespace: namespace.to_owned(),
                name: desired.name.clone(),
                source: Box::new(source),
            }
        };
        let api = self.api(namespace, desired.kind);
        match live {
            Some(live) => object.metadata.resource_version = live.resource_version(),
            // Not among the objects with our labels: if one of that name exists all the same, it isn't ours.
            None => match api.get_opt(&desired.name).await.map_err(request_error("get"))? {
                Some(other) if is_owned_by(&other, owner_uid) => {
                    object.metadata.resource_version = other.resource_version();
                }
                Some(_) => {
                    return Err(Error::Foreign {
                        kind: desired.kind.kind.to_owned(),
                        name: desired.name.clone(),
                    });
                }
                None => {}
            },
        }
        let params = PatchParams::apply(self.manager).force().validation_strict();
        let applied = api
            .patch(&desired.name, &params, &Patch::Apply(&object))
            .await
            .map_err(request_error("apply"))?;
        self.known.lock().insert(
            applied.uid().unwrap_or_default(),
            (desired.hash.clone(), applied.resource_version().unwrap_or_default()),
        );
        tracing::info!(kind = desired.kind.kind, namespace, name = desired.name, "applied");
        Ok(applied)
    }

    async fn delete(
        &self,
        namespace: &str,
        kind: Kind,
        object: &DynamicObject,
        propagation: PropagationPolicy,
    ) -> Result<()> {
        let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        self.request_delete(namespace, kind, &object.name_any(), preconditions, propagation).await?;
        if let Some(uid) = object.uid() {
            self.known.lock().remove(&uid);
        }
        Ok(())
    }

    async fn request_delete(
        &self,
        namespace: &str,
        kind: Kind,
        name: &str,
        preconditions: Preconditions,
        propagation: PropagationPolicy,
    ) -> Result<()> {
        self.check_leader()?;
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.api(namespace, kind).delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => {
                return Err(Error::Request {
                    verb: "delete",
                    kind: kind.kind.to_owned(),
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    source: Box::new(source),
                });
            }
            Ok(_) => {}
        }
        tracing::info!(kind = kind.kind, namespace, name, "deleted");
        Ok(())
    }

    fn check_leader(&self) -> Result<()> {
        if self.leadership.is_held() { Ok(()) } else { Err(Error::NotLeader) }
    }

    fn api(&self, namespace: &str, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.api_resource())
    }
}

fn is_owned_by(object: &DynamicObject, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

fn values_contained(desired: &Desired, live: &DynamicObject) -> bool {
    let metadata = |object: &DynamicObject| serde_json::to_value(&object.metadata);
    let (Ok(wanted), Ok(found)) = (metadata(&desired.object), metadata(live)) else {
        return false;
    };
    contained(&wanted, &found) && contained(&desired.object.data, &live.data)
}
