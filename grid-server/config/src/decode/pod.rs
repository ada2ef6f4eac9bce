//! `pod`: what makes a configuration that was written for a machine run in a pod.
//!
//! The operator adds it; the addresses and relative paths of the document stay as their writer has them.

use super::decoder::{Decode, Decoder};
use super::{Fields, record};
use crate::model::{Channel, Endpoint, Pod, Transport};
use crate::table::{POD, Ty};
use crate::yaml::Child;

impl Decode for Pod {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &POD, decoder)?;
        let f = &mut fields;
        record!(f => Pod { port: opt("port"), working_directory: opt("working-directory") })
    }
}

/// Opens the first plain channel at the pod's port, on all addresses, where no channel can be reached there.
pub(super) fn place(f: &mut Fields<'_, '_>, channels: &mut [Channel], pod: &Pod) {
    let Some(wanted) = pod.port else { return };
    let is_reachable = |channel: &Channel| matches!(&channel.endpoint, Endpoint::Tcp { host, port } if *port == wanted && !is_loopback(host));
    if channels.iter().any(is_reachable) {
        return;
    }
    let is_plain = |channel: &&mut Channel| {
        channel.transport == Transport::Insecure && matches!(channel.endpoint, Endpoint::Tcp { .. })
    };
    match channels.iter_mut().find(is_plain) {
        Some(channel) => channel.endpoint = Endpoint::Tcp { host: "::".to_owned(), port: wanted },
        None => f.error_at(
            "server",
            format!(
                "nothing listens at port {wanted} for others than this machine, and no channel can be moved there: give one `address: '[::]:{wanted}'`, or one plain TCP (`insecure-mode: yes`)"
            ),
        ),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
