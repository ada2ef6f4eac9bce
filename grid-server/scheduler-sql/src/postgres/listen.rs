//! The other replicas' news: one connection that listens, and comes back after any trouble.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use grid_scheduler::store::Event;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::time::sleep;

use super::news;

/// The channel of the queue's news.
pub(super) const CHANNEL: &str = "grid_queue";

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The news, without end; after each connect it begins with [`Event::Resync`].
pub(super) fn events(pool: PgPool, origin: Arc<str>) -> BoxStream<'static, Event> {
    async_stream::stream! {
        let mut pause = FIRST_PAUSE;
        loop {
            match connect(&pool).await {
                Ok(mut listener) => {
                    pause = FIRST_PAUSE;
                    yield Event::Resync;
                    // `None` says that the connection was lost, and news with it perhaps.
                    while let Ok(Some(notification)) = listener.try_recv().await {
                        if let Some(event) = news::decode(&origin, notification.payload()) {
                            yield event;
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "listening for queue news failed; trying again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    .boxed()
}

async fn connect(pool: &PgPool) -> sqlx::Result<PgListener> {
    // A connection of its own: one from the pool would be missing there for good.
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
