//! [`Instances`]: which instances have a service, and with what.
//!
//! Each service holds one. It refuses names that are not configured, in every service alike, tells clients nothing
//! of the names that are, and asks [`crate::auth`] whether the caller may go on.

use std::collections::HashMap;
use std::sync::Arc;

use grid_core::InstanceName;

use crate::RpcError;

/// A service's instances, each with what the service needs there.
#[derive(Debug)]
pub struct Instances<T> {
    service: &'static str,
    by_name: HashMap<InstanceName, Arc<T>>,
}

impl<T> Clone for Instances<T> {
    fn clone(&self) -> Self {
        Self { service: self.service, by_name: self.by_name.clone() }
    }
}

impl<T> Instances<T> {
    /// The instances of `service`, named as the protocol names it (`ContentAddressableStorage`).
    #[must_use]
    pub fn new(service: &'static str, instances: impl IntoIterator<Item = (InstanceName, Arc<T>)>) -> Self {
        Self { service, by_name: instances.into_iter().collect() }
    }

    /// The instance that a request names, with its validated name.
    ///
    /// # Errors
    /// [`RpcError::UnknownInstance`] where no instance of that name has the service; where the caller may not call
    /// this there, what [`crate::auth::permit`] says.
    pub async fn get(&self, name: &str) -> Result<&Arc<T>, RpcError> {
        self.entry(name).await.map(|(_, instance)| instance)
    }

    /// As [`Instances::get`], with the name as configured.
    ///
    /// # Errors
    /// As [`Instances::get`].
    pub async fn entry(&self, name: &str) -> Result<(&InstanceName, &Arc<T>), RpcError> {
        let found = self.by_name.get_key_value(name).ok_or_else(|| self.unknown(name))?;
        crate::auth::note_instance(found.0);
        crate::auth::permit(name).await?;
        Ok(found)
    }

    /// The names that have the service, in no order.
    pub fn names(&self) -> impl Iterator<Item = &InstanceName> {
        self.by_name.keys()
    }

    /// The instance of this name, whoever asks: for names that are ours, not a caller's.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<&Arc<T>> {
        self.by_name.get(name)
    }

    /// Every instance with its name, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceName, &Arc<T>)> {
        self.by_name.iter()
    }

    /// Whether no instance has the service.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    #[cold]
    fn unknown(&self, name: &str) -> RpcError {
        tracing::debug!(service = self.service, asked = name, known = ?self.by_name.keys(), "unknown instance");
        RpcError::UnknownInstance { name: name.chars().take(255).collect(), service: self.service }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_configured_names_are_answered() {
        let name = InstanceName::new("main/a").unwrap();
        let instances = Instances::new("Test", [(name, Arc::new(7))]);
        assert_eq!(**instances.get("main/a").await.unwrap(), 7);
        for wrong in ["", "main", "main/", "main/a/"] {
            let error = instances.get(wrong).await.unwrap_err();
            assert!(!error.to_string().contains("main/a\""), "other names stay hidden: {error}");
        }
    }
}
