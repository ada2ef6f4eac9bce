//! A grid on a cluster, as its users see it: manifests, conditions, and the files for clients.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::clients::Clients;
use crate::environment::{self, VERSION};
use crate::gridcluster::Cluster;
use crate::kube::Kube;

/// The images that a test cluster gets.
pub(crate) const IMAGES: [&str; 5] =
    ["grid-server", "grid-worker", "grid-operator", "toolchain-gcc12", "toolchain-gcc14"];
/// Where the files for clients say that they lie.
pub(crate) const CLIENT_FILES: &str = "/etc/grid-clients";

/// The test cluster with the images under test and the operator.
///
/// # Errors
/// Where a step fails.
pub(crate) fn cluster_with_operator(nodes: u32) -> Result<Cluster> {
    let cluster = Cluster::up(nodes)?;
    let archives: Vec<PathBuf> = IMAGES.iter().map(|name| environment::image(name)).collect::<Result<_>>()?;
    cluster.load(&archives)?;
    install(&Kube::Test(&cluster), "localhost")?;
    Ok(cluster)
}

/// Installs the chart with the images under test, or upgrades it to them.
///
/// # Errors
/// Where helm fails.
pub(crate) fn install(kube: &Kube<'_>, registry: &str) -> Result<()> {
    install_with(kube, &[&format!("image.registry={registry}")])
}

/// The same with these values of the chart.
///
/// # Errors
/// Where helm fails.
pub(crate) fn install_with(kube: &Kube<'_>, values: &[&str]) -> Result<()> {
    let digest = Sha256::digest(std::fs::read(environment::image("grid-operator")?)?);
    kube.install(&environment::root().join("charts/grid-operator"), values, &hex::encode(&digest[..8]))
}

/// A manifest of `examples`, with the images' names as this cluster knows them.
///
/// # Errors
/// Where it can't be read.
pub(crate) fn example(name: &str, registry: &str) -> Result<String> {
    let path = environment::root().join("examples").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(text.replace("localhost/", &format!("{registry}/")).replace(":0.1.0", &format!(":{VERSION}")))
}

/// The files that the operator wrote for this grid's clients, in `dir`, and the way to its host.
///
/// # Errors
/// Where the ConfigMap is not there or a file can't be written.
pub(crate) fn client_files(kube: &Kube<'_>, namespace: &str, grid: &str, dir: &Path) -> Result<PathBuf> {
    let files = dir.join(format!("{grid}-clients"));
    std::fs::create_dir_all(&files)?;
    for (name, content) in kube.config_map(namespace, &format!("{grid}-clients"))? {
        std::fs::write(files.join(name), content)?;
    }
    Ok(files)
}

/// The address of the test cluster's ingress controller.
///
/// # Errors
/// Where no cluster runs.
pub(crate) fn ingress_address(cluster: &Cluster) -> Result<String> {
    let variables = cluster.variables()?;
    let address = variables.get("INGRESS_ADDRESS").context("gridcluster env: no INGRESS_ADDRESS")?;
    Ok(address.split(':').next().unwrap_or(address).to_owned())
}

/// The address that the ingress controller of a user's cluster has given the grid's Ingress.
///
/// # Errors
/// Where it has given none.
pub(crate) fn published_address(kube: &Kube<'_>, namespace: &str, grid: &str) -> Result<String> {
    let ingress = kube.get(namespace, &format!("ingress/{grid}"))?;
    let point = &ingress["status"]["loadBalancer"]["ingress"][0];
    let address = point["ip"].as_str().or_else(|| point["hostname"].as_str());
    Ok(address
        .context("the Ingress has no address yet: does an ingress controller serve its class?")?
        .to_owned())
}

/// A place where clients find this grid: its files, and its host at `address`.
///
/// # Errors
/// Where a file can't be written.
pub(crate) fn clients<'a>(
    place: Clients<'a>,
    files: &Path,
    host: &str,
    address: &str,
) -> Result<Clients<'a>> {
    let hosts = files.with_extension("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{address} {host}\n"))?;
    Ok(place.bind(files, CLIENT_FILES).bind(&hosts, "/etc/hosts"))
}

/// Bazel's startup option that reads the file which the operator wrote.
pub(crate) fn bazelrc() -> String {
    format!("--bazelrc={CLIENT_FILES}/.bazelrc")
}
