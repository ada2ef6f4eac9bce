//! What the tests and the demo need of Debian, installed once.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;

/// A file that a package brings, and the package.
const NEEDED: &[(&str, &str)] = &[
    ("debootstrap", "debootstrap"),
    ("skopeo", "skopeo"),
    ("jq", "jq"),
    ("redis-server", "redis-server"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("containerd", "containerd"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
];

/// What only `test --full` needs.
const NEEDED_BY_FULL: &[(&str, &str)] =
    &[("docker-registry", "docker-registry"), ("/usr/sbin/nginx", "nginx-light")];

/// Installs what only `test --full` needs.
///
/// # Errors
/// As [`run`].
pub(crate) fn full() -> Result<()> {
    install(NEEDED_BY_FULL)?;
    if shell::exists("cargo-deny") || cargo_bin("cargo-deny") {
        return Ok(());
    }
    shell::step("install cargo-deny", || {
        shell::run(&mut shell::command("cargo", ["install", "--locked", "--quiet", "cargo-deny"])?)
    })
}

fn cargo_bin(name: &str) -> bool {
    std::env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".cargo/bin").join(name).is_file())
}

/// Installs what is missing; without root or apt it says what to install.
///
/// # Errors
/// Where something is missing and can't be installed.
pub(crate) fn run() -> Result<()> {
    install(NEEDED)
}

fn install(needed: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> =
        needed.iter().filter(|(file, _)| !shell::exists(file)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !shell::exists("apt-get") {
        bail!("these programs are missing, and there is no apt-get to install them: {}", missing.join(" "));
    }
    shell::step(&format!("install Debian packages: {}", missing.join(" ")), || {
        shell::run(shell::command("apt-get", ["update", "-qq"])?.env("DEBIAN_FRONTEND", "noninteractive"))?;
        let install = ["install", "-y", "-qq", "--no-install-recommends"];
        let arguments = install.into_iter().chain(missing.iter().copied());
        // A server package would start its service; the tests start their own on free ports.
        shell::run(
            shell::command("apt-get", arguments)?
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("RUNLEVEL", "1"),
        )
    })
}
