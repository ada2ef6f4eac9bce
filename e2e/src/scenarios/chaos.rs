//! Everything is killed at random while builds run, and leaders are stopped for longer than their Lease.
//!
//! `GRID_CHAOS_MINUTES` says for how long, thirty where it is not given; `GRID_CHAOS_SEED` which faults.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::builds::{self, Course};
use super::on_cluster::TestGrid;
use crate::gridcluster::Cluster;
use crate::{grid, operator, pods, process, reference, wait};

/// Longer than the Lease of 15 s.
const STOPPED: Duration = Duration::from_secs(20);
/// How long a leader that goes on has for what it was about to write.
const LATE: Duration = Duration::from_secs(15);
/// Parts of the control plane that may be killed.
const PARTS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];
/// What the operator writes, and nobody else changes without a change of the generation or of the data.
const WRITTEN: &str =
    "deployments,statefulsets,services,ingresses,networkpolicies,configmaps,secrets,poddisruptionbudgets";

/// Builds run all the time while processes of the grid, of its database, of the operator and of the control plane are
/// killed one after the other, pods are deleted, and leaders are stopped past their Lease while another one acts on a
/// change: no late write takes effect, no build fails, and in the end all is as it was asked for.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn chaos() -> Result<()> {
    let number = |name: &str, default| std::env::var(name).map_or(Ok(default), |text| text.parse::<u64>());
    let (minutes, seed) = (number("GRID_CHAOS_MINUTES", 30)?, number("GRID_CHAOS_SEED", 1)?);
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "chaos-test", &["postgres.yaml"], "postgres.yaml")?;
    operator::replicas(&test.kube, 2)?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let mut chaos = Chaos { test: &test, cluster: &cluster, state: seed, stops: 0 };
    builds::meanwhile(&mut workspace, &clients, &[], |course| {
        chaos.go_on(course, Instant::now() + Duration::from_secs(60 * minutes))
    })?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    test.settled()?;
    operator::replicas(&test.kube, 1)?;
    test.delete()
}

struct Chaos<'a> {
    test: &'a TestGrid<'a>,
    cluster: &'a Cluster,
    /// Of the sequence of random numbers.
    state: u64,
    /// Leaders that were stopped so far.
    stops: i64,
}

impl Chaos<'_> {
    fn go_on(&mut self, course: &Course, end: Instant) -> Result<()> {
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        while Instant::now() < end {
            course.expect_running()?;
            let fault = match self.below(8) {
                0..3 => self.kill_process()?,
                3..5 => self.delete_pod()?,
                5 => self.restart_part()?,
                6 => {
                    operator::kill_leader(&self.test.kube)?;
                    "a leader killed"
                }
                _ => self.stop_leader()?,
            };
            *faults.entry(fault).or_default() += 1;
            self.test.settled().with_context(|| format!("after {fault}"))?;
        }
        // A short run has its late writer too.
        if self.stops == 0 {
            self.stop_leader()?;
        }
        println!("    {faults:?}");
        Ok(())
    }

    /// A number below `end`, by SplitMix64.
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap_or_default()
    }

    /// A pod of the grid, with what runs in it.
    fn victim(&mut self) -> Result<(String, &'static str)> {
        let ours = "app.kubernetes.io/managed-by=grid-operator,!batch.kubernetes.io/job-name";
        let mut victims = Vec::new();
        for pod in pods::names(&self.test.kube, self.test.namespace, ours)? {
            if pod.contains("-worker-") {
                victims.push((pod.clone(), "grid-runner"));
                victims.push((pod, "grid-worker"));
            } else {
                victims.push((pod, "grid-server"));
            }
        }
        victims.push(("postgres-0".to_owned(), "postgres"));
        let chosen = self.below(victims.len());
        Ok(victims.swap_remove(chosen))
    }

    fn kill_process(&mut self) -> Result<&'static str> {
        let (pod, program) = self.victim()?;
        pods::kill(&self.test.kube, self.test.namespace, &pod, program)?;
        Ok(program)
    }

    fn delete_pod(&mut self) -> Result<&'static str> {
        let (pod, _) = self.victim()?;
        self.test.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"])?;
        if pod == "postgres-0" {
            self.test.kubectl(&["rollout", "status", "statefulset/postgres", "--timeout=120s"])?;
        }
        Ok("a pod deleted")
    }

    fn restart_part(&mut self) -> Result<&'static str> {
        let part = PARTS[self.below(PARTS.len())];
        process::run(&mut self.cluster.command(["restart", part]))?;
        Ok(part)
    }

    /// Stops the leader, asks for a change, which the next one makes, and lets the first one go on: what is written stays.
    fn stop_leader(&mut self) -> Result<&'static str> {
        let kube = &self.test.kube;
        let old = operator::leader(kube)?;
        pods::signal(kube, operator::NAMESPACE, &old, "grid-operator", "STOP")?;
        self.stops += 1;
        // The first change is what it is at when it is stopped for good; the second one is the next leader's.
        self.ask(self.stops * 2)?;
        wait::pause(STOPPED);
        // The kubelet ends what answers no probe for a minute, so only this is waited for.
        let acted = operator::other_leader(kube, &old).and_then(|_| {
            self.ask(self.stops * 2 + 1)?;
            wait::until("the next leader acts", 30, || self.has_acted(self.stops * 2 + 1))
        });
        let before = acted.and_then(|()| self.written());
        pods::signal(kube, operator::NAMESPACE, &old, "grid-operator", "CONT")?;
        let before = before?;
        wait::pause(LATE);
        let after = self.written()?;
        for (name, version) in &before {
            ensure!(after.get(name) == Some(version), "{name} was written late by a leader that was stopped");
        }
        Ok("a leader stopped past its Lease")
    }

    /// Asks for something that the operator applies.
    fn ask(&self, turn: i64) -> Result<()> {
        let metadata = json!({"annotations": {"example.org/turn": turn.to_string()}});
        self.test.patch("pool/gcc14", &json!({"spec": {"podTemplate": {"metadata": metadata}}}))
    }

    /// Whether the operator has applied it.
    fn has_acted(&self, turn: i64) -> Result<bool> {
        let deployment = self.test.kube.get(self.test.namespace, "deployment/gcc14-worker")?;
        let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
        let turn = turn.to_string();
        Ok(annotations["example.org/turn"] == *turn)
    }

    /// What the operator has written: by name, the generation, or the content where there is none.
    fn written(&self) -> Result<BTreeMap<String, String>> {
        let label = "--selector=app.kubernetes.io/managed-by=grid-operator";
        let list = ["get", "--namespace", self.test.namespace, WRITTEN, label, "-o", "json"];
        let list: Value = serde_json::from_str(&process::output(&mut self.test.kube.kubectl(list))?)?;
        let items = list["items"].as_array().context("a list without items")?;
        let described = items.iter().map(|object| {
            let metadata = &object["metadata"];
            let what =
                if metadata["generation"].is_null() { &object["data"] } else { &metadata["generation"] };
            (format!("{}/{}", object["kind"], metadata["name"]), what.to_string())
        });
        Ok(described.collect())
    }
}
