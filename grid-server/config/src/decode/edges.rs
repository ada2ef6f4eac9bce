//! What stands before the services and beside them: browsers, rates, traces, the health of other servers.

use super::connections;
use super::decoder::{Decode, Decoder};
use super::{Fields, record};
use crate::model::{ClientCredentials, GrpcWeb, HealthOf, Rates, Tracing};
use crate::table::{GRPC_WEB, HEALTH_OF, RATES, TRACING, Ty};
use crate::yaml::Child;

impl Decode for GrpcWeb {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &GRPC_WEB, decoder)?;
        let origins: Vec<String> = fields.req("origins")?;
        let wrong = origins.iter().find(|origin| !(*origin == "*" || is_url(origin)));
        if let Some(wrong) = wrong {
            fields.error_at("origins", format!("expected https://HOST[:PORT] or `*`, found `{wrong}`"));
            return None;
        }
        Some(Self { origins })
    }
}

impl Decode for HealthOf {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &HEALTH_OF, decoder)?;
        let url = connections::url(&mut fields);
        let services = fields.req("services");
        let credentials = fields.opt::<ClientCredentials>("credentials");
        Some(Self { url: url?, services: services?, credentials: credentials?.unwrap_or_default() })
    }
}

impl Decode for Rates {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &RATES, decoder)?;
        let f = &mut fields;
        record!(f => Rates { per_subject: opt("per-subject"), per_connection: opt("per-connection") })
    }
}

impl Decode for Tracing {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &TRACING, decoder)?;
        let f = &mut fields;
        let read = record!(f => Tracing {
            endpoint: req("endpoint"),
            sample: or("sample"),
            service_name: or("service-name"),
        })?;
        if !is_url(&read.endpoint) {
            fields.error_at("endpoint", format!("expected http://HOST:PORT, found `{}`", read.endpoint));
            return None;
        }
        Some(read)
    }
}

/// Whether a text is a scheme of HTTP with a host, and nothing behind it.
pub(super) fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ', '@']))
}
