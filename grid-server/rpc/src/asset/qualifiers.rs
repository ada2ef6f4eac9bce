//! [`Qualifiers`]: what narrows a URI, read once.
//!
//! Those that fetching understands are taken apart; all of them together tell pushed assets apart. A header's value
//! may be a credential, so only its hash is ever remembered.

use grid_core::{Digest, DigestFunction};
use grid_proto::asset::Qualifier;
use http::{HeaderName, HeaderValue};

use super::checksum::Checksum;
use crate::RpcError;

/// The qualifier that pins the content.
pub(super) const CHECKSUM: &str = "checksum.sri";
/// A header for every URI: `http_header:NAME`.
const HEADER: &str = "http_header:";
/// A header for the URI at an index: `http_header_url:INDEX:NAME`.
const HEADER_URL: &str = "http_header_url:";
/// Qualifiers that tell versions of an asset apart and change nothing about how it is fetched.
const NAMES_ONLY: [&str; 2] = ["bazel.canonical_id", "resource_type"];
const MAX_QUALIFIERS: usize = 100;
const MAX_LENGTH: usize = 16 << 10;

/// The qualifiers of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Qualifiers {
    pub(super) checksum: Option<Checksum>,
    headers: Vec<Header>,
    /// Names that fetching from an origin does not understand.
    unsupported: Vec<String>,
    /// Names and values as assets are remembered by.
    pub(super) known_by: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Header {
    /// The URI that it is for; all where it is `None`.
    uri: Option<usize>,
    name: HeaderName,
    value: HeaderValue,
}

impl Qualifiers {
    /// Reads a request's qualifiers; a name may be there once.
    pub(super) fn parse(given: &[Qualifier]) -> Result<Self, RpcError> {
        if given.len() > MAX_QUALIFIERS {
            let problem = format!("are {}; at most {MAX_QUALIFIERS} are taken", given.len());
            return Err(RpcError::field("qualifiers", problem));
        }
        let mut read = Self::default();
        for (index, Qualifier { name, value }) in given.iter().enumerate() {
            if given.iter().take(index).any(|earlier| earlier.name == *name) {
                return Err(RpcError::field("qualifiers.name", format!("{name:?} is there twice")));
            }
            if name.is_empty() || name.len() + value.len() > MAX_LENGTH {
                let problem = format!("must be set, and with its value of at most {MAX_LENGTH} bytes");
                return Err(RpcError::field("qualifiers.name", problem));
            }
            read.take(name, value)?;
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), RpcError> {
        let mut remembered = value.to_owned();
        if name == CHECKSUM {
            self.checksum = Some(Checksum::parse(value)?);
        } else if let Some(header) = header(name, value)? {
            self.headers.extend(header.permitted());
            remembered = Digest::of(DigestFunction::Sha256, value.as_bytes()).hash_hex();
        } else if !NAMES_ONLY.contains(&name) {
            self.unsupported.push(name.to_owned());
        }
        self.known_by.push((name.to_owned(), remembered));
        Ok(())
    }

    /// The headers to fetch the URI at `index` with.
    pub(super) fn headers(&self, index: usize) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let fits = move |header: &&Header| header.uri.is_none_or(|uri| uri == index);
        self.headers.iter().filter(fits).map(|header| (&header.name, &header.value))
    }

    /// Refuses what fetching from an origin does not understand (Remote Asset API, `FetchBlob`).
    pub(super) fn fetchable(&self) -> Result<(), RpcError> {
        match self.unsupported.first() {
            None => Ok(()),
            Some(name) => Err(RpcError::field("qualifiers.name", format!("{name:?} not supported"))),
        }
    }
}

fn header(name: &str, value: &str) -> Result<Option<Header>, RpcError> {
    let (uri, header) = if let Some(header) = name.strip_prefix(HEADER) {
        (None, header)
    } else if let Some(rest) = name.strip_prefix(HEADER_URL) {
        let (index, header) = rest.split_once(':').unwrap_or((rest, ""));
        let index =
            index.parse().map_err(|_| wrong(name, "names no URI; expected http_header_url:INDEX:NAME"))?;
        (Some(index), header)
    } else {
        return Ok(None);
    };
    let name_of_header = header.parse().map_err(|_| wrong(name, "names no HTTP header"))?;
    let mut value: HeaderValue = value.parse().map_err(|_| wrong(name, "has no HTTP header's value"))?;
    value.set_sensitive(true);
    Ok(Some(Header { uri, name: name_of_header, value }))
}

fn wrong(name: &str, problem: &str) -> RpcError {
    RpcError::field("qualifiers.name", format!("{name:?} {problem}"))
}

impl Header {
    /// Headers that belong to the connection are the server's own to set.
    fn permitted(self) -> Option<Self> {
        const OWN: [&str; 9] = [
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "range",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        (!OWN.contains(&self.name.as_str()) && !self.name.as_str().starts_with("proxy-")).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Qualifiers, RpcError> {
        let qualifier =
            |(name, value): &(&str, &str)| Qualifier { name: (*name).into(), value: (*value).into() };
        Qualifiers::parse(&given.iter().map(qualifier).collect::<Vec<_>>())
    }

    #[test]
    fn headers_go_to_their_uris_and_are_remembered_by_hash() {
        let read = parse(&[
            ("http_header:Accept", "*/*"),
            ("http_header_url:1:Authorization", "Bearer secret"),
            ("http_header:Host", "elsewhere"),
        ])
        .unwrap();
        let names = |index| read.headers(index).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(0), ["accept"]);
        assert_eq!(names(1), ["accept", "authorization"]);
        assert!(!format!("{read:?}").contains("secret"));
    }

    #[test]
    fn what_fetching_does_not_know_still_tells_pushed_assets_apart() {
        let read = parse(&[("vcs.branch", "main"), ("bazel.canonical_id", "x")]).unwrap();
        assert_eq!(read.known_by.len(), 2);
        assert!(read.fetchable().unwrap_err().to_string().contains("vcs.branch"));
        assert!(parse(&[("resource_type", "application/octet-stream")]).unwrap().fetchable().is_ok());
    }

    #[test]
    fn malformed_qualifiers_are_refused() {
        let long = "x".repeat(MAX_LENGTH);
        for given in [
            &[("a", "1"), ("a", "2")][..],
            &[("", "x")],
            &[("http_header:", "x")],
            &[("http_header:a b", "x")],
            &[("http_header:a", "x\ny")],
            &[("http_header_url:x:a", "x")],
            &[("http_header_url:1", "x")],
            &[("checksum.sri", "md5-x")],
            &[("a", &long)],
        ] {
            assert!(parse(given).is_err(), "{given:.100?}");
        }
        let many: Vec<_> =
            (0..101).map(|n| Qualifier { name: n.to_string(), value: String::new() }).collect();
        assert!(Qualifiers::parse(&many).is_err());
    }
}
