//! `cargo xtask test-images`: images that only tests of worker pools use, as OCI archives beside the others.
//!
//! One has Debian's BuildBox and a C compiler, the other Go's compiler and linker FROM scratch: two static programs and the
//! compiled packages that a program needs. Neighbours: `images` makes what everybody needs, `oci` writes archives.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::debian::{self, Toolchain};
use crate::images::{LOCAL, archive, folder};
use crate::oci::{self, Entry, Image};
use crate::{shell, workspace};

const BUILDBOX: Toolchain = Toolchain {
    name: "toolchain-buildbox",
    suite: "sid",
    packages: "gcc libc6-dev",
    more: "buildbox",
    description: "BuildBox and gcc on Debian, untouched",
};
const GO: &str = "toolchain-go";
/// The package that the test's program imports; what it needs itself comes along.
const LIBRARY: &str = "fmt";

/// Makes the images.
///
/// # Errors
/// Where Debian's packages can't be installed, or there is no Go.
pub(crate) fn run() -> Result<()> {
    let images = folder(LOCAL)?;
    std::fs::create_dir_all(&images)?;
    let layer = debian::layer(&BUILDBOX)?;
    let path = "/usr/local/bin:/usr/bin:/bin";
    make(&image(BUILDBOX.name, BUILDBOX.description, path), &layer, &images, BUILDBOX.name)?;
    let (layer, index) = (images.join("toolchain-go.layer"), images.join("toolchain-go.importcfg"));
    oci::layer(&go_entries(&index)?, &layer)?;
    make(&image(GO, "Go's compiler and linker, FROM scratch", "/bin"), &layer, &images, GO)?;
    std::fs::remove_file(&index)?;
    Ok(std::fs::remove_file(&layer)?)
}

/// Go's two programs, the library's packages, compiled, and the file that says which is which, written to `index`.
fn go_entries(index: &Path) -> Result<Vec<Entry>> {
    let go = |arguments: &[&str]| -> Result<String> {
        shell::output(shell::command("go", arguments)?.env("CGO_ENABLED", "0"))
    };
    let tools = PathBuf::from(go(&["env", "GOTOOLDIR"])?);
    let program =
        |name: &str| Entry::File { path: format!("bin/{name}"), source: tools.join(name), mode: 0o555 };
    let mut entries = vec![program("compile"), program("link")];
    let mut text = String::new();
    let format = "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}";
    for (number, line) in go(&["list", "-export", "-deps", "-f", format, LIBRARY])?.lines().enumerate() {
        let (package, file) = line.split_once(' ').with_context(|| format!("go list printed {line:?}"))?;
        let path = format!("lib/{number}.a");
        let _ = writeln!(text, "packagefile {package}=/{path}");
        entries.push(Entry::File { path, source: file.into(), mode: 0o444 });
    }
    std::fs::write(index, text)?;
    entries.push(Entry::File { path: "lib/importcfg".to_owned(), source: index.to_owned(), mode: 0o444 });
    Ok(entries)
}

fn image(name: &str, description: &'static str, path: &'static str) -> Image {
    Image {
        reference: format!("{LOCAL}/{name}:{}", workspace::VERSION),
        command: &[],
        path,
        home: "/",
        user: "65533:65533",
        description,
    }
}

fn make(image: &Image, layer: &Path, images: &Path, name: &str) -> Result<()> {
    archive(image, layer, &images.join(format!("{name}.tar"))).map(|_| ())
}
