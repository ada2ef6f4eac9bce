//! Events about what the operator did, through one recorder that lives as long as the process: so that
//! repetitions become a count and not a flood.

use kube::Client;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// The operator's events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// A recorder that reports as `grid-operator`; `instance` is the pod's name.
    #[must_use]
    pub fn new(client: Client, instance: Option<String>) -> Self {
        Self { recorder: Recorder::new(client, Reporter { controller: "grid-operator".into(), instance }) }
    }

    /// Tells that something was done. An event that can't be written is logged and otherwise ignored: it must
    /// not keep the operator from its work.
    pub async fn normal<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &str,
        action: &str,
        note: String,
    ) {
        self.publish(about, EventType::Normal, reason, action, note).await;
    }

    /// Tells that something went wrong.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &str,
        action: &str,
        note: String,
    ) {
        self.publish(about, EventType::Warning, reason, action, note).await;
    }

    async fn publish<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        type_: EventType,
        reason: &str,
        action: &str,
        mut note: String,
    ) {
        // The API server takes 1 kB.
        if note.len() > 1000 {
            let end = (0..=1000).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
            note.truncate(end);
        }
        let event =
            Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None };
        if let Err(error) = self.recorder.publish(&event, &about.object_ref(&())).await {
            tracing::warn!(%error, reason, "an event could not be written");
        }
    }
}
