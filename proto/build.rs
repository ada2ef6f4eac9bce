//! Compiles the `.proto` files of this crate, without protoc, into messages, clients and servers,
//! and writes the descriptor set that reflection serves.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Folders of this crate that hold `.proto` files, laid out as their packages are.
const ROOTS: [&str; 5] = ["build", "buildbarn", "externalscaler", "google", "grid"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut sources = Vec::new();
    for root in ROOTS {
        println!("cargo::rerun-if-changed={root}");
        collect(Path::new(root), &mut sources)?;
    }
    sources.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&sources)?;
    let mut set = compiler.file_descriptor_set();
    generate(set.clone())?;

    // Clients of reflection need names and types; comments would double the size.
    for file in &mut set.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    Ok(())
}

/// Adds every `.proto` file below `folder` to `sources`.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            sources.push(path);
        }
    }
    Ok(())
}

fn generate(mut set: FileDescriptorSet) -> std::io::Result<()> {
    for file in &mut set.file {
        file.message_type.iter_mut().for_each(clear_deprecation);
    }
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    let page = ".build.bazel.remote.execution.v2.GetTreeResponse";
    config.extern_path(page, "crate::directories::GetTreeResponse");
    tonic_prost_build::configure().bytes(".").include_file("modules.rs").compile_fds_with_config(set, config)
}

/// Hides from rustc which fields are deprecated: a server has to read and fill them for as long as
/// clients of older minor versions exist, so that a warning at each use would teach nothing. The
/// descriptors that reflection serves keep the mark.
fn clear_deprecation(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if let Some(options) = &mut field.options {
            options.deprecated = None;
        }
    }
    message.nested_type.iter_mut().for_each(clear_deprecation);
}
