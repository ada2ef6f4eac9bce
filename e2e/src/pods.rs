//! Pods as processes: the nodes of the test cluster run on this machine, so a test can kill a container's process as
//! the kernel would.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::Value;

use crate::kube::Kube;
use crate::{process, wait};

/// Names of the pods with these labels.
///
/// # Errors
/// Where kubectl fails.
pub(crate) fn names(kube: &Kube<'_>, namespace: &str, labels: &str) -> Result<Vec<String>> {
    let list =
        ["get", "--namespace", namespace, "pods", "-l", labels, "-o", "jsonpath={.items[*].metadata.name}"];
    Ok(process::output(&mut kube.kubectl(list))?.split_whitespace().map(str::to_owned).collect())
}

/// Kills (signal 9) every process of the pod that runs `program`, and waits until the pod is ready again with that
/// container started anew.
///
/// # Errors
/// Where there is no such process, or the pod does not come back.
pub(crate) fn kill(kube: &Kube<'_>, namespace: &str, pod: &str, program: &str) -> Result<()> {
    let object = kube.get(namespace, &format!("pod/{pod}"))?;
    let (field, container, restarts) = container(&object, program)?;
    signal(kube, namespace, pod, program, "KILL")?;
    let started =
        format!("jsonpath={{.status.{field}[?(@.name==\"{container}\")].restartCount}}={}", restarts + 1);
    // After some kills, Kubernetes waits for up to five minutes.
    kube.wait(namespace, &format!("pod/{pod}"), &started, 400)?;
    kube.wait(namespace, &format!("pod/{pod}"), "condition=Ready", 120)
}

/// Sends every process of the pod that runs `program` a signal, by the name that `kill` has for it.
///
/// # Errors
/// Where there is no such process.
pub(crate) fn signal(kube: &Kube<'_>, namespace: &str, pod: &str, program: &str, signal: &str) -> Result<()> {
    let object = kube.get(namespace, &format!("pod/{pod}"))?;
    let processes = running(object["metadata"]["uid"].as_str().context("a pod without uid")?, program)?;
    anyhow::ensure!(!processes.is_empty(), "pod {pod} runs no {program}");
    for id in &processes {
        let sent = process::run(Command::new("kill").args([&format!("-{signal}"), id]));
        // A runner's child and a database's session end by themselves, too, or with the one before.
        sent.or_else(|error| if Path::new("/proc").join(id).exists() { Err(error) } else { Ok(()) })?;
    }
    Ok(())
}

/// Kills (signal 9) every process of the pod that runs `program`, and deletes the pod: another one takes its place.
///
/// # Errors
/// Where there is no such process, or it can't be deleted.
pub(crate) fn end(kube: &Kube<'_>, namespace: &str, pod: &str, program: &str) -> Result<()> {
    signal(kube, namespace, pod, program, "KILL")?;
    let delete =
        ["delete", "pod", pod, "--namespace", namespace, "--grace-period=0", "--force", "--wait=false"];
    process::run(&mut kube.kubectl(delete))
}

/// Resident memory in KiB of what runs `program` in the pod: now, and the most that it ever was.
///
/// # Errors
/// Where there is no such process.
pub(crate) fn memory(kube: &Kube<'_>, namespace: &str, pod: &str, program: &str) -> Result<(u64, u64)> {
    let object = kube.get(namespace, &format!("pod/{pod}"))?;
    let processes = running(object["metadata"]["uid"].as_str().context("a pod without uid")?, program)?;
    let process = processes.first().with_context(|| format!("pod {pod} runs no {program}"))?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Waits until one of these servers has a call of this gRPC method under way, and gives its pod.
///
/// # Errors
/// Where none has within a minute.
pub(crate) fn busy(kube: &Kube<'_>, namespace: &str, pods: &[String], method: &str) -> Result<String> {
    let line =
        Regex::new(&format!(r#"(?m)^grid_rpc_in_flight\{{[^}}]*grpc_method="{method}"[^}}]*\}} [1-9]"#))?;
    let mut found = String::new();
    wait::until(&format!("a call of {method} in one of {pods:?}"), 60, || {
        for pod in pods {
            if line.is_match(&metrics(kube, namespace, pod, 8980)?) {
                found.clone_from(pod);
            }
        }
        Ok(!found.is_empty())
    })?;
    Ok(found)
}

/// What a pod tells at `/metrics`; what it says instead where it can't.
///
/// # Errors
/// Where kubectl can't be started.
pub(crate) fn metrics(kube: &Kube<'_>, namespace: &str, pod: &str, port: u16) -> Result<String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
    Ok(process::capture(&mut kube.kubectl(["get", "--raw", &path]))?.text)
}

/// A counter that pods tell at `/metrics`.
pub(crate) struct Count {
    /// The port of their metrics.
    pub(crate) port: u16,
    /// The counter's name.
    pub(crate) series: &'static str,
    /// What is in the labels of the series that are meant.
    pub(crate) labels: &'static str,
}

impl Count {
    /// Waits until the counters of all these pods come to `least` together. A pod that does not answer counts nothing.
    ///
    /// # Errors
    /// Where they have not done so after five minutes.
    pub(crate) fn wait(&self, kube: &Kube<'_>, namespace: &str, pods: &[String], least: u64) -> Result<()> {
        let line = Regex::new(&format!(r"(?m)^{}\{{([^}}]*)\}} (\d+)$", self.series))?;
        wait::until(&format!("{} of {least}", self.series), 300, || {
            let mut sum = 0;
            for pod in pods {
                let text = metrics(kube, namespace, pod, self.port)?;
                let meant = line.captures_iter(&text).filter(|found| found[1].contains(self.labels));
                sum += meant.filter_map(|found| found[2].parse::<u64>().ok()).sum::<u64>();
            }
            Ok(sum >= least)
        })
    }
}

/// The status field, name and restarts of the container whose process is `program`.
fn container(pod: &Value, program: &str) -> Result<(&'static str, String, u64)> {
    for field in ["containerStatuses", "initContainerStatuses"] {
        for status in pod["status"][field].as_array().into_iter().flatten() {
            let name = status["name"].as_str().unwrap_or_default();
            if program.ends_with(name) && status["state"]["running"].is_object() {
                return Ok((field, name.to_owned(), status["restartCount"].as_u64().unwrap_or_default()));
            }
        }
    }
    anyhow::bail!("no running container of the pod is named after {program}: {}", pod["status"])
}

/// Process ids of what runs `program` in the pod's control groups.
fn running(uid: &str, program: &str) -> Result<Vec<String>> {
    let marks = [uid.to_owned(), uid.replace('-', "_")];
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let groups = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let ours = marks.iter().any(|mark| groups.contains(mark));
        let runs = std::fs::read_link(path.join("exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == Path::new(program)));
        if ours && runs {
            found.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(found)
}
