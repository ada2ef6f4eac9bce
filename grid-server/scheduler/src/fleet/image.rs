//! Names of container images, made comparable.
//!
//! Clients write `docker://ubuntu:22.04`, pools `docker.io/library/ubuntu:22.04@sha256:…`, and both mean one image.

/// The platform property that names an image.
pub const KEY: &str = "container-image";

const DEFAULT_REGISTRY: &str = "docker.io";

/// The one form of the name that a job asks for: with the digest alone where it gives one, else with the tag.
#[must_use]
pub fn asked(text: &str) -> String {
    let image = Image::read(text);
    match image.digest {
        Some(digest) => format!("{}@{digest}", image.repository),
        None => format!("{}:{}", image.repository, image.tag.unwrap_or("latest")),
    }
}

/// Every form by which a pool that runs this image may be asked for.
pub fn offered(text: &str) -> impl Iterator<Item = String> {
    let image = Image::read(text);
    let tag = match (image.tag, image.digest) {
        (None, Some(_)) => None,
        (tag, _) => Some(format!("{}:{}", image.repository, tag.unwrap_or("latest"))),
    };
    let digest = image.digest.map(|digest| format!("{}@{digest}", image.repository));
    tag.into_iter().chain(digest)
}

struct Image<'a> {
    repository: String,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    fn read(text: &'a str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        Self { repository: repository(name), tag, digest }
    }
}

/// A repository with its registry, as Docker completes short names.
fn repository(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{name}"),
        None => format!("{DEFAULT_REGISTRY}/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(job: &str, pool: &str) -> bool {
        offered(pool).any(|form| form == asked(job))
    }

    #[test]
    fn one_image_has_many_names() {
        for (job, pool) in [
            ("docker://ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
            ("docker://ubuntu", "ubuntu:latest"),
            ("r.example:5000/a/b:1", "docker://r.example:5000/a/b:1@sha256:aa"),
            ("r.example:5000/a/b@sha256:aa", "r.example:5000/a/b:1@sha256:aa"),
            ("r.example/a:2@sha256:aa", "r.example/a@sha256:aa"),
            ("localhost/x", "localhost/x:latest"),
        ] {
            assert!(fits(job, pool), "{job} is {pool}");
        }
    }

    #[test]
    fn a_digest_says_more_than_a_tag() {
        for (job, pool) in [
            ("r.example/a:1@sha256:bb", "r.example/a:1@sha256:aa"),
            ("r.example/a:1@sha256:aa", "r.example/a:1"),
            ("r.example/a:1", "r.example/a@sha256:aa"),
            ("r.example:5000/a", "r.example/a"),
            ("a/b", "b"),
        ] {
            assert!(!fits(job, pool), "{job} is not {pool}");
        }
    }
}
