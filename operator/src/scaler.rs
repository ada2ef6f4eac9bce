//! Where KEDA asks for the demand for pools; what it is told is the controllers' `fleet`'s to say.
//!
//! Only the replica that leads listens: another one knows of no demand, and KEDA, which keeps a connection that works, would
//! stay with it.

use std::net::SocketAddr;
use std::sync::Arc;

use grid_operator_controllers::fleet::{Fleets, Scaler};
use grid_proto::externalscaler::external_scaler_server::ExternalScalerServer;
use tokio_util::sync::CancellationToken;

/// Serves until `stop`; nothing where there is no address.
pub(crate) async fn serve(address: Option<SocketAddr>, fleets: Arc<Fleets>, stop: CancellationToken) {
    let Some(address) = address else { return };
    let served = tonic::transport::Server::builder()
        .add_service(ExternalScalerServer::new(Scaler::new(fleets)))
        .serve_with_shutdown(address, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "--scaler {address} can't be used: KEDA is told nothing");
    }
}
