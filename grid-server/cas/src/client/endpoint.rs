//! From an address to a channel: TLS, keep-alive, and all addresses of a host's name. Neighbour: `tls` reads the files.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::sync::mpsc;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};

use super::tls::TlsFiles;
use super::{ConnectionOptions, Tuning};
use crate::StoreError;

/// How often a host's addresses, and the files of TLS, are looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(15);
/// How soon again where that failed.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An address in its parts.
#[derive(Clone, Debug)]
struct Target {
    host: String,
    port: u16,
    tls: Option<TlsFiles>,
    tuning: Tuning,
}

pub(super) fn channel(options: &ConnectionOptions) -> Result<Channel, StoreError> {
    let refuse = |message: String| StoreError::Refused { backend: Arc::clone(&options.name), message };
    if options.url.starts_with("unix:") {
        let endpoint = Endpoint::from_shared(options.url.clone());
        let endpoint = endpoint.map_err(|error| refuse(format!("url: {error}")))?;
        return Ok(tuned(endpoint, &options.tuning).map_err(refuse)?.connect_lazy());
    }
    let target = target(options).map_err(refuse)?;
    // Made for every kind of target: so what is wrong with the options is said at once.
    let endpoint = target.endpoint(&format!("{}:{}", target.host, target.port)).map_err(refuse)?;
    let is_address = target.host.parse::<std::net::IpAddr>().is_ok() || target.host.starts_with('[');
    let can_change = target.tls.as_ref().is_some_and(TlsFiles::has_files);
    if (is_address || options.tuning.one_address) && !can_change {
        return Ok(endpoint.connect_lazy());
    }
    let (channel, changes) = Channel::balance_channel(64);
    tokio::spawn(follow(target, changes));
    Ok(channel)
}

fn target(options: &ConnectionOptions) -> Result<Target, String> {
    let form = "expected http(s)://host:port, grpc(s)://host:port or unix:path";
    let uri: Uri = options.url.parse().map_err(|error| format!("url: {error}; {form}"))?;
    let secure = match uri.scheme_str() {
        Some("http" | "grpc") => false,
        Some("https" | "grpcs") => true,
        _ => return Err(format!("url {:?}: {form}", options.url)),
    };
    let host = uri.host().ok_or_else(|| format!("url {:?} has no host; {form}", options.url))?.to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tls = if secure { Some(TlsFiles::read(options, &host)?) } else { None };
    if tls.is_none() && (options.tls_ca.is_some() || options.tls_identity.is_some()) {
        return Err(format!("url {:?} is not secure, but TLS files are given; write https://", options.url));
    }
    Ok(Target { host, port, tls, tuning: options.tuning.clone() })
}

impl Target {
    /// The endpoint at `authority`, spoken to under the target's own name.
    fn endpoint(&self, authority: &str) -> Result<Endpoint, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let describe = |error: tonic::transport::Error| format!("{error:?}");
        let named = format!("{}:{}", self.host, self.port);
        let named = self.tuning.authority.as_deref().unwrap_or(&named);
        let origin: Uri =
            format!("{scheme}://{named}").parse().map_err(|error| format!("{named}: {error}"))?;
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}")).map_err(describe)?;
        let endpoint = tuned(endpoint, &self.tuning)?.origin(origin);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.config()).map_err(describe),
            None => Ok(endpoint),
        }
    }

    /// Takes up files of TLS that changed, and whether there were any. Files that can't be used leave the last ones in force.
    fn renew(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        let renewed = match tls.renewed() {
            Ok(None) => return false,
            Ok(Some(renewed)) => {
                let renewed = Self { tls: Some(renewed), ..self.clone() };
                renewed.endpoint(&format!("{}:{}", self.host, self.port)).map(|_| renewed)
            }
            Err(error) => Err(error),
        };
        match renewed {
            Ok(renewed) => {
                tracing::info!(host = self.host, "TLS files were read again");
                *self = renewed;
                true
            }
            Err(error) => {
                tracing::error!(
                    host = self.host,
                    error,
                    "TLS files changed and can't be used; the last ones stay"
                );
                false
            }
        }
    }

    /// The addresses to use of those that were found: all, or one that stays as long as it is there.
    fn chosen(&self, known: &HashSet<SocketAddr>, found: HashSet<SocketAddr>) -> HashSet<SocketAddr> {
        if !self.tuning.one_address {
            return found;
        }
        let kept = found.intersection(known).min().or_else(|| found.iter().min());
        kept.copied().into_iter().collect()
    }
}

fn tuned(endpoint: Endpoint, tuning: &Tuning) -> Result<Endpoint, String> {
    tuning.apply(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

/// Keeps the channel's endpoints the same as the host's addresses, until the channel is gone; those whose TLS files
/// changed are made anew, and calls on the old connections end there. A look-up that fails changes nothing; while there is
/// no address at all, calls wait.
async fn follow(mut target: Target, changes: mpsc::Sender<Change<SocketAddr, Endpoint>>) {
    let mut known: HashSet<SocketAddr> = HashSet::new();
    loop {
        let host = target.host.trim_matches(['[', ']']).to_owned();
        let pause = match tokio::net::lookup_host((host.as_str(), target.port)).await {
            Ok(found) => {
                let found = target.chosen(&known, found.collect());
                let is_renewed = target.renew();
                if update(&target, &changes, &known, &found, is_renewed).await.is_err() {
                    return;
                }
                known = found;
                LOOK_UP_EVERY
            }
            Err(error) => {
                tracing::warn!(host, %error, "host not found");
                LOOK_UP_AGAIN
            }
        };
        tokio::select! {
            () = changes.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tells the channel what changed, of all addresses where TLS is renewed; fails where it is gone.
async fn update(
    target: &Target,
    changes: &mpsc::Sender<Change<SocketAddr, Endpoint>>,
    known: &HashSet<SocketAddr>,
    found: &HashSet<SocketAddr>,
    is_renewed: bool,
) -> Result<(), ()> {
    for address in found.iter().filter(|address| is_renewed || !known.contains(*address)) {
        match target.endpoint(&address.to_string()) {
            Ok(endpoint) => changes.send(Change::Insert(*address, endpoint)).await.map_err(drop)?,
            Err(error) => tracing::error!(%address, error, "address can't be used"),
        }
    }
    for address in known.difference(found) {
        changes.send(Change::Remove(*address)).await.map_err(drop)?;
    }
    Ok(())
}
