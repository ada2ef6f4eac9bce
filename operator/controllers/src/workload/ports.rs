//! What servers listen on: plain gRPC for clients and ways in, mutual TLS for parts.

use crate::mutual_tls::MutualTls;
use crate::names::{GRPC_PORT, MUTUAL_TLS_PORT};
use crate::server_config::yaml::Node;

/// The ports of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Plain gRPC for everybody.
    Plain,
    /// Mutual TLS alone: nobody but parts calls it.
    Mutual,
    /// Plain gRPC for clients, mutual TLS for parts.
    Both,
}

impl Ports {
    /// The ports with their names.
    pub(crate) fn named(self) -> Vec<(&'static str, i32)> {
        let (plain, mutual) = (("grpc", GRPC_PORT), ("grpc-tls", MUTUAL_TLS_PORT));
        match self {
            Self::Plain => vec![plain],
            Self::Mutual => vec![mutual],
            Self::Both => vec![plain, mutual],
        }
    }
}

/// The same as a server's configuration says it.
pub(crate) fn channels(ports: Ports, mutual_tls: Option<&MutualTls>) -> Vec<Node> {
    let plain = (ports != Ports::Mutual).then(|| {
        let address = format!("[::]:{GRPC_PORT}");
        Node::tagged("!channel", vec![("address", Node::text(address)), ("insecure-mode", Node::flag(true))])
    });
    plain.into_iter().chain(mutual_tls.map(MutualTls::channel)).collect()
}
