//! Channels: where a server listens, and how.

use super::decoder::{Decode, Decoder};
use super::{Fields, objects, record};
use crate::model::{Channel, Endpoint, ServerCredentials, Transport};
use crate::table::{Kind, SERVER_CREDENTIALS, Ty};
use crate::yaml::Child;

impl Decode for Channel {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let section = objects::section(child, &[Kind::Channel], decoder)?;
        let mut fields = Fields::new(child, section, decoder)?;
        let f = &mut fields;
        let endpoint = endpoint(f);
        let insecure = f.or::<bool>("insecure-mode");
        let credentials = f.opt::<ServerCredentials>("credentials");
        let transport = match (insecure?, credentials?) {
            (true, _) => {
                f.no_effect("credentials", "`insecure-mode` is on, so this channel speaks plain HTTP/2");
                Transport::Insecure
            }
            (false, Some(credentials)) => Transport::Tls(credentials),
            (false, None) => Transport::DefaultTls,
        };
        Some(Self { endpoint: endpoint?, transport })
    }
}

fn endpoint(f: &mut Fields<'_, '_>) -> Option<Endpoint> {
    let address = f.opt::<String>("address");
    let port = f.opt::<u16>("port");
    match (address?, port?) {
        (Some(address), None) => {
            let parsed = parse_endpoint(&address);
            if parsed.is_none() {
                f.error_at(
                    "address",
                    format!("expected HOST:PORT, [::]:PORT or unix:PATH, found `{address}`"),
                );
            }
            parsed
        }
        (None, Some(port)) => Some(Endpoint::Tcp { host: "::".to_owned(), port }),
        (None, None) => {
            f.missing("address");
            None
        }
        (Some(_), Some(_)) => {
            f.error_at("port", "`address` has the port already; remove `port`".to_owned());
            None
        }
    }
}

pub(super) fn parse_endpoint(address: &str) -> Option<Endpoint> {
    if let Some(path) = address.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return (!path.is_empty()).then(|| Endpoint::Unix(path.into()));
    }
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some(())?;
    Some(Endpoint::Tcp { host: host.to_owned(), port: port.parse().ok()? })
}

impl Decode for ServerCredentials {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &SERVER_CREDENTIALS, decoder)?;
        let f = &mut fields;
        record!(f => ServerCredentials {
            key: req("tls-server-key"),
            certificate: req("tls-server-cert"),
            client_authorities: opt("tls-client-certs"),
        })
    }
}
