//! Where the certificate of a grid's ingress comes from, checked against the world.

use grid_operator_api::{BuildGridSpec, CertManager, SecretKeyRef, SelfSigned};
use k8s_openapi::api::core::v1::Secret;

use super::{Tls, seconds};
use crate::buildgrid::observe::World;
use crate::names::Names;
use crate::references::secret_text;
use crate::trouble::Trouble;

/// The certificate of the ingress, as the spec asks for it; nothing where there is no ingress.
///
/// # Errors
/// Where the Secret that it names lacks a part, or the certificate would end too soon.
pub(super) fn certificate(spec: &BuildGridSpec, grid: &str, world: &World) -> Result<Option<Tls>, Trouble> {
    if spec.ingress.is_none() {
        return Ok(None);
    }
    let asked = spec.tls.clone().unwrap_or_default();
    if asked.disabled.is_some() {
        return Ok(Some(Tls::Disabled));
    }
    if let Some(CertManager { issuer_ref }) = asked.cert_manager {
        // cert-manager's Secret has no labels of ours; who issued it is told in `ca.crt`, where that is known.
        let authority = world.secrets.get(&Names(grid).certificate()).and_then(authority);
        return Ok(Some(Tls::CertManager { issuer: issuer_ref, authority }));
    }
    if let Some(reference) = asked.secret_ref {
        let remedy = "create a Secret of type kubernetes.io/tls, or remove spec.tls for a certificate of the operator's";
        for key in ["tls.crt", "tls.key"] {
            let key = SecretKeyRef { name: reference.name.clone(), key: key.into() };
            secret_text(&key, &world.secrets, "spec.tls.secretRef", remedy)?;
        }
        let authority = world.secrets.get(&reference.name).and_then(authority);
        return Ok(Some(Tls::Given { secret: reference.name, authority }));
    }
    let SelfSigned { validity } = asked.self_signed.unwrap_or_default();
    let seconds = seconds(&validity, "spec.tls.selfSigned.validity")?;
    if seconds < 3_600 {
        return Err(Trouble::new(
            "ValidityTooShort",
            format!(
                "spec.tls.selfSigned.validity is {}: give it an hour at least, so that a renewal reaches every part",
                validity.0
            ),
        ));
    }
    Ok(Some(Tls::SelfSigned { seconds }))
}

fn authority(secret: &Secret) -> Option<String> {
    let bytes = secret.data.as_ref()?.get("ca.crt")?;
    String::from_utf8(bytes.0.clone()).ok()
}
