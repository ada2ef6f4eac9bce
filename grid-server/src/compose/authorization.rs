//! Who may call: the layer before all services.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use grid_cas::client::{Connection, ConnectionOptions, Patience};
use grid_config::ServerConfig;
use grid_config::model::{
    Algorithm, AuthorizationServer, Jwt, JwtKeys, Method, ServerCredentials, Service, Transport,
};
use grid_proto::buildgrid::quota_server;
use grid_proto::fleet::fleet_server;
use grid_rpc::auth::es512;
use grid_rpc::auth::headers::HeaderAuthenticator;
use grid_rpc::auth::jwks::{Keys, Published};
use grid_rpc::auth::jwt::{JwtAuthenticator, Signature};
use grid_rpc::auth::layer::AuthOptions;
use grid_rpc::auth::server::AuthServer;
use grid_rpc::auth::tls::TlsAuthenticator;
use grid_rpc::auth::tokens::TokenFile;
use grid_rpc::auth::{Acl, AuthLayer, Authenticator, Authorizer, Followed, Policy, Rates};
use jsonwebtoken::DecodingKey;

use super::ComposeError;
use super::remotes::TOKEN_REFRESH;

/// The services that are administrators'.
const ADMINISTRATION: &[&str] = &[fleet_server::SERVICE_NAME, quota_server::SERVICE_NAME];

/// The layer that a configuration asks for.
pub(crate) fn layer(config: &ServerConfig) -> Result<AuthLayer, ComposeError> {
    let authorization = &config.authorization;
    let (mut authenticators, mut authorizer): (Vec<Arc<dyn Authenticator>>, _) = (Vec::new(), None);
    match &authorization.method {
        // Mutual TLS tells who calls where nothing else is asked for.
        Method::None if asks_clients(config) => authenticators.push(Arc::new(TlsAuthenticator)),
        Method::None => {}
        Method::Headers => authenticators.push(Arc::new(HeaderAuthenticator)),
        Method::Jwt(jwt) => authenticators.push(Arc::new(jwt_authenticator(jwt)?)),
        Method::Server(server) => authorizer = Some(auth_server(server)?),
    }
    let acl = authorization.acl.as_deref().map(acl).transpose()?;
    let policy = Policy {
        acl,
        unauthenticated_instances: authorization.open_instances.iter().cloned().collect(),
        execution_instances: execution_instances(config),
        cache_writers: authorization.cache_writers.iter().cloned().collect(),
    };
    if !authenticators.is_empty() || authorizer.is_some() {
        tell_of_open_bots(config);
    }
    let token = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| Arc::new(TokenFile::new(path)));
    Ok(AuthLayer::new(AuthOptions {
        authenticators,
        authorizer,
        anonymous: matches!(authorization.method, Method::None),
        policy: Arc::new(policy),
        allow_localhost: authorization.allow_localhost,
        worker_token: token(&config.grid_credentials.worker_token),
        admin_token: token(&config.grid_credentials.admin_token),
        admin_services: ADMINISTRATION,
        rates: rates(&config.rates),
    }))
}

fn rates(rates: &grid_config::model::Rates) -> Option<Arc<Rates>> {
    let limited = rates.per_subject.or(rates.per_connection);
    limited.map(|_| Arc::new(Rates::new(rates.per_subject, rates.per_connection)))
}

/// Where clients must say who they are and workers need nothing more, each client could take others' work.
fn tell_of_open_bots(config: &ServerConfig) {
    let mut services = config.instances.iter().flat_map(|instance| &instance.services);
    let has_bots = services.any(|service| matches!(service.value, Service::Bots(_)));
    if has_bots && config.grid_credentials.worker_token.is_none() && config.authorization.acl.is_none() {
        tracing::warn!(
            "every client that may call may also register as a worker: keep them apart by grid-credentials.worker-token or an ACL"
        );
    }
}

