//! Connections to the servers whose services' health is told here (`health-of`).

use grid_cas::client::{Connection, ConnectionOptions};
use grid_config::ServerConfig;

use super::ComposeError;
use super::databases::address;
use super::remotes::TOKEN_REFRESH;
use crate::elsewhere::Elsewhere;

/// Connects to them. Must be called within a runtime.
pub(crate) fn beside(config: &ServerConfig) -> Result<Vec<Elsewhere>, ComposeError> {
    let connect = |other: &grid_config::model::HealthOf| {
        let credentials = &other.credentials;
        let options = ConnectionOptions {
            tls_ca: credentials.authorities.clone(),
            tls_identity: credentials.certificate.clone().zip(credentials.key.clone()),
            token_file: credentials.token.clone(),
            token_refresh: credentials.token_refresh.unwrap_or(TOKEN_REFRESH),
            name: format!("health-of at {}", address(&other.url)).into(),
            ..ConnectionOptions::new(&other.url, "")
        };
        let connection = Connection::new(options)
            .map_err(|source| ComposeError::Store { place: "health-of".to_owned(), source })?;
        Ok(Elsewhere { channel: connection.channel(), services: other.services.clone() })
    };
    config.health_of.iter().map(connect).collect()
}
