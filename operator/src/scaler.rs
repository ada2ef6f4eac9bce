//! Where KEDA asks for the demand for pools; what it is told is the controllers' `fleet`'s to say.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use grid_operator_controllers::fleet::{Fleets, Scaler};
use grid_proto::externalscaler::external_scaler_server::ExternalScalerServer;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`; nothing where there is no address.
pub(crate) async fn serve(
    address: Option<SocketAddr>,
    fleets: Arc<Fleets>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = address else { return Ok(()) };
    tonic::transport::Server::builder()
        .add_service(ExternalScalerServer::new(Scaler::new(fleets)))
        .serve_with_shutdown(address, shutdown.cancelled_owned())
        .await
        .with_context(|| format!("--scaler {address} can't be used"))
}
