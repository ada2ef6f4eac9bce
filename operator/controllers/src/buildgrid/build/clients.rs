//! The ConfigMap `<grid>-clients`: a file for each client, ready to be used.
//!
//! The files name the CA by the path at which a pod that mounts the ConfigMap at `/etc/grid-clients` finds it.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;

use super::super::tls::Secrets;
use super::super::validate::{Grid, Tls};
use super::front::address;

/// Where the files expect the ConfigMap.
const MOUNTED_AT: &str = "/etc/grid-clients";

/// The client files of a grid.
pub(super) fn config_map(grid: &Grid<'_>, secrets: &Secrets) -> ConfigMap {
    let (address, tls) = address(grid);
    let authority = match &grid.tls {
        Some(Tls::SelfSigned { .. }) => secrets.certificate.as_ref().map(|(_, pair)| pair.authority.clone()),
        Some(Tls::Given { authority, .. } | Tls::CertManager { authority, .. }) => authority.clone(),
        Some(Tls::Disabled) | None => None,
    };
    let client = Client {
        address: &address,
        tls,
        instance: grid.instances().first().map_or("", String::as_str),
        has_authority: authority.is_some(),
        executes: grid.spec.execution.enabled,
        takes_assets: grid.spec.remote_asset.allow_updates,
        asks_for_token: grid.spec.authorization.as_ref().is_some_and(|a| a.jwt.is_some()),
    };
    let mut data = BTreeMap::from([
        (".bazelrc".to_owned(), client.bazelrc()),
        ("recc.conf".to_owned(), client.recc()),
        ("buildstream.conf".to_owned(), client.buildstream()),
        ("address".to_owned(), format!("{}://{address}", client.scheme("grpc"))),
    ]);
    if let Some(authority) = authority {
        data.insert("ca.crt".to_owned(), authority);
    }
    ConfigMap {
        metadata: grid.owner.meta(grid.names().clients(), "clients"),
        data: Some(data),
        ..ConfigMap::default()
    }
}

struct Client<'a> {
    address: &'a str,
    tls: bool,
    instance: &'a str,
    has_authority: bool,
    executes: bool,
    takes_assets: bool,
    asks_for_token: bool,
}

impl Client<'_> {
    fn scheme(&self, plain: &str) -> String {
        format!("{plain}{}", if self.tls { "s" } else { "" })
    }

    fn bazelrc(&self) -> String {
        let url = format!("{}://{}", self.scheme("grpc"), self.address);
        let mut text = header(self.has_authority);
        let mut line = |flag: &str| {
            let _ = writeln!(text, "build {flag}");
        };
        if self.executes {
            line(&format!("--remote_executor={url}"));
        } else {
            line(&format!("--remote_cache={url}"));
        }
        if !self.instance.is_empty() {
            line(&format!("--remote_instance_name={}", self.instance));
        }
        if self.has_authority {
            line(&format!("--tls_certificate={MOUNTED_AT}/ca.crt"));
        }
        line("--remote_timeout=600");
        if self.asks_for_token {
            text.push_str(
                "# The grid asks for a token: add --remote_header=\"authorization=Bearer TOKEN\" or a --credential_helper.\n",
            );
        }
        text
    }

    fn recc(&self) -> String {
        let url = format!("{}://{}", self.scheme("http"), self.address);
        let mut text = header(self.has_authority);
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "{key}={value}");
        };
        line("server", &url);
        if !self.instance.is_empty() {
            line("instance", self.instance);
        }
        if self.has_authority {
            line("server_cert", &format!("{MOUNTED_AT}/ca.crt"));
        }
        if !self.executes {
            line("cache_only", "1");
        }
        text
    }

    fn buildstream(&self) -> String {
        let mut text = header(self.has_authority);
        let executes = self.executes.then_some("execution-service");
        text.push_str("remote-execution:\n");
        for service in executes.into_iter().chain(["storage-service", "action-cache-service"]) {
            let _ = writeln!(text, "  {service}:");
            self.remote(&mut text, ["    ", "    "], false);
        }
        for caches in ["artifacts", "source-caches"] {
            let _ = writeln!(text, "{caches}:\n  servers:");
            self.remote(&mut text, ["  - ", "    "], self.takes_assets);
        }
        text
    }

    /// How BuildStream reaches one service, its first line and the others indented by `indent`.
    fn remote(&self, text: &mut String, indent: [&str; 2], push: bool) {
        let [first, rest] = indent;
        let _ = writeln!(text, "{first}url: {}://{}", self.scheme("http"), self.address);
        if push {
            let _ = writeln!(text, "{rest}push: true");
        }
        if !self.instance.is_empty() {
            let _ = writeln!(text, "{rest}instance-name: {}", serde_json::Value::from(self.instance));
        }
        if self.has_authority {
            let _ = writeln!(text, "{rest}auth:\n{rest}  server-cert: {MOUNTED_AT}/ca.crt");
        }
    }
}

fn header(has_authority: bool) -> String {
    if has_authority {
        format!("# The grid's CA is expected in {MOUNTED_AT}; elsewhere change the path of ca.crt.\n")
    } else {
        String::new()
    }
}
