//! Events about what a pass did, and about what began to be wrong.

use grid_operator_apply::Change;
use kube::Resource;

use crate::context::Context;
use crate::trouble::Trouble;

/// Says what was written: one event for all that was made, one for all that was changed, one for all that was
/// removed.
pub(crate) async fn changes<K: Resource<DynamicType = ()>>(context: &Context, about: &K, changes: &[Change]) {
    let (mut created, mut updated, mut deleted) = (vec![], vec![], vec![]);
    for change in changes {
        let (list, kind, name) = match change {
            Change::Created(kind, name) => (&mut created, kind, name),
            Change::Updated(kind, name) => (&mut updated, kind, name),
            Change::Deleted(kind, name) => (&mut deleted, kind, name),
        };
        list.push(format!("{} {name}", kind.kind));
    }
    for (reason, names) in [("Created", created), ("Updated", updated), ("Deleted", deleted)] {
        if !names.is_empty() {
            context.events.normal(about, reason, "Reconcile", names.join(", ")).await;
        }
    }
}

/// Says what is wrong, once it is new: `is_news` tells that the status was not the same before.
pub(crate) async fn trouble<K: Resource<DynamicType = ()>>(
    context: &Context,
    about: &K,
    trouble: Option<&Trouble>,
    is_news: bool,
) {
    if let Some(trouble) = trouble
        && is_news
    {
        context.events.warning(about, trouble.reason, "Reconcile", trouble.message.clone()).await;
    }
}
