//! A database that is gone, slow, or has no connection left: calls wait, and nothing is lost or run twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{Coded as _, ErrorCode};
use grid_scheduler::simulation::load::{self, Asker};
use grid_scheduler::{Scheduler, SchedulerOptions, Watch};
use grid_scheduler_sql::testing::Postgres;
use grid_scheduler_sql::{Database, DatabaseOptions, PostgresQueue, migrate};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Bot, PATIENCE, finished, postgres, replica};

/// Long enough to be seen to wait.
const SHORT: Duration = Duration::from_millis(500);

/// A bot that runs one action, whatever becomes of its calls; gives which attempt that was.
fn one_action(bot: Bot) -> JoinHandle<u32> {
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let report =
                load::report(&bot.session, bot.scheduler.lifetime(), held.iter().map(finished).collect());
            let poll = grid_scheduler::service::Poll { wait: Duration::from_secs(5), when_full: false };
            match bot.scheduler.report(report, poll).await {
                Ok(synced) => match held.first() {
                    None => held = synced.held,
                    Some(job) => return job.state.attempts,
                },
                Err(error) => assert_eq!(error.code(), ErrorCode::Unavailable, "{error}"),
            }
        }
    })
}

/// It is told its end, and was run once.
async fn ends(mut watch: Watch, bot: JoinHandle<u32>) {
    let told = async {
        while !watch.view().is_final() {
            watch.changed().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    assert_eq!(timeout(PATIENCE, bot).await.unwrap().unwrap(), 1);
}

/// A client that asks until it is answered.
pub(crate) fn asked(scheduler: &Arc<Scheduler>, action: &[u8]) -> JoinHandle<Watch> {
    let (scheduler, action) = (Arc::clone(scheduler), Bytes::copy_from_slice(action));
    tokio::spawn(async move {
        loop {
            let request = Asker::new("invocation").request(&scheduler, action.clone()).await;
            match request {
                Ok(request) => match scheduler.execute(request).await {
                    Ok(watch) => return watch,
                    Err(error) => assert_eq!(error.code(), ErrorCode::Unavailable, "{error}"),
                },
                Err(error) => assert_eq!(error.code(), ErrorCode::Unavailable, "{error}"),
            }
        }
    })
}

#[tokio::test]
async fn a_database_that_is_gone_is_waited_for_and_then_told_to_be() {
    let database = tokio::task::spawn_blocking(|| Arc::new(Postgres::start(&["-F"]))).await.unwrap();
    let opened = Database::open(&database.create("queue"), DatabaseOptions::default()).await.unwrap();
    migrate::migrate(&opened).await.unwrap();
    let Database::Postgres(pool) = opened else { unreachable!() };
    let options = SchedulerOptions { patience: Duration::from_secs(2), ..SchedulerOptions::default() };
    let scheduler = replica(PostgresQueue::new(pool), &options);
    let bot = one_action(Bot::open(&scheduler, "bot", 1).await);
    let request = Asker::new("early").request(&scheduler, b"early".as_slice().into()).await.unwrap();

    let stopped = Arc::clone(&database);
    tokio::task::spawn_blocking(move || stopped.stop()).await.unwrap();
    let refused = timeout(PATIENCE, scheduler.execute(request)).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
    assert!(refused.retry_after().is_some(), "a client is told when to come again");

    // Whoever asks while it starts is served when it has.
    let watch = asked(&scheduler, b"action");
    let _database = tokio::task::spawn_blocking(move || {
        database.launch(&["-F"]);
        database
    })
    .await
    .unwrap();
    ends(timeout(PATIENCE, watch).await.unwrap().unwrap(), bot).await;
}

#[tokio::test]
async fn without_a_free_connection_calls_wait_for_one() {
    let Database::Postgres(pool) = testing_with(DatabaseOptions {
        max_connections: 4,
        acquire_timeout: Duration::from_millis(200),
        ..DatabaseOptions::default()
    })
    .await
    else {
        unreachable!()
    };
    let scheduler = replica(PostgresQueue::new(pool.clone()), &SchedulerOptions::default());
    let bot = one_action(Bot::open(&scheduler, "bot", 1).await);
    // One is told of the requirement before: what is tried here is the call itself.
    let request = Asker::new("invocation").request(&scheduler, b"action".as_slice().into()).await.unwrap();
    let taken = all_connections(&pool).await;
    let waiting = tokio::spawn(async move { scheduler.execute(request).await.unwrap() });
    tokio::pin!(waiting);
    assert!(timeout(SHORT, &mut waiting).await.is_err(), "there was no connection to accept it by");
    drop(taken);
    ends(timeout(PATIENCE, waiting).await.unwrap().unwrap(), bot).await;
}

async fn testing_with(options: DatabaseOptions) -> Database {
    let url = tokio::task::spawn_blocking(grid_scheduler_sql::testing::postgres_url).await.unwrap();
    let database = Database::open(&url, options).await.unwrap();
    migrate::migrate(&database).await.unwrap();
    database
}

async fn all_connections(pool: &PgPool) -> Vec<sqlx::pool::PoolConnection<sqlx::Postgres>> {
    let mut taken = Vec::new();
    while let Ok(connection) = pool.acquire().await {
        taken.push(connection);
    }
    taken
}

#[tokio::test]
async fn a_database_that_is_slow_is_waited_for() {
    let pool = postgres().await;
    let scheduler = replica(PostgresQueue::new(pool.clone()), &SchedulerOptions::default());
    let bot = one_action(Bot::open(&scheduler, "bot", 1).await);
    let mut slow = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").execute(&mut *slow).await.unwrap();
    let waiting = asked(&scheduler, b"action");
    tokio::pin!(waiting);
    assert!(timeout(SHORT, &mut waiting).await.is_err(), "nothing can be stored while the table is locked");
    slow.rollback().await.unwrap();
    ends(timeout(PATIENCE, waiting).await.unwrap().unwrap(), bot).await;
}
