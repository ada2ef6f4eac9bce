//! `cargo xtask images`: the product's images and two toolchain images, as OCI archives.
//!
//! The product's are FROM scratch: one static binary each, without a shell, for a user that is not root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::debian::{self, TOOLCHAINS};
use crate::oci::{self, Entry, Image};
use crate::{shell, workspace};

/// The only target that needs no download: glibc, linked statically.
#[cfg(target_arch = "x86_64")]
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The only target that needs no download: glibc, linked statically.
#[cfg(target_arch = "aarch64")]
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// What stands for a registry in the names of images that are loaded, not pulled.
pub(crate) const LOCAL: &str = "localhost";

/// Options of `cargo xtask images`.
#[derive(Args)]
pub(crate) struct Options {
    /// Push the images to this registry, such as registry.example/grid.
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,
    /// The registry speaks plain HTTP, or has a certificate that this machine doesn't know.
    #[arg(long, requires = "push")]
    insecure: bool,
    /// The tag; the workspace's version where it is left out.
    #[arg(long, default_value = workspace::VERSION)]
    tag: String,
    /// The cargo profile to build with: `release`, or `e2e`, which builds faster and runs slower.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Leave the toolchain images out: they are for the examples and the tests.
    #[arg(long)]
    without_toolchains: bool,
    /// Build what this commit has, under a tag of its own, in place of the checkout.
    #[arg(long, value_name = "COMMIT", requires = "without_toolchains", conflicts_with = "push")]
    commit: Option<String>,
}

/// Makes the images, and pushes them where that is asked for.
///
/// # Errors
/// Where a build, an archive or a push fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let registry = options.push.as_deref().unwrap_or(LOCAL);
    if let Some(commit) = &options.commit {
        return build_commit(commit, &options.tag, &options.profile);
    }
    let archives = build(registry, &options.tag, &options.profile, !options.without_toolchains)?;
    for (reference, archive) in &archives {
        if options.push.is_some() {
            let digest =
                shell::step(&format!("push {reference}"), || push(reference, archive, options.insecure))?;
            println!("{reference}@{digest}");
        } else {
            println!("{reference}  {}", archive.display());
        }
    }
    Ok(())
}

/// Builds every image; gives the name and the archive of each.
///
/// # Errors
/// Where a build fails or an archive can't be written.
pub(crate) fn build(
    registry: &str,
    tag: &str,
    profile: &str,
    toolchains: bool,
) -> Result<Vec<(String, PathBuf)>> {
    let toolchains: Vec<_> = TOOLCHAINS.iter().filter(|_| toolchains).collect();
    // Debian's packages unpack on one core, beside the compiler.
    let root = workspace::root();
    let (binaries, layers) = std::thread::scope(|scope| {
        let threads: Vec<_> = toolchains.iter().map(|t| scope.spawn(|| debian::layer(t))).collect();
        let binaries = shell::step("build the binaries", || binaries(profile));
        (binaries, threads.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>())
    });
    let dir = folder(registry)?;
    let mut archives = pack(&products(&root, &binaries?), registry, tag, &dir)?;
    for (toolchain, layer) in toolchains.into_iter().zip(layers) {
        let layer = layer.map_err(|_| anyhow!("the thread that makes {} panicked", toolchain.name))??;
        let image = Image {
            reference: format!("{registry}/{}:{tag}", toolchain.name),
            command: &["/bin/sh"],
            path: "/usr/local/bin:/usr/bin:/bin",
            home: "/",
            user: "65533:65533",
            description: toolchain.description,
        };
        archives.push(archive(&image, &layer, &dir.join(format!("{}.tar", toolchain.name)))?);
    }
    Ok(archives)
}

/// Builds the product's images as a commit has them, in the folder of that tag, with the commit's files beside them in
/// `checkout`: its chart is there.
fn build_commit(commit: &str, tag: &str, profile: &str) -> Result<()> {
    ensure!(
        tag != workspace::VERSION,
        "--tag {tag} is that of the checkout: another commit needs one of its own"
    );
    let dir = workspace::cache()?.join("images").join(tag);
    let checkout = dir.join("checkout");
    shell::step(&format!("take the files of {commit}"), || export(commit, &checkout))?;
    let built = shell::step("build the binaries", || {
        shell::run(build_command(profile)?.current_dir(&checkout))?;
        binaries_folder(profile)
    })?;
    for (reference, archive) in pack(&products(&checkout, &built), LOCAL, tag, &dir)? {
        println!("{reference}  {}", archive.display());
    }
    // Both are built in one folder, for they share all dependencies: what lies there is the checkout's again.
    shell::step("build the checkout's binaries", || binaries(profile)).map(drop)
}

/// The files of a commit, without a trace in the repository.
fn export(commit: &str, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("can't remove {}", to.display()))?;
    }
    std::fs::create_dir_all(to).with_context(|| format!("can't make {}", to.display()))?;
    let archive = to.with_extension("tar");
    let mut command = shell::command("git", ["archive", "--format=tar", "--output"])?;
    shell::run(command.arg(&archive).arg(commit))
        .with_context(|| format!("is {commit} a commit of this repository?"))?;
    let mut command = shell::command("tar", ["--extract", "--file"])?;
    shell::run(command.arg(&archive).arg("--directory").arg(to))?;
    Ok(std::fs::remove_file(&archive)?)
}

