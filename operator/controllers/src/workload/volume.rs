//! The claim of a server that keeps data on a volume. Neighbours: `growth` makes it larger, `keeping` has it outlive its server.

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

/// The volume that a StatefulSet's claims are made for.
pub(crate) fn claimed(set: &StatefulSet) -> Option<VolumeSpec> {
    let storage_class_name = claim(set)?.spec.as_ref()?.storage_class_name.clone();
    Some(VolumeSpec { size: ByteSize::from(claimed_size(set)?.as_str()), storage_class_name })
}

/// The size that a StatefulSet's claims are made with.
pub(crate) fn claimed_size(set: &StatefulSet) -> Option<String> {
    let spec = claim(set)?.spec.as_ref()?;
    Some(spec.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone())
}

fn claim(set: &StatefulSet) -> Option<&PersistentVolumeClaim> {
    let mut templates = set.spec.as_ref()?.volume_claim_templates.as_ref()?.iter();
    templates.find(|claim| claim.metadata.name.as_deref() == Some(DATA_VOLUME))
}

/// Fails where the StatefulSet that exists has a volume that can't become the one that is wanted: a larger one, or
/// one of another class.
pub(crate) fn check_unchanged(
    set: Option<&StatefulSet>,
    wanted: &VolumeSpec,
    field: &str,
) -> Result<(), Trouble> {
    let Some(set) = set else { return Ok(()) };
    let Some(spec) = claim(set).and_then(|claim| claim.spec.as_ref()) else { return Ok(()) };
    let has = claimed_size(set).unwrap_or_default();
    let shrinks = ByteSize::from(has.as_str()).bytes() > wanted.size.bytes();
    // The class that the cluster chose by default is not written back into the template.
    if !shrinks && spec.storage_class_name == wanted.storage_class_name {
        return Ok(());
    }
    let class = |class: &Option<String>| class.clone().unwrap_or_else(|| "the default class".to_owned());
    Err(Trouble::new(
        "VolumeFixed",
        format!(
            "{field} asks for {} of {}, and the volume that exists has {has} of {}: a volume can only grow, and keeps its class; give that, or make a new resource and move to it",
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
