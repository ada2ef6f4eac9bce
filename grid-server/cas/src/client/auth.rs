//! [`Auth`]: puts the bearer token of a file into requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The token, or nothing where no file is configured. Its `Debug` does not show it.
#[derive(Clone)]
pub struct Auth {
    file: Option<Arc<TokenFile>>,
}

struct TokenFile {
    path: PathBuf,
    refresh: Duration,
    current: Mutex<Option<(Instant, MetadataValue<Ascii>)>>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("file", &self.file.as_ref().map(|file| &file.path)).finish()
    }
}

impl Auth {
    pub(super) fn new(path: Option<PathBuf>, refresh: Duration) -> Self {
        let file = path.map(|path| Arc::new(TokenFile { path, refresh, current: Mutex::default() }));
        Self { file }
    }
}

impl TokenFile {
    /// The file is small and local: reading it once a minute doesn't hold anybody up.
    fn token(&self) -> Result<MetadataValue<Ascii>, String> {
        let mut current = self.current.lock();
        if let Some((read, token)) = &*current
            && read.elapsed() < self.refresh
        {
            return Ok(token.clone());
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        // Further lines are tokens that are let in besides.
        let token = text.trim().lines().next().unwrap_or_default().trim_end();
        let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        let mut token = value.map_err(|_| "it is not plain text".to_owned())?;
        token.set_sensitive(true);
        *current = Some((Instant::now(), token.clone()));
        Ok(token)
    }
}

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.file {
            let token = file.token().map_err(|error| {
                Status::unauthenticated(format!("token file {}: {error}", file.path.display()))
            })?;
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}