/// Whether a client must show a certificate on any address.
fn asks_clients(config: &ServerConfig) -> bool {
    let asks = |transport: &Transport| match transport {
        Transport::Tls(ServerCredentials { client_authorities, .. }) => client_authorities.is_some(),
        Transport::Insecure | Transport::DefaultTls => false,
    };
    config.channels.iter().any(|channel| asks(&channel.transport))
}

fn auth_server(server: &AuthorizationServer) -> Result<Arc<dyn Authorizer>, ComposeError> {
    let place = "authorization (method `server`)".to_owned();
    let credentials = &server.credentials;
    let connection = Connection::new(ConnectionOptions {
        tls_ca: credentials.authorities.clone(),
        tls_identity: credentials.certificate.clone().zip(credentials.key.clone()),
        token_file: credentials.token.clone(),
        token_refresh: credentials.token_refresh.unwrap_or(TOKEN_REFRESH),
        patience: Patience { retries: 0, ..Patience::default() },
        name: format!("{place} at {}", server.url).into(),
        ..ConnectionOptions::new(&server.url, "")
    });
    let connection = connection.map_err(|source| ComposeError::Store { place, source })?;
    Ok(Arc::new(AuthServer::new(&connection, server.request_timeout)))
}

fn execution_instances(config: &ServerConfig) -> HashSet<String> {
    let executes =
        |service: &Service| matches!(service, Service::Execution(execution) if execution.endpoints.execution);
    config
        .instances
        .iter()
        .filter(|instance| instance.services.iter().any(|service| executes(&service.value)))
        .flat_map(|instance| instance.names.iter().map(|name| name.as_str().to_owned()))
        .collect()
}

fn acl(path: &Path) -> Result<Followed<Acl>, ComposeError> {
    let read = |content: &[u8]| {
        let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
        let acl = Acl::parse(text).map_err(|error| error.to_string())?;
        if let Some(narrowed) = acl.narrowed() {
            tracing::warn!("{narrowed}");
        }
        Ok(acl)
    };
    Followed::new(path, read).map_err(|what| ComposeError::Contradiction {
        place: format!("authorization.acl-config ({})", path.display()),
        what,
    })
}

fn jwt_authenticator(jwt: &Jwt) -> Result<JwtAuthenticator, ComposeError> {
    let keys = match &jwt.keys {
        JwtKeys::File(path) => Keys::File(Arc::new(key_file(path, jwt.algorithm)?)),
        JwtKeys::Fetched { urls, every } => {
            let wrong = |error: grid_rpc::RpcError| ComposeError::Contradiction {
                place: "authorization.jwks-url".to_owned(),
                what: error.to_string(),
            };
            let published = Arc::new(Published::new(urls.clone()).map_err(wrong)?);
            tokio::spawn(Published::refresh(Arc::downgrade(&published), *every));
            Keys::Published(published)
        }
    };
    Ok(JwtAuthenticator::new(keys, signature(jwt.algorithm), &jwt.audiences))
}

fn key_file(path: &Path, algorithm: Algorithm) -> Result<Followed<DecodingKey>, ComposeError> {
    let read = move |content: &[u8]| {
        key(content, algorithm).map_err(|error| format!("is no key for the algorithm: {error}"))
    };
    Followed::new(path, read).map_err(|what| ComposeError::Contradiction {
        place: format!("authorization.secret ({})", path.display()),
        what,
    })
}

fn key(content: &[u8], algorithm: Algorithm) -> jsonwebtoken::errors::Result<DecodingKey> {
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            Ok(DecodingKey::from_secret(content.trim_ascii()))
        }
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => DecodingKey::from_rsa_pem(content),
        Algorithm::Es256 | Algorithm::Es384 => DecodingKey::from_ec_pem(content),
        Algorithm::Es512 => es512::key(content),
    }
}

const fn signature(algorithm: Algorithm) -> Signature {
    Signature::By(match algorithm {
        Algorithm::Es512 => return Signature::Es512,
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
    })
}
