//! A grid's Fleet service as the operator sees it, played by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use grid_operator_controllers::fleet::{
    Bot, Declaration, Demand, Drain, Endpoint, FleetApi, FleetConnector, FleetError, PoolDemand, Reason,
    Target,
};
use tokio::sync::watch;

/// A grid's scheduler, as far as the operator sees it.
#[derive(Clone)]
pub(crate) struct Grid {
    pub(crate) demand: watch::Sender<Option<Demand>>,
    pub(crate) bots: Arc<Mutex<BTreeMap<String, Bot>>>,
    pub(crate) declared: Arc<Mutex<Vec<Declaration>>>,
    pub(crate) drained: Arc<Mutex<BTreeSet<String>>>,
    /// Whether connections are refused.
    pub(crate) is_down: Arc<AtomicBool>,
}

impl Grid {
    /// Says that the pool needs so many slots.
    pub(crate) fn needs(&self, slots: u64) {
        let bots = self.bots.lock().unwrap().len() as u64;
        let pool = PoolDemand {
            required_slots: slots,
            queued: slots,
            oldest: (slots > 0).then(|| Duration::from_secs(60)),
            bots,
            ..PoolDemand::default()
        };
        self.demand
            .send_replace(Some(Demand { pools: vec![("default/gcc".into(), pool)], unplaced: vec![] }));
    }

    /// A worker that has come.
    pub(crate) fn bot(&self, pod: &str, leases: usize) {
        let bot = Bot {
            id: format!("{pod}/0"),
            leases,
            idle_since: None,
            drain: Drain::None,
            reason: Reason::ScaleDown,
            faults: 0,
        };
        self.bots.lock().unwrap().insert(pod.to_owned(), bot);
    }
}

impl FleetConnector for Grid {
    fn connect(&self, endpoint: &Endpoint) -> Result<Arc<dyn FleetApi>, FleetError> {
        assert_eq!(endpoint.url, "http://demo-server.default.svc:50051");
        assert_eq!(endpoint.token, "a-token");
        if self.is_down.load(Ordering::Relaxed) {
            return Err(FleetError("connection refused".to_owned()));
        }
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl FleetApi for Grid {
    async fn declare(&self, declaration: &Declaration, _: u64) -> Result<(), FleetError> {
        self.declared.lock().unwrap().push(declaration.clone());
        Ok(())
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Demand, FleetError>>, FleetError> {
        let stream = tokio_stream::wrappers::WatchStream::new(self.demand.subscribe());
        Ok(stream.filter_map(|demand| async move { demand.map(Ok) }).boxed())
    }

    async fn bots(&self, pool: &str) -> Result<Vec<Bot>, FleetError> {
        assert_eq!(pool, "default/gcc");
        Ok(self.bots.lock().unwrap().values().cloned().collect())
    }

    async fn drain(&self, targets: &[Target], _: Duration, reason: Reason) -> Result<(), FleetError> {
        let nodes = targets.iter().filter_map(|target| match target {
            Target::Node(node) => Some(node.clone()),
            Target::Bot(_) => None,
        });
        self.drained.lock().unwrap().extend(nodes);
        for bot in self.bots.lock().unwrap().values_mut().filter(|bot| is_among(bot, targets)) {
            assert!(bot.leases == 0 || reason != Reason::ScaleDown, "{} runs something", bot.id);
            bot.drain = if bot.leases == 0 { Drain::Done } else { Drain::Going };
            bot.reason = reason;
        }
        Ok(())
    }

    async fn undrain(&self, targets: &[Target]) -> Result<(), FleetError> {
        self.drained.lock().unwrap().retain(|node| !targets.contains(&Target::Node(node.clone())));
        for bot in self.bots.lock().unwrap().values_mut().filter(|bot| is_among(bot, targets)) {
            bot.drain = Drain::None;
        }
        Ok(())
    }

    async fn drained_nodes(&self) -> Result<Vec<String>, FleetError> {
        Ok(self.drained.lock().unwrap().iter().cloned().collect())
    }
}

fn is_among(bot: &Bot, targets: &[Target]) -> bool {
    targets.contains(&Target::Bot(bot.id.clone()))
        || targets.contains(&Target::Node(node_of(bot.pod()).to_owned()))
}

/// Of the first six pods every other one is on a node of its own.
pub(crate) fn node_of(pod: &str) -> &'static str {
    let number: usize = pod.rsplit('-').next().unwrap().parse().unwrap();
    if number < 6 && number % 2 == 1 { "n1" } else { "n0" }
}
