//! [`Provenance`]: which worker executed the results that an action cache holds, and for whom; so that those of a worker
//! that turns out to be bad can be taken back.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use grid_core::{Digest, DigestFunction, Timestamp};
use grid_scheduler_sql::Database;
use sqlx::{QueryBuilder, Row};
use tokio::sync::{mpsc, oneshot};

use crate::StreamsError;
use crate::sql::on;

/// A result that a worker executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The instance whose cache has it.
    pub instance: String,
    /// The action.
    pub action: Digest,
    /// The worker, by its bot's name.
    pub worker: String,
    /// Who asked for it; empty where nobody had to say.
    pub subject: String,
    /// When the result came.
    pub executed_at: Timestamp,
}

/// What of a worker is asked for.
#[derive(Clone, Debug)]
pub struct ExecutedQuery {
    /// The worker.
    pub worker: String,
    /// No earlier.
    pub since: Timestamp,
    /// No later.
    pub until: Timestamp,
    /// Without so many of the oldest.
    pub skip: u32,
    /// At most so many.
    pub limit: u32,
}

/// The records of executed results.
#[async_trait]
pub trait Provenance: Debug + Send + Sync {
    /// Records a result, before a cache has it.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn record(&self, executed: Executed) -> Result<(), StreamsError>;

    /// What a worker executed, the oldest first.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn of_worker(&self, query: &ExecutedQuery) -> Result<Vec<Executed>, StreamsError>;

    /// Forgets records: those of exactly these executions.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn forget(&self, executed: &[Executed]) -> Result<(), StreamsError>;

    /// Forgets what was executed before; tells how many.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

/// How many records go into the database at once, and how many wait.
const BATCH: usize = 256;

type Waiting = (Executed, oneshot::Sender<Result<(), Arc<sqlx::Error>>>);

/// Records in a database. Those that come while others are written are written together.
#[derive(Clone, Debug)]
pub struct SqlProvenance {
    database: Database,
    records: mpsc::Sender<Waiting>,
}

impl SqlProvenance {
    /// Records in `database`, whose schema is up to date. Must be called within a runtime.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let (records, waiting) = mpsc::channel(BATCH);
        tokio::spawn(write(database.clone(), waiting));
        Self { database, records }
    }
}

/// Writes what waits, until nobody can add to it.
async fn write(database: Database, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (executed, told): (Vec<Executed>, Vec<_>) = batch.drain(..).unzip();
        let written = insert(&database, executed).await.map_err(Arc::new);
        for told in told {
            // Whoever asked may have gone.
            let _ = told.send(written.clone());
        }
    }
}

async fn insert(database: &Database, executed: Vec<Executed>) -> Result<(), sqlx::Error> {
    const INTO: &str = "INSERT INTO executed_results (instance, action, worker, subject, executed_at) ";
    const AGAIN: &str = " ON CONFLICT (instance, action, worker) DO UPDATE \
        SET subject = excluded.subject, executed_at = excluded.executed_at";
    // One statement must not touch a row twice.
    let rows: BTreeMap<(String, String, String), (String, i64)> = executed
        .into_iter()
        .map(|one| ((one.instance, text(&one.action), one.worker), (one.subject, one.executed_at.0)))
        .collect();
    on!(database, pool => {
        let mut sql = QueryBuilder::new(INTO);
        sql.push_values(&rows, |mut row, ((instance, action, worker), (subject, at))| {
            row.push_bind(instance).push_bind(action).push_bind(worker).push_bind(subject).push_bind(at);
        });
        sql.push(AGAIN).build().execute(pool).await.map(|_| ())?;
    });
    Ok(())
}

fn text(digest: &Digest) -> String {
    format!("{}/{digest}", digest.function())
}

/// A digest that can't be read was written by a version that knew more functions: not there for us.
fn parse(text: &str) -> Option<Digest> {
    let (function, digest) = text.split_once('/')?;
    Digest::parse_text(Some(DigestFunction::from_name(function)?), digest).ok()
}

#[async_trait]
impl Provenance for SqlProvenance {
    async fn record(&self, executed: Executed) -> Result<(), StreamsError> {
        let (told, written) = oneshot::channel();
        let ended = || StreamsError::Database(sqlx::Error::WorkerCrashed);
        self.records.send((executed, told)).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?.map_err(StreamsError::Shared)
    }

    async fn of_worker(&self, query: &ExecutedQuery) -> Result<Vec<Executed>, StreamsError> {
        const SQL: &str = "SELECT instance, action, subject, executed_at FROM executed_results \
            WHERE worker = $1 AND executed_at >= $2 AND executed_at <= $3 \
            ORDER BY executed_at, instance, action LIMIT $4 OFFSET $5";
        on!(&self.database, pool => {
            let rows = sqlx::query(SQL).bind(&query.worker).bind(query.since.0).bind(query.until.0)
                .bind(i64::from(query.limit)).bind(i64::from(query.skip)).fetch_all(pool).await?;
            let read = |row: &_| Some(Executed {
                instance: Row::get(row, 0),
                action: parse(&Row::get::<String, _>(row, 1))?,
                worker: query.worker.clone(),
                subject: Row::get(row, 2),
                executed_at: Timestamp(Row::get(row, 3)),
            });
            Ok(rows.iter().filter_map(read).collect())
        })
    }

    async fn forget(&self, executed: &[Executed]) -> Result<(), StreamsError> {
        const SQL: &str = "DELETE FROM executed_results \
            WHERE instance = $1 AND action = $2 AND worker = $3 AND executed_at = $4";
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            for one in executed {
                sqlx::query(SQL).bind(&one.instance).bind(text(&one.action)).bind(&one.worker)
                    .bind(one.executed_at.0).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
        });
        Ok(())
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM executed_results WHERE executed_at < $1";
        Ok(on!(&self.database, pool => sqlx::query(SQL).bind(before.0).execute(pool).await?.rows_affected()))
    }
}
