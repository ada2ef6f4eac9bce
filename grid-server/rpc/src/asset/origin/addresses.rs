//! Which hosts may be fetched from: a server inside a network must not become its clients' way into that network.
//!
//! The decision falls on the address that is connected to, after the name has been resolved, so that a name that
//! leads inwards gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// Names of hosts: exact, or everything beneath a domain as `*.example.org`.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// These names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host is among them. A literal IPv6 address stands without brackets.
    pub(super) fn contain(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|name| match name.strip_prefix('*') {
            Some(domain) => domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain),
            None => *name == host,
        })
    }
}

/// The host's address is inside the network.
#[derive(Clone, Debug, Error)]
#[error("{0} is at an internal address")]
pub(super) struct Internal(pub(super) String);

/// Resolves names as the system does, and leaves out internal addresses unless the host may have one.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) internal_hosts: Arc<Hosts>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = Arc::clone(&self.internal_hosts);
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let free = hosts.contain(name);
            let addresses: Vec<SocketAddr> = found.filter(|a| free || !is_internal(a.ip())).collect();
            if addresses.is_empty() {
                return Err(Internal(name.to_owned()).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is anything but one of the public internet.
pub(super) fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_internal_v4(address),
        IpAddr::V6(address) => is_internal_v6(address),
    }
}

fn is_internal_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Carriers' own (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
}

fn is_internal_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_internal_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address that they hold.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // Documentation (RFC 3849), Teredo and the other special registrations of 2001::/23.
        (0x2001, 0x0db8) | (0x2001, 0..0x200) => true,
        // Only 2000::/3 is the public internet.
        _ => !(0x2000..0x4000).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(is_internal(inside.parse().unwrap()), "{inside}");
        }
        for public in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "64:ff9b::101:101", "2a00::1"]
        {
            assert!(!is_internal(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn hosts_are_names_or_domains() {
        let hosts =
            Hosts::new(["Mirror.example.org".to_owned(), "*.corp.example".to_owned(), "*".to_owned()]);
        for inside in ["mirror.example.org", "MIRROR.example.org.", "a.corp.example", "a.b.corp.example"] {
            assert!(hosts.contain(inside), "{inside}");
        }
        for outside in ["corp.example", "xcorp.example", "a.mirror.example.org", "example.org", ""] {
            assert!(!hosts.contain(outside), "{outside}");
        }
    }
}
