//! Who a bot is, and how its session describes that to the server.
//!
//! Neighbour: `session` says it with every report.

use std::time::Duration;

use grid_proto::rwapi::{Device, Worker, device, worker};

/// Who the bot is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The instance it works for.
    pub instance: String,
    /// Its name, unique in the grid.
    pub bot_id: String,
    /// Platform properties: keys may repeat.
    pub properties: Vec<(String, String)>,
    /// The worker pool that it is of; empty where it is of none.
    pub pool: String,
    /// The node that it runs on; empty where that is unknown.
    pub node: String,
    /// How many leases it takes at once.
    pub capacity: usize,
    /// How long the server may hold a call while there is nothing to say.
    pub poll: Duration,
}

impl Identity {
    /// The worker as a session describes it.
    pub(super) fn worker(&self) -> Worker {
        let properties = self.properties.iter();
        let device = Device {
            handle: self.bot_id.clone(),
            properties: properties
                .map(|(key, value)| device::Property { key: key.clone(), value: value.clone() })
                .collect(),
        };
        Worker { devices: vec![device], configs: self.configs(), ..Worker::default() }
    }

    /// What the server is told beside the platform: the words are Fleet's (`grid.fleet.v1alpha1`), and servers that
    /// don't know them leave them alone.
    fn configs(&self) -> Vec<worker::Config> {
        let capacity = self.capacity.to_string();
        let told = [
            ("capacity", capacity.as_str()),
            ("pool", &self.pool),
            ("node", &self.node),
            ("version", env!("CARGO_PKG_VERSION")),
            // A full worker wants to hear at once of leases that are cancelled, and of drains.
            ("long-poll", "always"),
        ];
        let said = told.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(key, value)| worker::Config { key: key.to_owned(), value: value.to_owned() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_says_of_which_pool_and_node_it_is() {
        let identity = |pool: &str, node: &str| Identity {
            instance: String::new(),
            bot_id: "gcc-0".into(),
            properties: vec![],
            pool: pool.into(),
            node: node.into(),
            capacity: 3,
            poll: Duration::from_secs(60),
        };
        let value = |identity: &Identity, key: &str| {
            identity.worker().configs.into_iter().find(|config| config.key == key).map(|config| config.value)
        };
        let pooled = identity("builds/gcc", "node-1");
        for (key, expected) in
            [("capacity", "3"), ("pool", "builds/gcc"), ("node", "node-1"), ("long-poll", "always")]
        {
            assert_eq!(value(&pooled, key).as_deref(), Some(expected), "{key}");
        }
        let alone = identity("", "");
        assert_eq!((value(&alone, "pool"), value(&alone, "node")), (None, None), "nothing unknown is said");
    }
}