/// Makes an archive of each product in `dir`; gives the name and the archive of each.
fn pack(products: &[Product], registry: &str, tag: &str, dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    std::fs::create_dir_all(dir)?;
    let mut archives = Vec::new();
    for product in products {
        let layer = dir.join(format!("{}.layer", product.name));
        oci::layer(&product.entries, &layer)?;
        let image = Image {
            reference: format!("{registry}/{}:{tag}", product.name),
            command: product.command,
            path: "/",
            home: "/var/lib/buildgrid",
            user: product.user,
            description: product.description,
        };
        archives.push(archive(&image, &layer, &dir.join(format!("{}.tar", product.name)))?);
        std::fs::remove_file(&layer)?;
    }
    Ok(archives)
}

/// Where the archives for a registry lie: those of another leave the tests' own as they are.
///
/// # Errors
/// Where there is no cache.
pub(crate) fn folder(registry: &str) -> Result<PathBuf> {
    let images = workspace::cache()?.join("images");
    Ok(if registry == LOCAL { images } else { images.join(registry.replace(['/', ':'], "_")) })
}

/// Builds the static binaries; gives the folder that they are in.
///
/// # Errors
/// Where the build fails.
pub(crate) fn binaries(profile: &str) -> Result<PathBuf> {
    shell::run(&mut build_command(profile)?)?;
    binaries_folder(profile)
}

fn build_command(profile: &str) -> Result<Command> {
    // The path of this machine's registry cache would make another machine's digests differ. The workspace's own
    // files are compiled by relative paths, and a flag that named the checkout would compile everything again for each.
    let home = std::env::var("HOME").unwrap_or_default();
    let flags = format!("-C target-feature=+crt-static --remap-path-prefix={home}=/home");
    let packages = ["grid-server", "grid-worker", "grid-operator", "grid-cli"];
    let mut command =
        shell::command("cargo", ["build", "--locked", "--target", TARGET, "--profile", profile])?;
    command.args(packages.iter().flat_map(|package| ["-p", package])).env("RUSTFLAGS", flags);
    Ok(command)
}

fn binaries_folder(profile: &str) -> Result<PathBuf> {
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(workspace::target()?.join(TARGET).join(folder))
}

struct Product {
    name: &'static str,
    entries: Vec<Entry>,
    command: &'static [&'static str],
    user: &'static str,
    description: &'static str,
}

/// The images of the sources at `root`, of which `binaries` were made.
fn products(root: &Path, binaries: &Path) -> Vec<Product> {
    let binary = |name: &str| Entry::File { path: name.into(), source: binaries.join(name), mode: 0o555 };
    let mut server =
        vec![binary("grid-server"), binary("grid"), Entry::Link { path: "bgd", target: "grid-server" }];
    server.push(Entry::Directory { path: "etc/buildgrid", mode: 0o755 });
    for name in ["default.yml", "artifacts.yml"] {
        let source = root.join("grid-server/etc").join(name);
        server.push(Entry::File { path: format!("etc/buildgrid/{name}"), source, mode: 0o444 });
    }
    // A container may run as any user, so its state's folder is open as a temporary one is.
    server.push(Entry::Directory { path: "var/lib/buildgrid", mode: 0o1777 });
    server.extend(common());
    let mut worker = vec![binary("grid-worker"), binary("grid-runner")];
    worker.extend(common());
    let mut operator = vec![binary("grid-operator")];
    operator.extend(common());
    vec![
        Product {
            name: "grid-server",
            entries: server,
            command: &["/grid-server", "serve"],
            user: "65532:65532",
            description: "Every service of the Remote Execution API and the Remote Workers API",
        },
        Product {
            name: "grid-worker",
            entries: worker,
            command: &["/grid-worker"],
            user: "65531:65531",
            description: "A worker of the Remote Workers API, and the runner that it puts into any image",
        },
        Product {
            name: "grid-operator",
            entries: operator,
            command: &["/grid-operator"],
            user: "65532:65532",
            description: "Reconciles BuildGrid, CasStorage and WorkerPool",
        },
    ]
}

/// What every image has: a folder for temporary files, and the certificates of public authorities.
fn common() -> Vec<Entry> {
    let mut entries = vec![Entry::Directory { path: "tmp", mode: 0o1777 }];
    let certificates = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
    if certificates.is_file() {
        let path = "etc/ssl/certs/ca-certificates.crt".to_owned();
        entries.push(Entry::Directory { path: "etc/ssl/certs", mode: 0o755 });
        entries.push(Entry::File { path, source: certificates, mode: 0o444 });
    }
    entries
}

/// Writes an image's archive, and says its digest.
///
/// # Errors
/// Where it can't be written.
pub(crate) fn archive(image: &Image, layer: &Path, to: &Path) -> Result<(String, PathBuf)> {
    let digest = oci::archive(image, layer, to)?;
    println!("    {} {digest}", image.reference);
    Ok((image.reference.clone(), to.to_path_buf()))
}

/// Pushes an archive; gives the digest that the registry knows it by, which is not the archive's: its layer travels
/// compressed.
fn push(reference: &str, archive: &Path, insecure: bool) -> Result<String> {
    let digest = archive.with_extension("digest");
    let mut command = shell::command("skopeo", ["--insecure-policy", "copy", "--quiet", "--digestfile"])?;
    command.arg(&digest);
    if insecure {
        command.arg("--dest-tls-verify=false");
    }
    command.arg(format!("oci-archive:{}", archive.display())).arg(format!("docker://{reference}"));
    shell::run(&mut command)
        .with_context(|| format!("can't push {reference}: is skopeo logged in there?"))?;
    let digest =
        std::fs::read_to_string(&digest).with_context(|| format!("can't read {}", digest.display()))?;
    Ok(digest.trim().to_owned())
}
