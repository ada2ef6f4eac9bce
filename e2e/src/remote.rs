//! A gRPC client of ours, for what no client that is installed does on purpose: calls that are cut and go on.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use grid_proto::reapi::Digest;
use sha2::Digest as _;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

/// How long a call is made again while nobody takes it: as long as clients are patient.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// A connection through an ingress, with what runs the calls.
pub(crate) struct Remote {
    pub(crate) runtime: Runtime,
    pub(crate) channel: Channel,
}

impl Remote {
    /// Connects by TLS to `address` as the host `host`, which must have a certificate of `authority` (PEM).
    ///
    /// # Errors
    /// Where nobody answers there, or somebody else.
    pub(crate) fn connect(address: &str, host: &str, authority: &str) -> Result<Self> {
        let runtime = Runtime::new()?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name(host);
        let endpoint = Endpoint::from_shared(format!("https://{address}:443"))?
            .origin(format!("https://{host}").parse()?)
            .tls_config(tls)?
            .connect_timeout(Duration::from_secs(10));
        let channel = runtime.block_on(endpoint.connect()).with_context(|| format!("{host} at {address}"))?;
        Ok(Self { runtime, channel })
    }

    /// Connects without TLS to `address`, as soon as somebody listens there.
    ///
    /// # Errors
    /// Where the address is none.
    pub(crate) fn plain(address: &str) -> Result<Self> {
        let runtime = Runtime::new()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let within = runtime.enter();
        let channel = endpoint.connect_lazy();
        drop(within);
        Ok(Self { runtime, channel })
    }

    /// Makes a call again and again until somebody answers it.
    ///
    /// # Errors
    /// Where the answer is a refusal, or nobody gives one in time.
    pub(crate) fn retried<T>(&self, what: &str, call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T> {
        self.runtime.block_on(retried(what, call))
    }

    /// Asks again and again until the answer is what is waited for.
    ///
    /// # Errors
    /// Where a question is refused, or the answer does not come in time.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Result<T, Status>,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Result<T> {
        self.runtime.block_on(async {
            let end = Instant::now() + PATIENCE;
            loop {
                let answer = retried(what, &mut ask).await?;
                if is_it(&answer) {
                    return Ok(answer);
                }
                anyhow::ensure!(Instant::now() < end, "{what}: did not come within {} s", PATIENCE.as_secs());
                sleep(PAUSE).await;
            }
        })
    }
}

/// Makes a call again and again until somebody answers it.
///
/// # Errors
/// Where the answer is a refusal, or nobody gives one in time.
async fn retried<T>(what: &str, mut call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if was_cut(&status) && Instant::now() < end => sleep(PAUSE).await,
            Err(status) => bail!("{what}: {status}"),
        }
    }
}

/// Whether a call ended because its server or the way there went away.
pub(crate) fn was_cut(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

/// The digest of a blob.
pub(crate) fn digest(content: &[u8]) -> Digest {
    let hash = hex::encode(sha2::Sha256::digest(content));
    Digest { hash, size_bytes: i64::try_from(content.len()).unwrap_or(i64::MAX) }
}
