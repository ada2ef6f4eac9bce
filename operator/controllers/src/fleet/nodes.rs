//! Nodes that take no more pods, and nodes that fell silent. Of all others nothing is kept.
//!
//! The binary watches them where it may; where it may not, none is known, and workers drain when their pods are
//! told to end.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;

/// Taints by which autoscalers and clouds say that a node is about to go.
const DEPARTING: [&str; 6] = [
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "aws-node-termination-handler/spot-itn",
    "cloud.google.com/impending-node-termination",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It is cordoned, or about to go: its workers finish what they have.
    Leaving,
    /// It isn't ready: nothing is known of its pods.
    Lost,
    /// Both: its kubelet may be about to start anew while workers go on there, which are not to take actions again.
    LeavingAndLost,
}

impl NodeState {
    /// What is wrong with this one, if anything is.
    #[must_use]
    pub fn of(node: &Node) -> Option<Self> {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let is_lost = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status != "True");
        let departs = |key: &str| DEPARTING.contains(&key);
        let is_leaving = node.spec.as_ref().is_some_and(|spec| {
            spec.unschedulable == Some(true) || spec.taints.iter().flatten().any(|taint| departs(&taint.key))
        });
        match (is_leaving, is_lost) {
            (true, true) => Some(Self::LeavingAndLost),
            (true, false) => Some(Self::Leaving),
            (false, true) => Some(Self::Lost),
            (false, false) => None,
        }
    }
}

/// The nodes of which something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    known: BTreeMap<String, NodeState>,
    /// Every node was looked at: one that is not among these is well.
    complete: bool,
}

impl Nodes {
    /// True where that is news.
    pub(super) fn note(&mut self, name: &str, state: Option<NodeState>) -> bool {
        match state {
            Some(state) => self.known.insert(name.to_owned(), state) != Some(state),
            None => self.known.remove(name).is_some(),
        }
    }

    /// These are all the nodes that there are; true where that is news.
    pub(super) fn complete(&mut self, names: &BTreeSet<String>) -> bool {
        let before = (self.known.len(), self.complete);
        self.known.retain(|name, _| names.contains(name));
        self.complete = true;
        before != (self.known.len(), true)
    }

    /// Whether the nodes are known at all.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The nodes whose workers are to finish.
    pub(crate) fn leaving(&self) -> BTreeSet<&str> {
        self.in_state(&[NodeState::Leaving, NodeState::LeavingAndLost])
    }

    /// The nodes that fell silent.
    pub(crate) fn lost(&self) -> BTreeSet<&str> {
        self.in_state(&[NodeState::Lost, NodeState::LeavingAndLost])
    }

    fn in_state(&self, wanted: &[NodeState]) -> BTreeSet<&str> {
        self.known.iter().filter(|(_, state)| wanted.contains(state)).map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(spec: &serde_json::Value, ready: &str) -> Option<NodeState> {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": spec, "status": status});
        NodeState::of(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn cordons_taints_and_silence_are_told_apart() {
        assert_eq!(state(&json!({}), "True"), None);
        assert_eq!(state(&json!({"unschedulable": true}), "True"), Some(NodeState::Leaving));
        let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
        assert_eq!(state(&taint("karpenter.sh/disrupted"), "True"), Some(NodeState::Leaving));
        assert_eq!(state(&taint("dedicated"), "True"), None, "a taint of the user's own is no departure");
        assert_eq!(state(&json!({}), "Unknown"), Some(NodeState::Lost));
        assert_eq!(state(&json!({"unschedulable": true}), "Unknown"), Some(NodeState::LeavingAndLost));
    }

    #[test]
    fn a_node_that_is_gone_is_forgotten() {
        let mut nodes = Nodes::default();
        assert!(nodes.note("a", Some(NodeState::Leaving)) && nodes.note("b", Some(NodeState::Lost)));
        assert!(!nodes.note("a", Some(NodeState::Leaving)), "the same again is no news");
        assert!(nodes.complete(&["a".to_owned()].into()));
        assert_eq!((nodes.leaving(), nodes.lost()), (["a"].into(), BTreeSet::new()));
        assert!(nodes.note("a", Some(NodeState::LeavingAndLost)));
        assert_eq!((nodes.leaving(), nodes.lost()), (["a"].into(), ["a"].into()));
        assert!(nodes.note("a", None) && nodes.leaving().is_empty());
    }
}
