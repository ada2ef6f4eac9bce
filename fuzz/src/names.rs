//! Names of resources: what is read out of one stands in it.

use grid_rpc::bytestream::name::Resource;

pub(crate) fn run(data: &[u8]) {
    let Some(name) = crate::text(data) else { return };
    let Ok(resource) = Resource::parse(name) else { return };
    match resource {
        Resource::Blob(blob) => {
            holds(name, &[blob.instance, &blob.digest.hash_hex(), &blob.digest.size().to_string()])
        }
        Resource::Upload { blob, uuid } => {
            holds(name, &[blob.instance, uuid, &blob.digest.hash_hex(), &blob.digest.size().to_string()]);
        }
        Resource::LogStream(whole) => assert_eq!(whole, name),
    }
}

/// Each of `parts` stands in `name`, after the one before it; the first begins it.
fn holds(name: &str, parts: &[&str]) {
    assert!(name.starts_with(parts[0]), "{name}");
    let mut rest = name;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part} is not in {name}"));
        rest = &rest[at + part.len()..];
    }
}
