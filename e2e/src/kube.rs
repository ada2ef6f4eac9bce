//! kubectl and helm, on the test cluster or on one that the user has.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::gridcluster::Cluster;
use crate::process::{self, Output};

/// How to reach a cluster.
pub(crate) enum Kube<'a> {
    /// The test cluster.
    Test(&'a Cluster),
    /// A context of the user's kubeconfig.
    Context(String),
}

impl Kube<'_> {
    /// A kubectl command.
    pub(crate) fn kubectl<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.command("kubectl", "--context", arguments)
    }

    /// A helm command.
    pub(crate) fn helm<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command("helm", "--kube-context", arguments)
    }

    fn command<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &str,
        flag: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        match self {
            Kube::Test(cluster) => {
                let mut command = cluster.command([program]);
                command.args(arguments);
                command
            }
            Kube::Context(context) => {
                let mut command = Command::new(program);
                command.args([flag, context]).args(arguments);
                command
            }
        }
    }

    /// Applies a manifest given as text.
    ///
    /// # Errors
    /// Where the API server refuses it: what it said is in the error.
    pub(crate) fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        let output = self.try_apply(namespace, manifest)?;
        if output.success { Ok(()) } else { bail!("kubectl apply: {}\n{manifest}", output.text) }
    }

    /// Applies a manifest and gives what the API server said, whether it accepted it or not.
    ///
    /// # Errors
    /// Where kubectl can't be started.
    pub(crate) fn try_apply(&self, namespace: &str, manifest: &str) -> Result<Output> {
        process::feed(&mut self.kubectl(["apply", "--namespace", namespace, "-f", "-"]), manifest)
    }

    /// Waits for a condition, as `kubectl wait` does; on failure says what the namespace looks like.
    ///
    /// # Errors
    /// Where it does not come true within `seconds`.
    pub(crate) fn wait(&self, namespace: &str, object: &str, condition: &str, seconds: u32) -> Result<()> {
        let limit = format!("--timeout={seconds}s");
        let awaited = format!("--for={condition}");
        let mut command = self.kubectl(["wait", "--namespace", namespace, object, &awaited, &limit]);
        let output = process::capture(&mut command)?;
        if output.success {
            return Ok(());
        }
        bail!("{object} did not reach {condition}: {}\n{}", output.text.trim(), self.describe(namespace))
    }

    /// Waits until no object of these kinds with this label is left.
    ///
    /// # Errors
    /// Where some are left after `seconds`: they are named.
    pub(crate) fn wait_gone(&self, namespace: &str, kinds: &str, label: &str, seconds: u32) -> Result<()> {
        let limit = format!("--timeout={seconds}s");
        let mut wait =
            self.kubectl(["wait", "--namespace", namespace, "--for=delete", &limit, kinds, "-l", label]);
        process::capture(&mut wait)?;
        let mut list = self.kubectl(["get", "--namespace", namespace, kinds, "-l", label, "-o", "name"]);
        let left = process::output(&mut list)?;
        anyhow::ensure!(left.trim().is_empty(), "these are left:\n{left}");
        Ok(())
    }

    /// The namespace at a glance, for an error.
    pub(crate) fn describe(&self, namespace: &str) -> String {
        let looks: [&[&str]; 4] = [
            &["get", "grid,cas,pool,pods,jobs,pvc", "-o", "wide"],
            &[
                "get",
                "grid,cas,pool",
                "-o",
                "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.status.conditions}{\"\\n\"}{end}",
            ],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "--all-containers",
                "--prefix",
                "--tail=15",
                "-l",
                "app.kubernetes.io/managed-by=grid-operator",
            ],
        ];
        let mut text = String::new();
        for look in looks {
            let mut command = self.kubectl(["--namespace", namespace]);
            if let Ok(output) = process::capture(command.args(look)) {
                text.push_str(&output.text);
                text.push('\n');
            }
        }
        text
    }

    /// An object as JSON.
    ///
    /// # Errors
    /// Where it is not there.
    pub(crate) fn get(&self, namespace: &str, object: &str) -> Result<Value> {
        let text =
            process::output(&mut self.kubectl(["get", "--namespace", namespace, object, "-o", "json"]))?;
        serde_json::from_str(&text).with_context(|| format!("{object}: not JSON"))
    }

    /// The data of a ConfigMap.
    ///
    /// # Errors
    /// Where it is not there or has none.
    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>> {
        let object = self.get(namespace, &format!("configmap/{name}"))?;
        let data = object["data"].as_object().with_context(|| format!("ConfigMap {name} has no data"))?;
        Ok(data.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect())
    }

    /// Makes a namespace, where it is not there, under this Pod Security Standard.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub(crate) fn namespace(&self, name: &str, standard: &str) -> Result<()> {
        self.apply(
            "default",
            &format!(
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    pod-security.kubernetes.io/enforce: {standard}\n"
            ),
        )
    }

    /// Installs a chart, or upgrades it to this one, with these values. `build` names what is in the images: another build
    /// under the same tag replaces the operator's pods.
    ///
    /// # Errors
    /// Where helm fails.
    pub(crate) fn install(&self, chart: &Path, values: &[&str], build: &str) -> Result<()> {
        let build = format!("podAnnotations.build={build}");
        let mut command = self.helm(["upgrade", "--install", "grid-operator"]);
        command.arg(chart).args([
            "--namespace",
            "grid-system",
            "--create-namespace",
            "--wait",
            "--timeout",
            "3m",
        ]);
        process::run(command.args(["--set", &values.join(","), "--set-string", &build]))
    }
}
