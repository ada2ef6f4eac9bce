//! The chart limited to one namespace, both of its namespaces under the strictest Pod Security Standard, and what its operator
//! and the grid's pods may not do there.

use anyhow::{Result, ensure};

use crate::kube::Kube;
use crate::{environment, grid, process};

/// Where the operator runs, and its release.
const OPERATOR: (&str, &str) = ("limited-system", "limited");
/// What it watches.
const WATCHED: &str = "limited-builds";
/// What neither an operator of one namespace may do nor one of the whole cluster: verb, resource, namespace.
const NEVER: [(&str, &str, &str); 10] = [
    ("create", "pods", WATCHED),
    ("create", "pods/exec", WATCHED),
    ("create", "roles.rbac.authorization.k8s.io", WATCHED),
    ("create", "rolebindings.rbac.authorization.k8s.io", WATCHED),
    ("delete", "buildgrids.grid.build", WATCHED),
    ("delete", "persistentvolumeclaims", WATCHED),
    ("patch", "nodes", ""),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""),
    ("delete", "namespaces", ""),
    ("impersonate", "users", ""),
];
/// What it may not do beyond its namespace.
const ELSEWHERE: [(&str, &str, &str); 6] = [
    ("get", "secrets", "kube-system"),
    ("list", "secrets", "default"),
    ("list", "buildgrids.grid.build", "default"),
    ("create", "deployments.apps", "default"),
    ("list", "nodes", ""),
    ("get", "secrets", OPERATOR.0),
];
/// What a grid's own pods may not do, though their account were to be had.
const PODS: [(&str, &str, &str); 3] =
    [("get", "secrets", WATCHED), ("list", "pods", WATCHED), ("list", "buildgrids.grid.build", WATCHED)];

/// An operator of one namespace brings a grid up there, passes `helm test`, and has no right that it doesn't need; nor has the
/// operator of the whole cluster.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn limited() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let kube = Kube::Test(&cluster);
    refused(&kube, ("grid-system", "grid-operator"), &NEVER)?;
    // It would look after the same namespace; the CRDs stay.
    let whole = ["uninstall", "grid-operator", "--namespace", "grid-system", "--wait", "--timeout", "3m"];
    process::run(&mut kube.helm(whole))?;
    let shown = in_one_namespace(&kube);
    let cleared = clear(&kube);
    let restored = grid::install(&kube, "localhost");
    shown.and(cleared).and(restored)
}

fn in_one_namespace(kube: &Kube<'_>) -> Result<()> {
    let (namespace, release) = OPERATOR;
    clear(kube)?;
    kube.namespace(namespace, "restricted")?;
    kube.namespace(WATCHED, "restricted")?;
    let chart = environment::root().join("charts/grid-operator");
    let values = format!("image.registry=localhost,crds.enabled=false,watchNamespace={WATCHED}");
    let install = ["install", release, &*chart.to_string_lossy(), "--namespace", namespace, "--set", &values];
    process::run(kube.helm(install).args(["--wait", "--timeout", "3m"]))?;
    process::run(&mut kube.helm(["test", release, "--namespace", namespace, "--timeout", "2m"]))?;
    kube.apply(WATCHED, &grid::example("minimal.yaml", "localhost")?)?;
    kube.wait(WATCHED, "grid/grid", "condition=Ready", 180)?;
    refused(kube, OPERATOR, &NEVER)?;
    refused(kube, OPERATOR, &ELSEWHERE)?;
    refused(kube, (WATCHED, "grid"), &PODS)
}

/// Asks the API server whether an account has these rights, which it must not.
fn refused(kube: &Kube<'_>, (namespace, account): (&str, &str), rights: &[(&str, &str, &str)]) -> Result<()> {
    let account = format!("system:serviceaccount:{namespace}:{account}");
    for (verb, resource, place) in rights {
        let mut asked = kube.kubectl(["auth", "can-i", verb, resource, "--as", &account]);
        if !place.is_empty() {
            asked.args(["--namespace", place]);
        }
        let answer = process::capture(&mut asked)?;
        let is_no = !answer.success && answer.text.lines().any(|line| line.starts_with("no"));
        ensure!(is_no, "{account} may {verb} {resource} in {place:?}: {}", answer.text);
    }
    Ok(())
}

fn clear(kube: &Kube<'_>) -> Result<()> {
    let (namespace, release) = OPERATOR;
    let all = ["delete", "--namespace", WATCHED, "--ignore-not-found", "--wait", "--timeout=180s"];
    process::run(kube.kubectl(all).args(["pool,grid,cas", "--all"]))?;
    let gone = ["uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"];
    process::run(&mut kube.helm(gone))?;
    let namespaces = ["delete", "namespace", namespace, WATCHED, "--ignore-not-found", "--timeout=180s"];
    process::run(&mut kube.kubectl(namespaces))
}
