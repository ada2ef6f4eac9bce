//! Bots: they crash, lose their sessions, don't hear answers, fail actions and give them back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use grid_scheduler::engine::BotReport;
use grid_scheduler::history::Usage;
use grid_scheduler::ids::JobId;
use grid_scheduler::properties::Properties;
use grid_scheduler::service::{Poll, Standing};
use grid_scheduler::session::{BotStatus, News, ReportedLease, Session};
use grid_scheduler::transition::Cause;
use tokio::time::{sleep, timeout};

use crate::clients::{ENDS_ITS_WORKER, FAILS};
use crate::{POOL, SESSION, World};

/// A lease as its bot sees it.
struct Held {
    action: Bytes,
    news: News,
}

pub(crate) async fn bot(world: Arc<World>, number: usize) {
    let size = if number == 0 { "large" } else { "small" };
    loop {
        let values = [size.to_owned(), "small".to_owned()];
        let standing = Standing {
            instance: String::new(),
            bot_id: format!("bot-{number}"),
            properties: Properties::from([("size".to_owned(), values.into())]),
            capacity: 1 + u32::try_from(number % 2).unwrap(),
            priority: 0,
            status: BotStatus::Ok,
            worker_pool: POOL.to_owned(),
            node: format!("node-{}", number % 2),
            version: String::new(),
        };
        if let Ok(session) = world.replica().open_session(standing).await {
            serve(&world, &session, number < 2).await;
        }
        // It crashed, or its session was lost.
        sleep(Duration::from_millis(u64::from(world.below(5_000)) + 1)).await;
    }
}

/// One session of a bot, until it crashes or is told that the session is over. A stubborn one goes on, as long as there is
/// trouble, to report what was taken from it; others do so now and then.
async fn serve(world: &World, session: &Session, is_stubborn: bool) {
    let mut running: BTreeMap<(JobId, u32), Held> = BTreeMap::new();
    loop {
        let leases = running.iter().map(|((job, attempt), held)| ReportedLease {
            job: *job,
            attempt: *attempt,
            news: held.news.clone(),
            usage: Usage::default(),
        });
        let report = BotReport {
            session: session.id,
            bot_id: session.bot_id.clone(),
            properties: None,
            capacity: None,
            status: BotStatus::Ok,
            leases: leases.collect(),
            lifetime: SESSION,
        };
        let wait = if running.is_empty() { 20_000 } else { 500 };
        let poll = Poll { wait: Duration::from_millis(wait), when_full: world.below(2) == 0 };
        let answer = timeout(Duration::from_secs(25), async { world.replica().report(report, poll).await });
        let answer = answer.await;
        let is_heard = world.calm() || world.below(10) > 0;
        match answer {
            Ok(Ok(_)) if !is_heard => {}
            Ok(Ok(synced)) => {
                world.shown(&synced);
                let keeps = !world.calm() && (is_stubborn || world.below(2) == 0);
                let is_held = |key| synced.held.iter().any(|j| (j.id, j.state.attempts) == key);
                running.retain(|key, _| keeps || is_held(*key));
                for job in synced.held {
                    let key = (job.id, job.state.attempts);
                    running.entry(key).or_insert(Held { action: job.action, news: News::Running(None) });
                }
            }
            Ok(Err(grid_scheduler::SchedulerError::SessionNotFound(_))) => return,
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(Duration::from_millis(u64::from(world.below(3_000)) + 1)).await;
        let runs = |kind: u8| running.values().any(|held| *held.action == [kind]);
        if !world.calm() && (world.below(30) == 0 || runs(ENDS_ITS_WORKER)) {
            return;
        }
        for ((_, attempt), held) in &mut running {
            let finished = || News::Finished(Bytes::from(attempt.to_string()));
            held.news = match world.below(if world.calm() { 4 } else { 10 }) {
                _ if world.endless.load(Ordering::Relaxed) => News::Running(None),
                _ if !world.calm() && *held.action == [FAILS] => News::Failed(Cause::Internal),
                0..4 => finished(),
                4 => News::Failed(Cause::Internal),
                5 => News::Failed(Cause::GivenBack),
                _ => News::Running(None),
            };
        }
    }
}
