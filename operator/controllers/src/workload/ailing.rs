//! Why pods don't come up, in words that last: what the kubelet and the scheduler say of them, for conditions.
//!
//! Asked only while pods are missing. Neighbours: `progress` says that they are.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::Owner;

/// What keeps pods from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ailment {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Ailment {
    /// Another pod of the same kind would fare no better.
    pub(crate) fn is_of_the_template(&self) -> bool {
        self.reason != UNSCHEDULABLE
    }
}

const UNSCHEDULABLE: &str = "Unschedulable";

/// What ails the pods of a resource, if anything does.
///
/// # Errors
/// Where they can't be asked for.
pub(crate) async fn ailment(context: &Context, owner: &Owner) -> Result<Option<Ailment>> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &owner.namespace);
    let list = api.list(&ListParams::default().labels(&owner.list_selector())).await;
    let pods = list.map_err(Error::read(format!("the pods of the {} {}", owner.kind, owner.name)))?;
    Ok(first(&pods.items).or_else(|| stranded(&pods.items, &context.fleets.nodes().lost())))
}

/// A pod with a volume on a node that fell silent: nobody but a person may say that it runs no more.
fn stranded(pods: &[Pod], lost: &BTreeSet<&str>) -> Option<Ailment> {
    let is_of_set = |pod: &&Pod| pod.owner_references().iter().any(|owner| owner.kind == "StatefulSet");
    let on_lost = |pod: &Pod| {
        let node = pod.spec.as_ref()?.node_name.clone()?;
        lost.contains(node.as_str()).then(|| (pod.name_any(), node))
    };
    let (pod, node) = pods.iter().filter(is_of_set).filter_map(on_lost).min()?;
    let message = format!(
        "the pod {pod} is on the node {node}, which isn't ready: what is on its volume can't be reached until the node is back. If it never comes back, `kubectl delete pod {pod} --force` lets the pod start elsewhere; a volume on the node's own disk is lost with it: delete its claim too"
    );
    Some(Ailment { reason: "NodeLost", message })
}

/// The ailment of the first pod that has one, by the names of the pods' containers.
pub(crate) fn first(pods: &[Pod]) -> Option<Ailment> {
    let live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut found: Vec<Ailment> = live.filter_map(of).collect();
    found.sort_by(|a, b| (a.reason, &a.message).cmp(&(b.reason, &b.message)));
    found.into_iter().next()
}

fn of(pod: &Pod) -> Option<Ailment> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let containers = inits.chain(status.container_statuses.iter().flatten());
    containers.filter_map(of_container).next().or_else(|| {
        let conditions = status.conditions.iter().flatten();
        let refused = conditions
            .filter(|c| c.type_ == "PodScheduled" && c.status == "False")
            .find(|c| c.reason.as_deref() == Some(UNSCHEDULABLE))?;
        let why = refused.message.as_deref().unwrap_or("the scheduler doesn't say why");
        Some(Ailment { reason: UNSCHEDULABLE, message: format!("no node takes the pods: {why}") })
    })
}

fn of_container(status: &ContainerStatus) -> Option<Ailment> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let name = &status.name;
    let (reason, message) = match waiting.reason.as_deref()? {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => (
            "ImageNotPulled",
            format!(
                "the image {} of the container {name} can't be pulled: check its name, or give imagePullSecrets in spec.podTemplate",
                status.image
            ),
        ),
        "CrashLoopBackOff" => (
            "CrashLooping",
            format!("the container {name} ends again and again{}: its log says why", last_end(status)),
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => (
            "ContainerRefused",
            format!(
                "the container {name} can't be started: {}",
                waiting.message.as_deref().unwrap_or("the kubelet doesn't say why")
            ),
        ),
        _ => return None,
    };
    Some(Ailment { reason, message })
}

fn last_end(status: &ContainerStatus) -> String {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    last.map(|end| match end.reason.as_deref() {
        Some("OOMKilled") => " (it needs more memory than its limit)".to_owned(),
        _ => format!(" (exit code {})", end.exit_code),
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": status}),
        )
        .unwrap()
    }

    fn waiting(reason: &str) -> Pod {
        pod(
            &json!({"containerStatuses": [{"name": "worker", "image": "gcc:12", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": reason, "message": "secret \"x\" not found"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
        )
    }

    #[test]
    fn each_ailment_has_its_reason_and_names_what_to_look_at() {
        for (waits, reason, part) in [
            ("ErrImagePull", "ImageNotPulled", "gcc:12"),
            ("CrashLoopBackOff", "CrashLooping", "more memory"),
            ("CreateContainerConfigError", "ContainerRefused", "not found"),
        ] {
            let found = first(&[waiting(waits)]).unwrap();
            assert_eq!(found.reason, reason);
            assert!(found.message.contains(part), "{}", found.message);
            assert!(found.is_of_the_template());
        }
        let condition = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Insufficient cpu."}]});
        let unschedulable = first(&[pod(&condition)]).unwrap();
        assert!(unschedulable.message.contains("Insufficient cpu") && !unschedulable.is_of_the_template());
        assert_eq!(
            first(&[waiting("ContainerCreating"), pod(&json!({}))]),
            None,
            "what only takes time ails nothing"
        );
    }

    #[test]
    fn a_pod_with_a_volume_on_a_silent_node_is_said_with_the_remedy() {
        let of = |kind: &str| -> Pod {
            serde_json::from_value(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tier-server-0",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "y"}]},
                "spec": {"nodeName": "n1", "containers": []}}),
            )
            .unwrap()
        };
        let found = stranded(&[of("StatefulSet")], &["n1"].into()).unwrap();
        assert!(found.message.contains("kubectl delete pod tier-server-0 --force"), "{}", found.message);
        assert_eq!(stranded(&[of("StatefulSet")], &["n2"].into()), None);
        assert_eq!(stranded(&[of("ReplicaSet")], &["n1"].into()), None, "its successor starts by itself");
    }
}
