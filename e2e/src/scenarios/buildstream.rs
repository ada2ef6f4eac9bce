//! BuildStream's remote execution: each element is built in a sandbox of its own on the grid, whose root is nothing
//! but what the project says; artifacts go to a server beside the grid, as BuildStream's documentation sets it up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::on_cluster::TestGrid;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::process::Output;
use crate::{environment, grid, process, project, toolchain};

/// The sources of Lua's library, each an element.
const LIBRARY: usize = 32;
/// What the base leaves of the toolchain's image: a C compiler, a shell and what the elements call.
const BASE: &str = "bin lib lib64 usr/lib64 usr/include \
    usr/bin/sh usr/bin/dash usr/bin/cat usr/bin/mkdir usr/bin/install usr/bin/gcc* usr/bin/as usr/bin/ld* \
    usr/bin/x86_64-linux-gnu-gcc* usr/bin/x86_64-linux-gnu-as usr/bin/x86_64-linux-gnu-ld* \
    usr/lib/x86_64-linux-gnu/*.so* usr/lib/x86_64-linux-gnu/*.o usr/lib/x86_64-linux-gnu/libc*.a \
    usr/lib/x86_64-linux-gnu/libm*.a usr/lib/gcc/x86_64-linux-gnu/*/cc1 \
    usr/lib/gcc/x86_64-linux-gnu/*/collect2 usr/lib/gcc/x86_64-linux-gnu/*/crt* \
    usr/lib/gcc/x86_64-linux-gnu/*/libgcc* usr/lib/gcc/x86_64-linux-gnu/*/include \
    usr/lib/gcc/x86_64-linux-gnu/*/liblto_plugin.so";
const WAITING: &str = "START   Waiting for the remote build to complete";

/// A compose of 33 elements, which depend on one another, is built on the grid, and does what its sources say. Another
/// machine pulls it and builds nothing; a third, without the artifacts, finds every action's result in the grid's
/// cache. An element that fails says what its compiler said.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn build() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let (controller, artifacts) = (dir.path().join("controller"), dir.path().join("artifacts"));
    for folder in [&controller, &artifacts] {
        std::fs::create_dir_all(folder)?;
    }
    let grid = Server::start(&controller, "buildstream/controller.yml")?;
    let store = Server::start(&artifacts, "assets/server.yml")?;
    let properties = ["unixUID=0", "unixGID=0", "network=on"];
    let worker = Worker::start(dir.path(), &grid, &Image::Sandbox(&cluster), &properties)?;
    let project = lay_out(&dir.path().join("project"))?;
    let machine = |name: &str, artifacts: Option<&Server>| -> Result<Clients<'_>> {
        let settings = dir.path().join(format!("{name}.conf"));
        std::fs::write(&settings, configuration(&grid, artifacts))?;
        Ok(Clients::new(&cluster, &dir.path().join(name))?
            .bind(&project, "/src")
            .bind(&settings, &settings_path()))
    };

    let first = machine("first", Some(&store))?;
    build_and_share(&first, &machine("second", Some(&store))?, &project)?;
    worker.terminate()?;
    // No worker is left: whatever is not in the cache would wait for ever.
    bst(&machine("third", None)?, &["build", "check.bst"])?;

    let worker = Worker::start(dir.path(), &grid, &Image::Sandbox(&cluster), &properties)?;
    let refused = first.fail("/src", &words(&settings_path(), &["build", "wrong.bst"]))?;
    refused.expect("error: 'nowhere' undeclared")?;
    worker.terminate()?;
    store.terminate()?;
    grid.terminate()
}

/// On a cluster, from the example, with nothing but the files that the operator wrote: the compose is built in the
/// sandboxes of the pool and shared by the grid itself; then it goes to the grid of artifacts, and comes from there.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn through_ingress() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "buildstream-test", &[], "buildstream.yaml")?;
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let project = lay_out(&dir.path().join("project"))?;
    let machine = |name: &str, grid: &str| -> Result<Clients<'_>> {
        let place = Clients::new(&cluster, &dir.path().join(name))?.bind(&project, "/src");
        test.reached_from(place, grid)
    };
    build_and_share(&machine("first", "builds")?, &machine("second", "builds")?, &project)?;
    bst(&machine("first", "artifacts")?, &["artifact", "push", "system.bst"])?.expect("Pushed artifact")?;
    let pulled = bst(&machine("third", "artifacts")?, &["artifact", "pull", "system.bst"])?;
    pulled.expect("Pulled artifact")?;
    test.delete()
}

