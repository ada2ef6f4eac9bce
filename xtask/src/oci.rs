//! Writing an OCI image archive: one layer, a configuration, a manifest, an index, in a tar file.
//!
//! The same content makes the same digests: files carry no time, owner name or machine's mode bits. Pushing and
//! compressing are left to skopeo.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// One thing in an image's file system; paths are relative to its root.
pub(crate) enum Entry {
    /// A folder with this mode.
    Directory { path: &'static str, mode: u32 },
    /// A file with this mode, copied from the host.
    File { path: String, source: PathBuf, mode: u32 },
    /// A symbolic link.
    Link { path: &'static str, target: &'static str },
}

/// What an image is, besides its files.
pub(crate) struct Image {
    /// `NAME:TAG` with its registry: the name that a container runtime gives it on import.
    pub(crate) reference: String,
    /// What it starts where nothing else is asked for. It is no entry point: `docker run IMAGE bgd …` works.
    pub(crate) command: &'static [&'static str],
    /// `PATH` of its processes.
    pub(crate) path: &'static str,
    /// `HOME` of its processes, and the folder that they start in.
    pub(crate) home: &'static str,
    /// `UID:GID` of its processes.
    pub(crate) user: &'static str,
    /// What it is, in a sentence.
    pub(crate) description: &'static str,
}

/// Writes the layer of `entries` as a tar file.
///
/// # Errors
/// Where a source can't be read or `to` can't be written.
pub(crate) fn layer(entries: &[Entry], to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("can't write {}", to.display()))?;
    let mut tar = Builder::new(std::io::BufWriter::new(file));
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match entry {
            Entry::Directory { path, mode } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
            }
            Entry::File { path, source, mode } => {
                let content =
                    File::open(source).with_context(|| format!("can't read {}", source.display()))?;
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(content.metadata()?.len());
                tar.append_data(&mut header, path, content)?;
            }
            Entry::Link { path, target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

/// Writes an archive of `image` with the layer in the tar file `layer`; gives the manifest's digest.
///
/// # Errors
/// Where the layer can't be read or the archive can't be written.
pub(crate) fn archive(image: &Image, layer: &Path, to: &Path) -> Result<String> {
    let layer_hash = hash_file(layer)?;
    let layer_size = std::fs::metadata(layer)?.len();
    let config = serde_json::to_vec(&configuration(image, &layer_hash))?;
    let config_hash = hash(&config);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_hash}"),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_hash}"),
            "size": layer_size,
        }],
    }))?;
    let manifest_hash = hash(&manifest);
    let tag = image.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest_hash}"),
            "size": manifest.len(),
            "annotations": {
                "io.containerd.image.name": image.reference,
                "org.opencontainers.image.ref.name": tag,
            },
        }],
    }))?;
    let file = File::create(to).with_context(|| format!("can't write {}", to.display()))?;
    let mut tar = Builder::new(std::io::BufWriter::new(file));
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", &index)?;
    append(&mut tar, &format!("blobs/sha256/{config_hash}"), &config)?;
    append(&mut tar, &format!("blobs/sha256/{manifest_hash}"), &manifest)?;
    let mut header = blob_header(layer_size);
    tar.append_data(&mut header, format!("blobs/sha256/{layer_hash}"), File::open(layer)?)?;
    tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(format!("sha256:{manifest_hash}"))
}

fn configuration(image: &Image, layer_hash: &str) -> Value {
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": image.user,
            "Cmd": image.command,
            "WorkingDir": image.home,
            "Env": [format!("PATH={}", image.path), format!("HOME={}", image.home)],
            "Labels": {
                "org.opencontainers.image.description": image.description,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_hash}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images" }],
    })
}

/// The architecture's name in Go's and OCI's terms.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append<W: std::io::Write>(tar: &mut Builder<W>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = blob_header(content.len() as u64);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn blob_header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            reference: "localhost/x:1".into(),
            command: &["/x"],
            path: "/",
            home: "/",
            user: "65532:65532",
            description: "x",
        }
    }

    #[test]
    fn the_same_content_makes_the_same_digest() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        let digest = |content: &[u8], name: &str| {
            std::fs::write(&source, content).unwrap();
            let entries = [
                Entry::Directory { path: "etc", mode: 0o755 },
                Entry::File { path: "x".into(), source: source.clone(), mode: 0o555 },
                Entry::Link { path: "bgd", target: "x" },
            ];
            let tar = dir.path().join(name);
            layer(&entries, &tar).unwrap();
            archive(&image(), &tar, &dir.path().join("archive")).unwrap()
        };
        assert_eq!(digest(b"one", "a"), digest(b"one", "b"));
        assert_ne!(digest(b"one", "a"), digest(b"two", "b"));
    }
}
