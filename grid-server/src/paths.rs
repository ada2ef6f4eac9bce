//! The paths of all methods that a server of ours can have, for metrics.

use std::sync::OnceLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

static PATHS: OnceLock<Vec<String>> = OnceLock::new();

/// `/package.Service/Method` for each method of each protocol.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    PATHS.get_or_init(read).iter().map(String::as_str)
}

fn read() -> Vec<String> {
    let described = [grid_proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files =
        described.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok()).flat_map(|set| set.file);
    files
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let service_name = format!("{package}.{}", service.name());
                service
                    .method
                    .into_iter()
                    .map(move |method| format!("/{service_name}/{}", method.name()))
                    .collect::<Vec<_>>()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_methods_of_the_protocols_are_known() {
        let known: Vec<_> = super::all().collect();
        for path in ["/build.bazel.remote.execution.v2.Execution/Execute", "/grpc.health.v1.Health/Check"] {
            assert!(known.contains(&path), "{path}");
        }
    }
}
