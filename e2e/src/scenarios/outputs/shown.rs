//! A result as a line of text: what a person would compare.

use std::collections::HashMap;

use anyhow::Result;
use grid_proto::reapi::{Digest, Directory, NodeProperties, Tree};
use prost::Message;
use tonic::Code;

use crate::reapi::{Done, Remote};

/// The result in one line; contents are fetched.
///
/// # Errors
/// Where a blob that the result names is not there.
pub(super) fn result(remote: &Remote, done: &Done) -> Result<String> {
    let code = Code::from_i32(done.status.code);
    let mut parts = Vec::new();
    if code != Code::Ok {
        parts.push(format!("{code:?}"));
    }
    let result = &done.result;
    if result.exit_code != 0 {
        parts.push(format!("exit code {}", result.exit_code));
    }
    let stdout = remote.stdout(result)?;
    if !stdout.is_empty() {
        parts.push(format!("says `{}`", stdout.trim_end().replace('\n', " ")));
    }
    for file in &result.output_files {
        let content = text(remote, file.digest.as_ref())?;
        let kind = if file.is_executable { "program" } else { "file" };
        let properties = properties(file.node_properties.as_ref());
        parts.push(format!("{kind} {} `{content}`{properties}", file.path));
    }
    let links = result.output_symlinks.iter().map(|link| ("link", link));
    let old = result.output_file_symlinks.iter().map(|link| ("link to a file", link));
    let older = result.output_directory_symlinks.iter().map(|link| ("link to a directory", link));
    let mut named = Vec::new();
    for (kind, link) in links.chain(old).chain(older) {
        // The old fields may repeat what the new one says.
        if !named.contains(&&link.path) {
            parts.push(format!("{kind} {} → {}", link.path, link.target));
            named.push(&link.path);
        }
    }
    for directory in &result.output_directories {
        let mut shown = Vec::new();
        if let Some(digest) = &directory.tree_digest {
            match Tree::decode(remote.blob(digest)?) {
                Ok(tree) => {
                    let children = tree.children.iter().map(|child| (hash(child), child)).collect();
                    below(&tree.root.unwrap_or_default(), &children, "", &mut shown);
                }
                Err(_) => shown.push("a Tree that can't be decoded".to_owned()),
            }
        }
        let root = if directory.root_directory_digest.is_some() { " with a Directory" } else { "" };
        parts.push(format!("directory {} ({}){root}", directory.path, shown.join(", ")));
    }
    Ok(if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ").replace('|', "\\|") })
}

fn text(remote: &Remote, digest: Option<&Digest>) -> Result<String> {
    match digest {
        Some(digest) if digest.size_bytes > 0 => {
            Ok(String::from_utf8_lossy(&remote.blob(digest)?).trim_end().to_owned())
        }
        _ => Ok(String::new()),
    }
}

fn properties(properties: Option<&NodeProperties>) -> String {
    let mode = properties.and_then(|properties| properties.unix_mode);
    let time = properties.and_then(|properties| properties.mtime);
    let mode = mode.map(|mode| format!(" mode {:o}", mode & 0o7777)).unwrap_or_default();
    mode + &time.map(|time| format!(" of second {}", time.seconds)).unwrap_or_default()
}

fn hash(directory: &Directory) -> String {
    let content = directory.encode_to_vec();
    grid_core::Digest::of(grid_core::DigestFunction::Sha256, &content).hash_hex()
}

fn below(directory: &Directory, children: &HashMap<String, &Directory>, path: &str, shown: &mut Vec<String>) {
    for file in &directory.files {
        let kind = if file.is_executable { "program" } else { "file" };
        shown.push(format!("{kind} {path}{}", file.name));
    }
    for link in &directory.symlinks {
        shown.push(format!("link {path}{} → {}", link.name, link.target));
    }
    for node in &directory.directories {
        let path = format!("{path}{}/", node.name);
        let child = node.digest.as_ref().and_then(|digest| children.get(&digest.hash));
        shown.push(format!("{path}{}", if child.is_some() { "" } else { " without its content" }));
        if let Some(child) = child {
            below(child, children, &path, shown);
        }
    }
}
