//! [`Demands`]: what an action's platform properties ask of the worker itself, besides being there.
//!
//! The server matches properties; these few change how the command is run. Names are those of the field: Bazel's
//! `dockerNetwork`, `persistentWorkerKey` and `persistentWorkerProtocol`, and `network`, `unixUID`, `unixGID` and `chrootDigest` as BuildStream and buildbox use them. A
//! value that can't be understood is refused. Neighbours: `assignment` reads them, `runner_client` passes them on.

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{self, Platform};

use crate::cas::client::from_wire;
use crate::error::WorkerError;
use crate::work_protocol::Form;

/// What one action asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Demands {
    /// Whether the command is to reach the network.
    pub network: bool,
    /// The user id that it is to have, as it sees it.
    pub uid: Option<u32>,
    /// The group id that it is to have.
    pub gid: Option<u32>,
    /// A directory that is staged before the inputs, as what lies under them.
    pub chroot: Option<Digest>,
    /// That a persistent worker may do the work: the key that the client gave it.
    pub persistent: Option<String>,
    /// How that worker is talked to.
    pub work_form: Form,
}

impl Demands {
    /// Reads the properties; digests are of `function`.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] naming the property.
    pub fn new(platform: Option<&Platform>, function: DigestFunction) -> Result<Self, WorkerError> {
        let mut demands = Self::default();
        for property in platform.into_iter().flat_map(|platform| &platform.properties) {
            let (name, value) = (property.name.as_str(), property.value.as_str());
            let expected = |what: &str| WorkerError::Invalid(format!("property {name}={value:?}: {what}"));
            match name {
                "network" => {
                    demands.network |= switch(value).ok_or_else(|| expected("on or off is needed"))?;
                }
                "dockerNetwork" => demands.network |= value != "off" && value != "none",
                "unixUID" => {
                    demands.uid = Some(value.parse().map_err(|_| expected("a user id is needed"))?);
                }
                "unixGID" => {
                    demands.gid = Some(value.parse().map_err(|_| expected("a group id is needed"))?);
                }
                "chrootDigest" => {
                    demands.chroot =
                        Some(digest(value, function).ok_or_else(|| expected("HASH/SIZE is needed"))?);
                }
                "persistentWorkerKey" if !value.is_empty() => demands.persistent = Some(value.to_owned()),
                "persistentWorkerProtocol" => {
                    demands.work_form =
                        Form::from_name(value).ok_or_else(|| expected("proto or json is needed"))?;
                }
                _ => {}
            }
        }
        Ok(demands)
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        _ => None,
    }
}

fn digest(value: &str, function: DigestFunction) -> Option<Digest> {
    let (hash, size) = value.split_once('/')?;
    from_wire(function, &reapi::Digest { hash: hash.to_owned(), size_bytes: size.parse().ok()? }).ok()
}

#[cfg(test)]
mod tests {
    use grid_proto::reapi::platform::Property;

    use super::*;

    fn read(properties: &[(&str, &str)]) -> Result<Demands, WorkerError> {
        let property =
            |(name, value): &(&str, &str)| Property { name: (*name).to_owned(), value: (*value).to_owned() };
        let platform = Platform { properties: properties.iter().map(property).collect() };
        Demands::new(Some(&platform), DigestFunction::Sha256)
    }

    #[test]
    fn properties_of_bazel_and_buildstream_are_understood() {
        let root = Digest::of(DigestFunction::Sha256, b"root");
        let demands =
            read(&[("ISA", "x"), ("unixUID", "0"), ("unixGID", "7"), ("chrootDigest", &root.to_string())]);
        let expected = Demands { uid: Some(0), gid: Some(7), chroot: Some(root), ..Demands::default() };
        assert_eq!(demands.unwrap(), expected);
        for (name, value, network) in [
            ("network", "on", true),
            ("network", "off", false),
            ("dockerNetwork", "standard", true),
            ("dockerNetwork", "off", false),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap().network, network, "{name}={value}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (name, value) in [
            ("unixUID", "root"),
            ("unixGID", "-1"),
            ("network", "maybe"),
            ("chrootDigest", "abc/1"),
            ("persistentWorkerProtocol", "xml"),
        ] {
            assert!(read(&[(name, value)]).unwrap_err().to_string().contains(name), "{name}");
        }
    }
}
