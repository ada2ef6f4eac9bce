//! Whatever the operator tells a worker or a runner, in arguments or environment, the programs know.

use std::path::Path;

use clap::{Args, CommandFactory, Parser};
use grid_worker::config::Settings;
use grid_worker::runner::serve::ServeOptions;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;

/// The containers of the golden pools, with where they are from.
fn containers() -> Vec<(String, Container)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found = vec![];
    for case in std::fs::read_dir(folder).unwrap() {
        let path = case.unwrap().path().join("objects.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value = <serde_json::Value as serde::Deserialize>::deserialize(document).unwrap();
            if value["kind"] != "Deployment" || value["metadata"]["labels"]["grid.build/kind"] != "WorkerPool"
            {
                continue;
            }
            let deployment: Deployment = serde_json::from_value(value).unwrap();
            let pod = deployment.spec.unwrap().template.spec.unwrap();
            let all = pod.containers.into_iter().chain(pod.init_containers.into_iter().flatten());
            found.extend(all.map(|container| (path.display().to_string(), container)));
        }
    }
    found
}

#[test]
fn workers_know_their_arguments_and_environment() {
    let command = Settings::command();
    let known: Vec<&str> = command.get_arguments().filter_map(|a| a.get_env()?.to_str()).collect();
    let mut seen = 0;
    for (path, worker) in containers().into_iter().filter(|(_, container)| container.name == "worker") {
        let arguments = std::iter::once("grid-worker".to_owned()).chain(worker.args.unwrap());
        let settings = Settings::try_parse_from(arguments).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(settings.token_file.is_some(), "{path}: without a token nobody lets it in");
        let names: Vec<String> = worker.env.unwrap().into_iter().map(|variable| variable.name).collect();
        for name in names.iter().filter(|name| name.starts_with("GRID_")) {
            assert!(known.contains(&name.as_str()), "{path}: grid-worker knows no {name}");
        }
        for needed in ["GRID_WORKER_POOL", "GRID_WORKER_NODE"] {
            assert!(names.iter().any(|name| name == needed), "{path}: Fleet drains nothing without {needed}");
        }
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} workers");
}

#[test]
fn runners_know_their_arguments() {
    let mut modes = vec![];
    for (path, runner) in containers().into_iter().filter(|(_, container)| container.name == "runner") {
        let mut words = runner.command.unwrap().into_iter();
        assert_eq!(
            (words.next().as_deref(), words.next().as_deref()),
            (Some("/grid-bin/grid-runner"), Some("serve"))
        );
        let command = ServeOptions::augment_args(clap::Command::new("serve"));
        let arguments = std::iter::once("serve".to_owned()).chain(words);
        let parsed =
            command.try_get_matches_from(arguments).unwrap_or_else(|error| panic!("{path}: {error}"));
        modes.push(parsed.get_raw("isolation").map(|mut mode| mode.next().unwrap().to_owned()));
    }
    for mode in ["bubblewrap", "chroot"] {
        assert!(modes.contains(&Some(mode.into())), "{mode} is in no golden folder");
    }
}
