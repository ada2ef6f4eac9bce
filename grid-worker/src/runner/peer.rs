//! Who may call the runner: the worker's user, as the kernel tells it (`SO_PEERCRED`).
//!
//! Commands run as the runner's own user and see the socket; a command that could call the runner could run
//! commands that outlive it. Neighbour: `serve` hands the admitted connections to the gRPC server.

use tokio::net::UnixStream;

/// The users that are admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    worker: u32,
}

impl Admission {
    pub(super) const fn of(worker: u32) -> Self {
        Self { worker }
    }

    /// Whether the process at the other end may call.
    pub(super) fn admits(self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.worker => true,
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), pid = ?peer.pid(), expected = self.worker, "refused a caller");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "refused a caller that the kernel doesn't name");
                false
            }
        }
    }
}
