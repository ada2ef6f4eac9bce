//! How a grid's callers are known: what the spec says, checked, and as the servers read it.

use std::collections::BTreeSet;

use grid_operator_api::{AuthorizationSpec, SecretKeyRef};

use super::observe::World;
use crate::references::{config_text, secret_bytes};
use crate::server_config::connections::secret_path;
use crate::server_config::yaml::Node;
use crate::trouble::Trouble;

/// Where the ACL lies in the folder of a server's configuration.
pub(crate) const ACL_FILE: &str = "acl.yml";
/// The same as the server sees it.
const ACL_PATH: &str = "/etc/grid/config/acl.yml";

/// A checked authorization.
#[derive(Clone, Debug)]
pub(crate) struct Authorization<'a> {
    spec: &'a AuthorizationSpec,
    /// The ACL's text.
    pub(crate) acl: Option<String>,
    /// The key of signatures, which servers read again when it changes.
    pub(crate) key: Option<(SecretKeyRef, Vec<u8>)>,
}

/// Checks what the spec refers to.
///
/// # Errors
/// A key of a Secret or ConfigMap is missing.
pub(crate) fn validate<'a>(spec: &'a AuthorizationSpec, world: &World) -> Result<Authorization<'a>, Trouble> {
    let reference = spec.jwt.as_ref().and_then(|jwt| jwt.key_secret_ref.as_ref());
    let key = match reference {
        Some(reference) => {
            let field = "spec.authorization.jwt.keySecretRef";
            let bytes =
                secret_bytes(reference, &world.secrets, field, "create it with the key of the signatures")?;
            Some((reference.clone(), bytes.to_vec()))
        }
        None => None,
    };
    let acl = spec.acl_from.as_ref();
    let acl =
        acl.map(|acl| config_text(acl, &world.config_maps, "spec.authorization.aclFrom")).transpose()?;
    Ok(Authorization { spec, acl: acl.map(str::to_owned), key })
}

impl Authorization<'_> {
    /// As the server reads it; keys of Secrets that it reads go into `secrets`.
    pub(crate) fn node(&self, secrets: &mut BTreeSet<(String, String)>) -> Node {
        let mut map = vec![];
        match &self.spec.jwt {
            Some(jwt) => {
                map.push(("method", Node::text("jwt")));
                map.push(("algorithm", Node::text(jwt.algorithm.as_str())));
                if let Some((reference, _)) = &self.key {
                    secrets.insert((reference.name.clone(), reference.key.clone()));
                    map.push(("secret", Node::text(secret_path(reference))));
                }
                map.extend(jwt.key_set_urls.as_ref().map(|urls| ("jwks-url", texts(urls))));
                map.extend(jwt.audiences.as_ref().map(|audiences| ("audience", texts(audiences))));
            }
            None => map.push(("method", Node::text("headers"))),
        }
        if self.acl.is_some() {
            map.push(("acl-config", Node::text(ACL_PATH)));
        }
        if !self.spec.open_instances.is_empty() {
            map.push(("allow-unauthenticated-instances", texts(&self.spec.open_instances)));
        }
        Node::Map(map)
    }
}

fn texts(texts: &[String]) -> Node {
    Node::List(texts.iter().map(Node::text).collect())
}
