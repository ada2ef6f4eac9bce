//! [`Origin`]: fetches assets from where they come from, by http and https.
//!
//! What comes is put into a file without a name first: only at its end its size and digest are known, and whether it is
//! what was asked for. Redirects are followed here and not by the HTTP client, so that each host is judged, and a
//! header that is meant for one host never reaches another.

mod addresses;
mod download;
mod error;
mod turns;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use reqwest::{Client, Proxy, Response, Url, redirect};

pub use addresses::Hosts;
pub(super) use download::Downloaded;
pub use error::OriginError;

use super::checksum::Hashing;
use crate::RpcError;
use addresses::{Guarded, is_internal};
use turns::Turns;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an origin may send nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a URI is tried whose origin is in trouble, and how long is waited first.
const TRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(250);

/// What may be fetched.
#[derive(Clone, Debug)]
pub struct OriginOptions {
    /// The hosts that may be asked; any where it is empty.
    pub hosts: Hosts,
    /// The hosts that may have an internal address.
    pub internal_hosts: Hosts,
    /// The largest asset, in bytes.
    pub max_bytes: u64,
    /// A folder for what is on its way.
    pub folder: PathBuf,
    /// The HTTP proxy through which all is fetched; `None` for the direct way. It resolves the hosts' names, and so answers for
    /// internal addresses behind them.
    pub proxy: Option<String>,
}

/// Fetches from origins.
#[derive(Debug)]
pub struct Origin {
    client: Client,
    hosts: Hosts,
    internal_hosts: Arc<Hosts>,
    max_bytes: u64,
    folder: PathBuf,
    turns: Turns,
}

impl Origin {
    /// Fetches what `options` allow.
    ///
    /// # Errors
    /// [`RpcError::Internal`] where no HTTP client can be made.
    pub fn new(options: OriginOptions) -> Result<Self, RpcError> {
        let none = |error: reqwest::Error| RpcError::Internal(format!("no HTTP client for assets: {error}"));
        let internal_hosts = Arc::new(options.internal_hosts);
        let builder = Client::builder()
            .user_agent(concat!("grid-server/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        let client = match &options.proxy {
            // Only its own name is resolved here, and it may well be inside the network.
            Some(proxy) => builder.proxy(Proxy::all(proxy).map_err(none)?),
            // One that the environment names would resolve names itself, and so reach what is guarded here.
            None => builder.no_proxy().dns_resolver(Guarded { internal_hosts: Arc::clone(&internal_hosts) }),
        };
        let client = client.build().map_err(none)?;
        Ok(Self {
            client,
            hosts: options.hosts,
            internal_hosts,
            max_bytes: options.max_bytes,
            folder: options.folder,
            turns: Turns::new(),
        })
    }

    /// Whether a URI is one that this can fetch at all.
    pub(super) fn serves(uri: &str) -> bool {
        Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    }

    /// Fetches one URI; `hashing` makes what hashes its content, anew for each try.
    pub(super) async fn fetch(
        &self,
        uri: &str,
        headers: &HeaderMap,
        hashing: impl Fn() -> Hashing,
    ) -> Result<Downloaded, OriginError> {
        let url = Url::parse(uri).map_err(|error| OriginError::Uri(error.to_string()))?;
        let _turn = self.turns.take(url.host_str().unwrap_or_default()).await?;
        let mut tried = 0;
        loop {
            match self.attempt(&url, headers, hashing()).await {
                Err(error) if error.is_transient() && tried + 1 < TRIES => {
                    tracing::debug!(%error, "fetching an asset again");
                    tokio::time::sleep(BACKOFF * 4_u32.pow(tried)).await;
                    tried += 1;
                }
                done => return done,
            }
        }
    }

    async fn attempt(
        &self,
        url: &Url,
        headers: &HeaderMap,
        hashing: Hashing,
    ) -> Result<Downloaded, OriginError> {
        let response = self.follow(url.clone(), headers).await?;
        download::receive(response, hashing, self.max_bytes, &self.folder).await
    }

    /// Asks for a URL, and for those that it leads to; gives the answer that holds the content.
    async fn follow(&self, mut url: Url, headers: &HeaderMap) -> Result<Response, OriginError> {
        let first = url.origin();
        for _ in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            let mut request = self.client.get(url.clone());
            if url.origin() == first {
                request = request.headers(headers.clone());
            }
            let response = request.send().await?;
            if !is_redirect(response.status()) {
                return accept(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| OriginError::Answer("a redirect to nowhere".into()))?;
            url = url.join(location).map_err(|error| OriginError::Uri(error.to_string()))?;
        }
        Err(OriginError::Answer(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn check(&self, url: &Url) -> Result<(), OriginError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OriginError::Uri(format!("the scheme {} is not fetched", url.scheme())));
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if !self.hosts.is_empty() && !self.hosts.contain(host) {
            return Err(OriginError::Host(host.to_owned()));
        }
        // A name's addresses are judged when it is resolved; a literal address never is.
        let internal = host.parse::<IpAddr>().is_ok_and(is_internal);
        if internal && !self.internal_hosts.contain(host) {
            return Err(OriginError::Internal(host.to_owned()));
        }
        Ok(())
    }
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn accept(response: Response) -> Result<Response, OriginError> {
    let status = response.status();
    match status.as_u16() {
        200 => Ok(response),
        401 | 403 | 407 => Err(OriginError::Denied(status.as_u16())),
        404 | 410 => Err(OriginError::NotFound(status.as_u16())),
        408 | 425 | 429 | 500.. => Err(OriginError::Trouble(format!("HTTP status {status}"))),
        _ => Err(OriginError::Answer(format!("HTTP status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn all_is_fetched_through_the_proxy_that_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = connection.read(&mut asked).await.unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfile").await.unwrap();
            String::from_utf8(asked[..length].to_vec()).unwrap()
        });
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::new(OriginOptions {
            hosts: Hosts::default(),
            internal_hosts: Hosts::default(),
            max_bytes: 100,
            folder: folder.path().to_owned(),
            proxy: Some(format!("http://{address}")),
        });
        let hashing = || Hashing::new(DigestFunction::Sha256, None);
        // The name is nobody's: only the proxy could know it.
        let uri = "http://outside.invalid/file";
        let fetched = origin.unwrap().fetch(uri, &HeaderMap::new(), hashing).await.unwrap();
        assert_eq!(fetched.digest, grid_core::Digest::of(DigestFunction::Sha256, b"file"));
        assert!(proxy.await.unwrap().starts_with("GET http://outside.invalid/file HTTP/1.1"));
    }
}
