//! Debian root file systems for the toolchain images, made by debootstrap and kept in the cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{shell, workspace};

/// A toolchain image: which Debian it is, and what it has.
pub(crate) struct Toolchain {
    /// The image's name.
    pub(crate) name: &'static str,
    /// Debian's code name.
    pub(crate) suite: &'static str,
    /// The packages that are installed, a blank between them.
    pub(crate) packages: &'static str,
    /// Packages that only Debian's own installer can put in the right order.
    pub(crate) more: &'static str,
    /// What the image is, in a sentence.
    pub(crate) description: &'static str,
}

/// The two toolchains that `examples/toolchains` describes to Bazel.
pub(crate) const TOOLCHAINS: [Toolchain; 2] = [
    Toolchain {
        name: "toolchain-gcc12",
        suite: "bookworm",
        packages: "gcc g++ libc6-dev",
        more: "",
        description: "gcc 12 on Debian 12, untouched",
    },
    Toolchain {
        name: "toolchain-gcc14",
        suite: "trixie",
        packages: "gcc g++ libc6-dev",
        more: "",
        description: "gcc 14 on Debian 13, untouched",
    },
];

/// What differs from one installation to the next, and no compiler needs.
const LEFT_OUT: &[&str] = &[
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./run/*",
    "./tmp/*",
    "./var/log/*",
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/lib/dpkg/info/*",
    "./var/lib/systemd/*",
    "./etc/machine-id",
    "./etc/resolv.conf",
    "./etc/hostname",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./usr/share/info/*",
];

/// The layer of a toolchain, as a tar file in the cache.
///
/// # Errors
/// Where debootstrap or a package's installation fails; both need root.
pub(crate) fn layer(toolchain: &Toolchain) -> Result<PathBuf> {
    let dir = workspace::cache()?.join("toolchains");
    std::fs::create_dir_all(&dir)?;
    // The second version of this recipe; another recipe is another file.
    let tar = dir.join(format!("{}-2.tar", toolchain.name));
    if tar.is_file() {
        return Ok(tar);
    }
    let Toolchain { name, suite, packages, more, .. } = toolchain;
    shell::step(&format!("{name}: install {packages} {more} on Debian {suite}"), || {
        let root = dir.join(format!("{name}.root"));
        let partial = dir.join(format!("{name}.partial"));
        remove(&root)?;
        install(suite, packages, &root)?;
        install_more(more, &root)?;
        pack(&root, &partial)?;
        remove(&root)?;
        std::fs::rename(&partial, &tar).context("can't keep the layer")
    })?;
    Ok(tar)
}

fn install(suite: &str, packages: &str, root: &Path) -> Result<()> {
    let packages = packages.replace(' ', ",");
    let log = root.with_extension("log");
    let output = std::fs::File::create(&log)?;
    let mut command = shell::command("debootstrap", ["--variant=minbase"])?;
    command.arg(format!("--include={packages}")).arg(suite).arg(root);
    command.stdout(output.try_clone()?).stderr(output);
    shell::run(&mut command).with_context(|| format!("see {}", log.display()))
}

fn install_more(packages: &str, root: &Path) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let script = "export DEBIAN_FRONTEND=noninteractive
        exec apt-get install -y -qq --no-install-recommends \"$@\"";
    let mut command = shell::command("chroot", [root])?;
    shell::run(command.args(["sh", "-c", script, "sh"]).args(packages.split(' ')))
}

fn pack(root: &Path, tar: &Path) -> Result<()> {
    let mut command = shell::command(
        "tar",
        ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu", "-C"],
    )?;
    command.arg(root);
    for pattern in LEFT_OUT {
        command.arg(format!("--exclude={pattern}"));
    }
    shell::run(command.arg("-cf").arg(tar).arg("."))
}

fn remove(root: &Path) -> Result<()> {
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", root.display()))
        }
        _ => Ok(()),
    }
}
