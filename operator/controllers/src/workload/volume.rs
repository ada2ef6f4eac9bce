//! The claim of a server that keeps data on a volume, and what becomes of it.

use std::collections::BTreeMap;

use grid_operator_api::{ByteSize, DeletionPolicy, VolumeSpec};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

use super::pod::DATA_VOLUME;
use crate::names::Owner;
use crate::trouble::Trouble;

/// The template of the claims of a StatefulSet.
pub(crate) fn claim_template(owner: &Owner, component: &str, volume: &VolumeSpec) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA_VOLUME.into()),
            labels: Some(owner.selector_labels(component)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(volume.size.0.clone()))])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: volume.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// Fails where the StatefulSet that exists has another volume than the one that is wanted: its claims can't be
/// changed through it.
pub(crate) fn check_unchanged(
    set: Option<&StatefulSet>,
    wanted: &VolumeSpec,
    field: &str,
) -> Result<(), Trouble> {
    let templates = set.and_then(|set| set.spec.as_ref()?.volume_claim_templates.as_ref());
    let claim =
        templates.into_iter().flatten().find(|claim| claim.metadata.name.as_deref() == Some(DATA_VOLUME));
    let Some(spec) = claim.and_then(|claim| claim.spec.as_ref()) else { return Ok(()) };
    let size = spec.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage"));
    let has = size.map_or("nothing", |size| size.0.as_str());
    let same_size = ByteSize::from(has).bytes() == wanted.size.bytes();
    // The class that the cluster chose by default is not written back into the template.
    if same_size && spec.storage_class_name == wanted.storage_class_name {
        return Ok(());
    }
    let class = |class: &Option<String>| class.clone().unwrap_or_else(|| "the default class".to_owned());
    Err(Trouble::new(
        "VolumeFixed",
        format!(
            "{field} asks for {} of {}, and the volume that exists has {has} of {}: give that, or make a new resource and move to it",
            wanted.size.0,
            class(&wanted.storage_class_name),
            class(&spec.storage_class_name)
        ),
    ))
}

/// What becomes of the claims when the StatefulSet goes. Fewer replicas never cost data.
pub(crate) fn retention(policy: DeletionPolicy) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    let when_deleted = match policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    };
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(when_deleted.into()),
        when_scaled: Some("Retain".into()),
    }
}
