//! Each complete example of a configuration, written for a machine, as the `configFrom` of a grid: it becomes ready, can be
//! reached at the Services' port, and keeps its files on the state volume.

use std::io;
use std::path::Path;

use grid_config::model::{Endpoint, Storage};
use grid_config::{ServerConfig, Surroundings, load};
use serde_json::json;

use crate::golden::{reconcile, through_types};
use crate::model::Model;

/// The examples that are whole documents; the others are fragments.
const COMPLETE: [&str; 5] =
    ["all-in-one", "all-in-one-with-statsd", "cache-alone", "execution-alone", "reference"];

/// A server's pod: its home is the state volume.
struct Pod;

impl Surroundings for Pod {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| "/var/lib/grid".to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        panic!("{} is mounted nowhere", path.display())
    }
}

async fn served(name: &str) -> ServerConfig {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../grid-server/config/tests/fixtures/examples");
    let text = std::fs::read_to_string(folder.join(name).with_extension("yml")).unwrap();
    let model = Model::default();
    let named = |name: &str| json!({"name": name, "namespace": "default"});
    model.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named("own"), "data": {"server.yml": text}}));
    let grid = through_types(
        json!({"apiVersion": "grid.build/v1alpha1", "kind": "BuildGrid", "metadata": named("demo"),
        "spec": {"configFrom": {"name": "own", "key": "server.yml"}, "execution": {"enabled": name != "cache-alone"}}}),
    );
    model.put(grid.clone());
    for _ in 0..5 {
        reconcile(&model, &grid).await;
        model.settle();
    }
    let status = model.object("buildgrids", "demo").unwrap()["status"].clone();
    let ready = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").cloned();
    assert_eq!(ready.unwrap()["status"], "True", "{name}: {status:#}");
    let own = |object: &serde_json::Value| object["metadata"]["name"] != "own";
    let written = model
        .objects()
        .into_values()
        .filter(own)
        .find_map(|o| o["data"]["server.yml"].as_str().map(str::to_owned));
    let loaded = load(&written.unwrap(), &Pod);
    loaded.config.unwrap_or_else(|| panic!("{name}: {:#?}", loaded.diagnostics))
}

#[tokio::test]
async fn each_complete_example_gives_a_grid() {
    for name in COMPLETE {
        let config = served(name).await;
        let reached = Endpoint::Tcp { host: "::".to_owned(), port: 50_051 };
        assert_eq!(config.channels[0].endpoint, reached, "{name}");
        // That one names every path from the root.
        let begins = (name != "reference").then_some(Path::new("/var/lib/grid"));
        assert_eq!(config.working_directory.as_deref(), begins, "{name}");
        for storage in &config.storages {
            if let Storage::Disk(disk) = &storage.value {
                assert_eq!(disk.path, Path::new("/var/lib/grid/cas"), "{name}");
            }
        }
    }
}
