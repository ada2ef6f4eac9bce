//! [`TlsFiles`]: TLS from files that may be replaced while connections go on. Neighbour: `endpoint` asks it again and again.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::ConnectionOptions;

/// The files of a connection, and what was last read of them.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    name: String,
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    stamps: Vec<Option<SystemTime>>,
    config: ClientTlsConfig,
}

impl TlsFiles {
    /// Reads the files for a connection to `host`.
    ///
    /// # Errors
    /// Naming the file that can't be read.
    pub(super) fn read(options: &ConnectionOptions, host: &str) -> Result<Self, String> {
        let name = options.tuning.tls_name.as_deref().unwrap_or_else(|| host.trim_matches(['[', ']']));
        let mut files = Self {
            name: name.to_owned(),
            authority: options.tls_ca.clone(),
            identity: options.tls_identity.clone(),
            stamps: vec![],
            config: ClientTlsConfig::new(),
        };
        files.stamps = files.stamps();
        files.config = files.load()?;
        Ok(files)
    }

    /// What was last read.
    pub(super) fn config(&self) -> ClientTlsConfig {
        self.config.clone()
    }

    /// Whether there is anything that could change.
    pub(super) fn has_files(&self) -> bool {
        self.authority.is_some() || self.identity.is_some()
    }

    /// The same of the files as they are now, where one of them changed.
    ///
    /// # Errors
    /// As [`TlsFiles::read`].
    pub(super) fn renewed(&mut self) -> Result<Option<Self>, String> {
        let stamps = self.stamps();
        if stamps == self.stamps {
            return Ok(None);
        }
        self.stamps = stamps;
        Ok(Some(Self { config: self.load()?, ..self.clone() }))
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.authority.iter().chain(identity)
    }

    fn stamps(&self) -> Vec<Option<SystemTime>> {
        let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        self.paths().map(modified).collect()
    }

    fn load(&self) -> Result<ClientTlsConfig, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut tls = ClientTlsConfig::new().domain_name(&self.name);
        tls = match &self.authority {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_are_read_again_once_after_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.crt");
        let put = |age: u64| {
            std::fs::write(&authority, "a certificate").unwrap();
            let file = std::fs::File::options().write(true).open(&authority).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        put(20);
        let options = ConnectionOptions {
            tls_ca: Some(authority.clone()),
            ..ConnectionOptions::new("https://cas.example:443", "")
        };
        let mut files = TlsFiles::read(&options, "cas.example").unwrap();
        assert!(files.has_files() && files.renewed().unwrap().is_none());
        put(10);
        assert!(files.renewed().unwrap().is_some());
        assert!(files.renewed().unwrap().is_none());
        std::fs::remove_file(&authority).unwrap();
        assert!(files.renewed().unwrap_err().contains("ca.crt"));
        assert!(files.renewed().unwrap().is_none(), "it is said once");
        put(0);
        assert!(files.renewed().unwrap().is_some());
    }
}
