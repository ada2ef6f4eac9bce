//! The forms in which a server's address may be given.

use std::path::PathBuf;

use http::Uri;
use http::uri::Scheme;

use crate::exit::Failure;

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host and port.
    Tcp {
        /// Name or IP address.
        host: String,
        /// TCP port.
        port: u16,
        /// Whether to speak TLS.
        secure: bool,
    },
    /// A socket of this machine.
    Unix(PathBuf),
}

impl Address {
    /// Parses `http://`, `grpc://`, `https://`, `grpcs://` (ports 50051 and 443 unless given) and `unix:`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Unix(path.into()));
        }
        let wrong = || {
            let forms = "http(s)://HOST:PORT, grpc(s)://HOST:PORT or unix:PATH";
            Failure::Usage(format!("--remote {text:?}: expected {forms}"))
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("http" | "grpc") => false,
            Some("https" | "grpcs") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let rest = authority.strip_prefix(host).ok_or_else(wrong)?;
        if !rest.is_empty() && uri.port_u16().is_none() {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 50051 });
        Ok(Self::Tcp { host: host.to_owned(), port, secure })
    }

    /// What requests give as their scheme and authority.
    pub(crate) fn origin(&self) -> Result<Uri, http::Error> {
        match self {
            Self::Unix(_) => {
                Uri::builder().scheme(Scheme::HTTP).authority("localhost").path_and_query("/").build()
            }
            Self::Tcp { host, port, secure } => {
                let scheme = if *secure { Scheme::HTTPS } else { Scheme::HTTP };
                Uri::builder().scheme(scheme).authority(format!("{host}:{port}")).path_and_query("/").build()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, secure: bool) -> Address {
        Address::Tcp { host: host.to_owned(), port, secure }
    }

    #[test]
    fn each_form_is_understood() {
        let parse = |text| Address::parse(text).unwrap();
        assert_eq!(parse("http://localhost:50051"), tcp("localhost", 50051, false));
        assert_eq!(parse("grpc://cas"), tcp("cas", 50051, false));
        assert_eq!(parse("https://grid.example.org"), tcp("grid.example.org", 443, true));
        assert_eq!(parse("grpcs://[::1]:7/"), tcp("[::1]", 7, true));
        assert_eq!(parse("unix:///run/grid.sock"), Address::Unix("/run/grid.sock".into()));
        assert_eq!(parse("unix:grid.sock"), Address::Unix("grid.sock".into()));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost:50051",
            "ftp://host:1",
            "http://",
            "http://host:1/path",
            "http://host:99999",
            "http://user@host:1",
        ] {
            assert!(matches!(Address::parse(text), Err(Failure::Usage(_))), "{text}");
        }
    }
}
