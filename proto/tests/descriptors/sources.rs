//! Gets published descriptors from the package registries: Go modules through `go`, BuildGrid's
//! wheels through pip. What is downloaded stays in caches outside the tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Descriptors that the Go modules pinned in `tests/registries/go.mod` are built with.
pub(crate) fn go_modules() -> FileDescriptorSet {
    let output = run(Command::new("go").args(["run", "-mod=readonly", "."]).current_dir(registries()));
    FileDescriptorSet::decode(output.as_slice()).unwrap()
}

/// Descriptors inside a BuildGrid wheel. `python` is the oldest version that the wheel is for.
pub(crate) fn buildgrid_wheel(version: &str, python: &str) -> FileDescriptorSet {
    let folder = cache();
    let wheel = folder.join(format!("buildgrid-{version}-py3-none-any.whl"));
    if !wheel.exists() {
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .args(["--python-version", python, "--dest"])
            .arg(&folder)
            .arg(format!("buildgrid=={version}")));
    }
    let output = run(Command::new("python3").arg(registries().join("wheel.py")).arg(&wheel));
    FileDescriptorSet::decode(output.as_slice()).unwrap()
}

/// KEDA's external scaler, compiled from the `.proto` file in its module: linking its Go code would
/// bring in all that KEDA depends on.
pub(crate) fn keda(version: &str) -> FileDescriptorSet {
    let module = format!("github.com/kedacore/keda/v2@{version}");
    run(Command::new("go").args(["mod", "download", &module]).current_dir(env::temp_dir()));
    let modules = run(Command::new("go").args(["env", "GOMODCACHE"]));
    let folder = Path::new(std::str::from_utf8(&modules).unwrap().trim())
        .join(&module)
        .join("pkg/scalers/externalscaler");
    protox::compile(["externalscaler.proto"], [folder]).unwrap()
}

fn registries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registries")
}

fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").expect("HOME or XDG_CACHE_HOME is set")).join(".cache"),
        PathBuf::from,
    );
    let folder = base.join("grid-operator/proto");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs `command` to its end and returns its standard output.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
