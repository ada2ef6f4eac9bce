//! `authorization`.

use std::path::PathBuf;
use std::time::Duration;

use super::Fields;
use super::connections::url;
use super::decoder::{Decode, Decoder};
use super::scalars::Names;
use crate::model::{Algorithm, Authorization, AuthorizationServer, ClientCredentials, Jwt, JwtKeys, Method};
use crate::table::{AUTHORIZATION, Ty};
use crate::yaml::Child;

const JWT_KEYS: [&str; 5] = ["secret", "jwks-url", "audience", "algorithm", "jwks-fetch-minutes"];
const SERVER_KEYS: [&str; 3] = ["url", "request-timeout", "credentials"];

impl Decode for Authorization {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &AUTHORIZATION, decoder)?;
        let f = &mut fields;
        let name = f.req::<String>("method");
        let acl = f.opt("acl-config");
        let cache_writers = f.or("cache-writers");
        let open_instances = f.or("allow-unauthenticated-instances");
        let allow_localhost = f.or("allow-localhost-requests");
        let name = name?;
        if f.has("acl-config") {
            f.no_effect("cache-writers", "`acl-config` decides who may call what");
        } else if name == "server" {
            f.no_effect("cache-writers", "with `method: server` that server decides");
        }
        let method = method(f, &name);
        let idle: &[&[&str]] = match name.as_str() {
            "jwt" => &[&SERVER_KEYS],
            "server" => &[&JWT_KEYS],
            _ => &[&JWT_KEYS, &SERVER_KEYS],
        };
        for key in idle.iter().copied().flatten() {
            f.no_effect(key, &format!("`method` is `{name}`"));
        }
        Some(Self {
            method: method?,
            acl: acl?,
            cache_writers: cache_writers?,
            open_instances: open_instances?,
            allow_localhost: allow_localhost?,
        })
    }
}

impl Authorization {
    /// What holds where a configuration says nothing.
    pub(super) const fn open() -> Self {
        Self {
            method: Method::None,
            acl: None,
            cache_writers: Vec::new(),
            open_instances: Vec::new(),
            allow_localhost: false,
        }
    }
}

fn method(f: &mut Fields<'_, '_>, name: &str) -> Option<Method> {
    match name {
        "jwt" => jwt(f).map(Method::Jwt),
        "server" => server(f).map(Method::Server),
        "headers" => Some(Method::Headers),
        _ => Some(Method::None),
    }
}

fn jwt(f: &mut Fields<'_, '_>) -> Option<Jwt> {
    let secret = f.opt::<PathBuf>("secret");
    let urls = f.opt::<Names>("jwks-url");
    let audience = f.opt::<Names>("audience");
    let algorithm = algorithm(f);
    let minutes = f.or::<u64>("jwks-fetch-minutes");
    let (secret, urls, audience) = (secret?, urls?, audience?);
    let keys = match (urls, secret) {
        (Some(Names(urls)), _) => {
            f.no_effect("secret", "with `jwks-url` the keys are fetched");
            if audience.is_none() {
                f.error_at(
                    "audience",
                    "`audience` is missing: with `jwks-url` a token must be for one of its audiences"
                        .to_owned(),
                );
                return None;
            }
            JwtKeys::Fetched { urls, every: Duration::from_secs(minutes?.saturating_mul(60)) }
        }
        (None, Some(path)) => {
            f.no_effect("jwks-fetch-minutes", "there is no `jwks-url`");
            JwtKeys::File(path)
        }
        (None, None) => {
            f.error("with method `jwt` one of `secret` and `jwks-url` says where the keys are".to_owned());
            return None;
        }
    };
    Some(Jwt { keys, audiences: audience.map_or_else(Vec::new, |Names(names)| names), algorithm: algorithm? })
}

fn algorithm(f: &mut Fields<'_, '_>) -> Option<Algorithm> {
    Some(match f.req::<String>("algorithm")?.as_str() {
        "hs256" => Algorithm::Hs256,
        "hs384" => Algorithm::Hs384,
        "hs512" => Algorithm::Hs512,
        "rs384" => Algorithm::Rs384,
        "rs512" => Algorithm::Rs512,
        "es256" => Algorithm::Es256,
        "es384" => Algorithm::Es384,
        "es512" => Algorithm::Es512,
        "ps256" => Algorithm::Ps256,
        "ps384" => Algorithm::Ps384,
        "ps512" => Algorithm::Ps512,
        _ => Algorithm::Rs256,
    })
}

fn server(f: &mut Fields<'_, '_>) -> Option<AuthorizationServer> {
    let url = url(f);
    let request_timeout = f.or("request-timeout");
    let credentials = f.opt::<ClientCredentials>("credentials");
    Some(AuthorizationServer {
        url: url?,
        request_timeout: request_timeout?,
        credentials: credentials?.unwrap_or_default(),
    })
}
