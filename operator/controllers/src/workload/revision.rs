//! Revisions of the templates: a workload that an earlier operator made keeps its pods until it is its turn.
//!
//! A workload notes two things: by which revision it was made (on its pod template), and what was asked for then, its
//! wish, as a hash. Where the wish is still the same and only the revision differs, nobody asked for new pods: then
//! the pod template stays as it is, and all the rest (replicas, labels, claims) is applied as ever. What others change
//! in such a template meanwhile isn't repaired until the move. Neighbour: `rollouts` says whose turn it is.

use grid_operator_api::MaintenanceSpec;
use grid_operator_apply::{Applied, Desired, Kind, Observed};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::names::{Owner, REVISION_ANNOTATION, SECRETS_ANNOTATION, WISH_ANNOTATION};
use crate::rollouts::{Mover, Turn};
use crate::workload::Progress;

/// Where a pod template says by which revision it was made.
const TEMPLATE: &str = "/spec/template";

/// A workload before it is decided which pod template it gets.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    /// As the newest templates have it.
    pub(crate) value: Value,
}

/// What is asked for, and by which templates.
#[derive(Clone, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) revision: &'a str,
    pub(crate) wish: &'a str,
}

impl Draft {
    fn live<'o>(&self, observed: &'o Observed) -> Option<&'o DynamicObject> {
        observed.get(self.kind, self.name())
    }

    pub(crate) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Only the templates are newer: nobody asked for a change.
    pub(crate) fn is_behind(&self, observed: &Observed, stage: &Stage<'_>) -> bool {
        self.live(observed).is_some_and(|live| {
            let wish = wish(live);
            revision(live).is_some_and(|revision| revision != stage.revision)
                && wish.is_none_or(|wish| wish == stage.wish)
        })
    }

    /// It was made by the newest templates.
    pub(crate) fn is_current(&self, observed: &Observed, stage: &Stage<'_>) -> bool {
        self.live(observed).is_some_and(|live| revision(live) == Some(stage.revision))
    }

    /// It exists, and its pods are about to be replaced: for another wish, or for newer templates where it `moves`.
    pub(crate) fn replaces_pods(&self, observed: &Observed, stage: &Stage<'_>, moves: bool) -> bool {
        let is_behind = self.is_behind(observed, stage);
        self.live(observed)
            .is_some_and(|live| (is_behind && moves) || wish(live).is_some_and(|wish| wish != stage.wish))
    }

    /// The workload as it is to be applied: with the pods that it has, where it is behind and may not move.
    ///
    /// # Errors
    /// Where it is no Kubernetes object.
    pub(crate) fn stage(&self, observed: &Observed, stage: &Stage<'_>, moves: bool) -> Result<Desired> {
        let mut value = self.value.clone();
        value["metadata"]["annotations"][WISH_ANNOTATION] = json!(stage.wish);
        if !moves
            && self.is_behind(observed, stage)
            && let Some(template) = self.live(observed).and_then(|live| live.data.pointer(TEMPLATE))
        {
            value["spec"]["template"] = template.clone();
        }
        Ok(Desired::from_value(self.kind, value)?)
    }
}

/// Whether a resource may replace pods now for nothing but newer templates.
pub(crate) fn turn(
    drafts: &[Draft],
    observed: &Observed,
    stage: &Stage<'_>,
    owner: &Owner,
    maintenance: Option<&MaintenanceSpec>,
    context: &Context,
) -> Turn {
    if !drafts.iter().any(|draft| draft.is_behind(observed, stage)) {
        return Turn::Go;
    }
    let mover = Mover {
        uid: &owner.uid,
        name: format!("{} {}/{}", owner.kind, owner.namespace, owner.name),
        has_begun: drafts.iter().any(|draft| draft.is_current(observed, stage)),
        maintenance,
    };
    context.rollouts.turn(&mover, context.mint.now())
}

/// Applies workloads one after the other: pods are replaced only once those before came to rest. True where all did,
/// and none is held back; the workloads as they were applied.
///
/// # Errors
/// At the first that can't be applied.
pub(crate) async fn apply_in_order(
    drafts: &[Draft],
    stage: &Stage<'_>,
    turn: &Turn,
    owner: &Owner,
    context: &Context,
    applied: &mut Applied,
) -> Result<(bool, Vec<Desired>)> {
    let moves = *turn == Turn::Go;
    let mut at_rest = true;
    let mut wanted = vec![];
    for draft in drafts {
        if !at_rest && draft.replaces_pods(&applied.observed, stage, moves) {
            continue;
        }
        let desired = draft.stage(&applied.observed, stage, moves)?;
        let one = std::slice::from_ref(&desired);
        context.applier.apply(&owner.uid, &owner.namespace, one, applied).await?;
        at_rest &= Progress::of(&applied.observed, draft.name()).settled;
        wanted.push(desired);
    }
    let is_done = at_rest && moves;
    if is_done {
        context.rollouts.settled(&owner.uid, context.mint.now());
    }
    Ok((is_done, wanted))
}

fn wish(live: &DynamicObject) -> Option<&str> {
    live.metadata.annotations.as_ref()?.get(WISH_ANNOTATION).map(String::as_str)
}

fn revision(live: &DynamicObject) -> Option<&str> {
    let annotations = live.data.pointer("/spec/template/metadata/annotations")?;
    annotations.get(REVISION_ANNOTATION)?.as_str()
}

/// What the pod templates of the workloads that exist note under an annotation; that of the first that has it.
pub(crate) fn noted(owned: &Observed, annotation: &str) -> Option<String> {
    let deployments = owned.all::<Deployment>().into_iter().filter_map(|d| d.spec?.template.metadata);
    let sets = owned.all::<StatefulSet>().into_iter().filter_map(|s| s.spec?.template.metadata);
    deployments.chain(sets).find_map(|meta| meta.annotations?.get(annotation).cloned())
}

/// The hash of the Secrets for new pods: `hash`, unless those that there are have one of `former`, of earlier operators by
/// which they would be the same.
pub(crate) fn kept_secrets(
    owned: &Observed,
    hash: Option<String>,
    former: impl IntoIterator<Item = Option<String>>,
) -> Option<String> {
    let noted = noted(owned, SECRETS_ANNOTATION);
    let kept = noted.filter(|noted| former.into_iter().flatten().any(|former| former == *noted));
    kept.or(hash)
}
