//! [`Policy`]: what a caller may do where.

use std::collections::HashSet;

use super::{Acl, Followed, Identity, UPDATE_ACTION_RESULT};
use crate::RpcError;

use std::sync::Arc;

/// The methods that decide what others build on.
const RECORDING: [&str; 3] = [
    UPDATE_ACTION_RESULT,
    "/build.bazel.remote.asset.v1.Push/PushBlob",
    "/build.bazel.remote.asset.v1.Push/PushDirectory",
];

/// The rules of a server.
///
/// Without an ACL every authenticated caller may call everything, but this: in an instance with execution the scheduler
/// alone records results, and nobody says what an asset is, so that no client can poison what others build on. Subjects
/// that are trusted with it are named.
#[derive(Debug, Default)]
pub struct Policy {
    /// BuildGrid's ACL, where there is one; it then decides alone.
    pub acl: Option<Followed<Acl>>,
    /// Instances that anyone may use, known or not (`allow-unauthenticated-instances`).
    pub unauthenticated_instances: HashSet<String>,
    /// Instances with execution.
    pub execution_instances: HashSet<String>,
    /// Subjects that may record results and push assets there.
    pub cache_writers: HashSet<String>,
}

impl Policy {
    /// Whether anyone may use `instance`, known or not.
    #[must_use]
    pub fn is_open(&self, instance: &str) -> bool {
        self.unauthenticated_instances.contains(instance)
    }

    /// Whether `caller` may call `method`, by its path `/SERVICE/METHOD`, in `instance`.
    ///
    /// # Errors
    /// [`RpcError::Unauthenticated`], [`RpcError::PermissionDenied`]; or why the caller can't be known.
    pub fn permit(
        &self,
        instance: &str,
        method: &str,
        caller: &Result<Arc<Identity>, RpcError>,
    ) -> Result<(), RpcError> {
        let open = self.is_open(instance);
        let nobody = Arc::default();
        let identity = match caller {
            Ok(identity) => identity,
            Err(_) if open => &nobody,
            Err(unknown) => return Err(unknown.clone()),
        };
        let permitted = match &self.acl {
            Some(acl) => acl.current().permits(instance, short(method), identity),
            None => {
                open || !RECORDING.contains(&method)
                    || !self.execution_instances.contains(instance)
                    || self.cache_writers.contains(&identity.subject)
            }
        };
        if permitted { Ok(()) } else { Err(denied()) }
    }

    /// Whether `caller`, who must be known, may call `method` of a service for administrators.
    ///
    /// # Errors
    /// As [`Policy::permit`].
    pub fn administers(
        &self,
        instance: &str,
        method: &str,
        caller: &Result<Arc<Identity>, RpcError>,
    ) -> Result<(), RpcError> {
        let identity = caller.as_ref().map_err(Clone::clone)?;
        let granted = |acl: &Followed<Acl>| acl.current().permits(instance, short(method), identity);
        if self.acl.as_ref().is_none_or(granted) { Ok(()) } else { Err(denied()) }
    }
}

fn denied() -> RpcError {
    RpcError::PermissionDenied("Not permitted to make this request".into())
}

/// The method's name without its service, as ACLs have it.
fn short(method: &str) -> &str {
    method.rsplit('/').next().unwrap_or(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(subject: &str) -> Result<Arc<Identity>, RpcError> {
        Ok(Arc::new(Identity { subject: subject.into(), ..Identity::default() }))
    }

    #[test]
    fn only_named_subjects_record_results_beside_the_scheduler() {
        let policy = Policy {
            execution_instances: ["main".into()].into(),
            cache_writers: ["ci".into()].into(),
            ..Policy::default()
        };
        let update = |instance, subject| policy.permit(instance, UPDATE_ACTION_RESULT, &known(subject));
        assert!(update("main", "ci").is_ok());
        assert!(matches!(update("main", "dev"), Err(RpcError::PermissionDenied(_))));
        assert!(update("cache-only", "dev").is_ok());
        for method in &RECORDING[1..] {
            assert!(policy.permit("main", method, &known("ci")).is_ok());
            assert!(policy.permit("main", method, &known("dev")).is_err(), "{method}");
            assert!(policy.permit("artifacts", method, &known("dev")).is_ok());
        }
        assert!(policy.permit("main", "/build.bazel.remote.asset.v1.Fetch/FetchBlob", &known("dev")).is_ok());
        assert!(
            policy
                .permit("main", "/build.bazel.remote.execution.v2.ActionCache/GetActionResult", &known("dev"))
                .is_ok()
        );
    }

    #[test]
    fn strangers_use_only_instances_that_say_so() {
        let policy = Policy { unauthenticated_instances: ["open".into()].into(), ..Policy::default() };
        let stranger = Err(RpcError::Unauthenticated("no".into()));
        assert!(policy.permit("open", "Execute", &stranger).is_ok());
        assert!(matches!(policy.permit("main", "Execute", &stranger), Err(RpcError::Unauthenticated(_))));
    }
}