/// The first machine builds the compose, which does what its sources say, and the second pulls it and builds nothing.
fn build_and_share(first: &Clients<'_>, second: &Clients<'_>, project: &Path) -> Result<()> {
    let built = bst(first, &["build", "system.bst"])?;
    expect_remote(&built, LIBRARY + 1)?;
    built.expect("Pushed artifact")?;
    bst(first, &["artifact", "checkout", "system.bst", "--directory", "/src/out"])?;
    let printed = std::fs::read_to_string(project.join("out/usr/share/printed"))?;
    ensure!(printed.trim() == "Lua 5.4 338350", "the program printed {printed:?} in its sandbox");

    let pulled = bst(second, &["build", "system.bst"])?;
    expect_remote(&pulled, 0)?;
    pulled.expect("Pulled artifact")
}

/// Where the settings lie in a machine, be they the operator's or ours.
fn settings_path() -> String {
    format!("{}/buildstream.conf", grid::CLIENT_FILES)
}

fn bst(place: &Clients<'_>, arguments: &[&str]) -> Result<Output> {
    place.succeed("/src", &words(&settings_path(), arguments))
}

fn words<'a>(settings: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["bst", "--no-colors", "--no-interactive", "--config", settings], arguments].concat()
}

fn expect_remote(built: &Output, elements: usize) -> Result<()> {
    let remote = built.count(WAITING);
    ensure!(remote == elements, "{remote} elements were built on the grid, not {elements}:\n{}", built.text);
    Ok(())
}

fn configuration(grid: &Server, artifacts: Option<&Server>) -> String {
    let mut text = String::from("remote-execution:\n");
    for service in ["execution-service", "storage-service", "action-cache-service"] {
        let _ = writeln!(text, "  {service}:\n    url: {}", grid.address("http"));
    }
    if let Some(artifacts) = artifacts {
        let _ =
            writeln!(text, "artifacts:\n  servers:\n  - url: {}\n    push: true", artifacts.address("http"));
    }
    text
}

/// The project: the base, and an element for each source of Lua.
fn lay_out(to: &Path) -> Result<PathBuf> {
    project::lay_out_buildstream(to)?;
    let base = to.join("files/base");
    std::fs::create_dir_all(&base)?;
    let script = format!("cd \"$1\" && tar -cf - --exclude=usr/include/c++ {BASE} | tar -xf - -C \"$2\"");
    let mut tar = Command::new("sh");
    process::run(tar.args(["-c", &script, "sh"]).arg(toolchain::root("toolchain-gcc12")?).arg(&base))?;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(to.join("files/lua"))? {
        let name = entry?.file_name().into_string().ok().context("a source's name is not UTF-8")?;
        names.extend(name.strip_suffix(".c").filter(|name| *name != "check").map(str::to_owned));
    }
    names.sort();
    ensure!(names.len() == LIBRARY, "{} sources, not {LIBRARY}: {names:?}", names.len());
    std::fs::write(to.join("files/lua/wrong.c"), "int main(void) { return nowhere; }\n")?;
    for name in names.iter().map(String::as_str).chain(["wrong"]) {
        let install = format!("install -D -m 644 {name}.o %{{install-root}}/usr/lib/lua/{name}.o");
        let build = format!("gcc -O1 -DLUA_USE_POSIX -c {name}.c");
        element(to, name, &[], &[&build], &[&install])?;
    }
    let link = "gcc -I. -o check check.c /usr/lib/lua/*.o -lm";
    let install = ["check %{install-root}/usr/bin/check", "printed %{install-root}/usr/share/printed"]
        .map(|files| format!("install -D {files}"));
    element(to, "check", &names, &[link, "./check > printed"], &[&install[0], &install[1]])?;
    let all = std::iter::once("check").chain(names.iter().map(String::as_str));
    let compose =
        all.fold("kind: compose\nbuild-depends:\n".to_owned(), |text, name| text + "- " + name + ".bst\n");
    std::fs::write(to.join("elements/system.bst"), compose)?;
    Ok(to.to_path_buf())
}

fn element(to: &Path, name: &str, depends: &[String], build: &[&str], install: &[&str]) -> Result<()> {
    let mut text = "kind: manual\nbuild-depends:\n- base.bst\n".to_owned();
    for depend in depends {
        let _ = writeln!(text, "- {depend}.bst");
    }
    text.push_str("sources:\n- kind: local\n  path: files/lua\nconfig:\n");
    for (key, commands) in [("build-commands", build), ("install-commands", install)] {
        let _ = writeln!(text, "  {key}:");
        for command in commands {
            let _ = writeln!(text, "  - '{command}'");
        }
    }
    std::fs::write(to.join(format!("elements/{name}.bst")), text)?;
    Ok(())
}
