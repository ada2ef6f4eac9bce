//! Connections: databases, Redis, other gRPC servers.

use std::time::Duration;

use super::decoder::{Decode, Decoder, Memo, Tagged};
use super::inline::DATABASE_SCHEMES;
use super::{Fields, objects, record};
use crate::model::{ClientCredentials, RedisConnection, Remote, Shared, SqlConnection};
use crate::table::{CREDENTIALS, Kind, LOG_STREAM, Ty};
use crate::yaml::Child;

/// An element of `connections`.
pub(super) enum Connection {
    Sql(Shared<SqlConnection>),
    Redis(Shared<RedisConnection>),
}

impl Decode for Connection {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        match objects::section(child, &[Kind::SqlConnection, Kind::RedisConnection], decoder)?.kind {
            Some(Kind::RedisConnection) => Shared::decode(child, ty, decoder).map(Self::Redis),
            _ => Shared::decode(child, ty, decoder).map(Self::Sql),
        }
    }
}

impl Tagged for SqlConnection {
    const KIND: Kind = Kind::SqlConnection;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.sql
    }

    fn read(_tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        let connection = record!(f => SqlConnection {
            connection_string: req("connection-string"),
            connection_timeout: or("connection-timeout"),
            lock_timeout: or("lock-timeout"),
            pool_size: or("pool-size"),
            max_overflow: or("max-overflow"),
            pool_timeout: or("pool-timeout"),
            pool_recycle: opt("pool-recycle"),
            automigrate: or("automigrate"),
            name: or("name"),
        })?;
        check_scheme(f, &connection).then_some(connection)
    }
}

/// Whether the connection string is one that we can connect by; its content is never quoted.
pub(super) fn check_scheme(f: &mut Fields<'_, '_>, connection: &SqlConnection) -> bool {
    let known =
        DATABASE_SCHEMES.iter().any(|scheme| connection.connection_string.reveal().starts_with(scheme));
    if !known {
        let message = "expected postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///PATH (other databases are not supported)";
        f.error_at("connection-string", message.to_owned());
    }
    known
}

impl Tagged for RedisConnection {
    const KIND: Kind = Kind::RedisConnection;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self> {
        &mut decoder.redis
    }

    fn read(_tag: &str, f: &mut Fields<'_, '_>) -> Option<Self> {
        record!(f => RedisConnection {
            host: req("host"),
            port: req("port"),
            password: opt("password"),
            db: or("db"),
            sentinel_master: opt("sentinel-master-name"),
            retries: or("retries"),
            protocol: opt("protocol"),
        })
    }
}

impl Decode for ClientCredentials {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &CREDENTIALS, decoder)?;
        let f = &mut fields;
        let credentials = record!(f => ClientCredentials {
            key: opt("tls-client-key"),
            certificate: opt("tls-client-cert"),
            authorities: opt("tls-server-cert"),
            token: opt("auth-token"),
            token_refresh: opt("token-refresh-seconds"),
        })?;
        if credentials.key.is_some() != credentials.certificate.is_some() {
            f.error("`tls-client-key` and `tls-client-cert` go together: give both or none".to_owned());
            return None;
        }
        if credentials.token.is_none() {
            f.no_effect("token-refresh-seconds", "there is no `auth-token`");
        }
        Some(credentials)
    }
}

/// The keys that every tag for a server of the Remote Execution API has.
pub(super) fn remote(f: &mut Fields<'_, '_>) -> Option<Remote> {
    let url = url(f);
    let instance_name = f.opt("instance-name");
    let credentials = f.opt::<ClientCredentials>("credentials");
    let options = f.opt("channel-options");
    let retries = f.or("retries");
    let max_backoff = f.or("max-backoff");
    let request_timeout = f.opt("request-timeout");
    Some(Remote {
        url: url?,
        instance_name: instance_name?,
        credentials: credentials?.unwrap_or_default(),
        options: options?.unwrap_or_default(),
        retries: retries?,
        max_backoff: max_backoff?,
        request_timeout: request_timeout?,
    })
}

/// The server that a scheduler's log streams are made at; it is tried again as another server by default is.
impl Decode for Remote {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut fields = Fields::new(child, &LOG_STREAM, decoder)?;
        let f = &mut fields;
        let url = url(f);
        let credentials = f.opt::<ClientCredentials>("credentials");
        let options = f.opt("channel-options");
        let request_timeout = f.opt("request-timeout");
        Some(Self {
            url: url?,
            instance_name: None,
            credentials: credentials?.unwrap_or_default(),
            options: options?.unwrap_or_default(),
            retries: 3,
            max_backoff: Duration::from_secs(64),
            request_timeout: request_timeout?,
        })
    }
}

/// The `url` of a gRPC server.
pub(super) fn url(f: &mut Fields<'_, '_>) -> Option<String> {
    const SCHEMES: [&str; 5] = ["http://", "https://", "grpc://", "grpcs://", "unix:"];
    let url: String = f.req("url")?;
    let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_none_or(|rest| rest.trim_matches('/').is_empty()) {
        f.error_at(
            "url",
            format!("expected http://HOST:PORT, https://HOST:PORT or unix:PATH, found `{url}`"),
        );
        return None;
    }
    Some(url)
}
