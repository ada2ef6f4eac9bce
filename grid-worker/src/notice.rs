//! Notice that the machine is about to go: a file that appears, or what a metadata service says.
//!
//! Clouds give it in different ways; agents on the node turn it into a file of a shared volume, and some clouds answer
//! a plain HTTP request with it. Neighbour: `work` has the worker leave then, as for SIGTERM, and tells the grid that
//! the machine goes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::watch::Watch;

/// How often a metadata service is asked: nothing announces its news. The shortest notice of a cloud is 30 s.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long one answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;
/// What services answer with while all is well, besides 404.
const ALL_IS_WELL: [&str; 3] = ["", "FALSE", "NONE"];

/// A file that is waited for.
#[derive(Debug)]
pub struct Notice {
    file: PathBuf,
    watch: Watch,
}

impl Notice {
    /// Watches for `file`, whose directory must be there.
    ///
    /// # Errors
    /// Where it isn't.
    pub fn new(file: &Path) -> io::Result<Self> {
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self { file: file.to_owned(), watch: Watch::new(directory)? })
    }

    /// Waits until the file is there.
    pub async fn given(&self) {
        while !self.file.exists() {
            if let Err(error) = self.watch.changed().await {
                tracing::error!(%error, file = %self.file.display(), "can't wait for the notice any longer");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A metadata service that is asked.
#[derive(Debug)]
pub struct Service {
    url: Uri,
    header: Option<(HeaderName, HeaderValue)>,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Service {
    /// A service that answers at `url`, with a header that it may ask for.
    #[must_use]
    pub fn new(url: Uri, header: Option<(HeaderName, HeaderValue)>) -> Self {
        Self { url, header, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Waits until it says that the machine goes. A service that is away says nothing.
    pub async fn given(&self) {
        let mut turn = tokio::time::interval(INTERVAL);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            match tokio::time::timeout(ANSWER_PATIENCE, self.ask()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(url = %self.url, "asking for a notice of preemption: {error:#}");
                }
                Err(_) => tracing::warn!(url = %self.url, "asking for a notice of preemption: no answer"),
            }
        }
    }

    /// Whether the machine goes.
    async fn ask(&self) -> anyhow::Result<bool> {
        let mut request = Request::get(&self.url).body(Empty::new())?;
        if let Some((name, value)) = &self.header {
            request.headers_mut().insert(name, value.clone());
        }
        let answer = self.client.request(request).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => {
                let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
                let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
                let said = String::from_utf8_lossy(&body).trim().to_uppercase();
                Ok(!ALL_IS_WELL.contains(&said.as_str()))
            }
            status => anyhow::bail!("the service answered {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_comes_in_any_way_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notice");
        let notice = Notice::new(&file).unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, notice.given()).await.is_err());
        std::fs::write(dir.path().join("other"), "").unwrap();
        std::fs::rename(dir.path().join("other"), &file).unwrap();
        notice.given().await;
        Notice::new(&file).unwrap().given().await;
        assert!(Notice::new(&dir.path().join("nowhere/notice")).is_err());
    }
}
