//! A large blob on its way into Redis: piece by piece under a name of its own, which expires if it is forgotten.
//!
//! Each step is a script that knows how far the upload must be: made twice it changes nothing, and a server that lost
//! some of it (a restart, a failover) is noticed rather than trusted.

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use futures::TryStreamExt;
use redis::Script;
use uuid::Uuid;

use crate::content::PIECE;
use crate::redis_client::RedisConnection;
use crate::{ByteStream, StoreError};

/// How long an upload may stand still, in seconds.
const EXPIRY: u32 = 3_600;

/// Appends a piece where the upload is just before or just after it; says how long it is then.
static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local size = redis.call('STRLEN', KEYS[1])
         if size == tonumber(ARGV[1]) then
             size = redis.call('APPEND', KEYS[1], ARGV[2])
             redis.call('EXPIRE', KEYS[1], ARGV[3])
         end
         return size",
    )
});

/// Gives a whole upload its blob's key; says how long what has the key is then.
static COMMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('STRLEN', KEYS[1]) == tonumber(ARGV[1]) then
             redis.call('PERSIST', KEYS[1])
             redis.call('RENAME', KEYS[1], KEYS[2])
         end
         return redis.call('STRLEN', KEYS[2])",
    )
});

pub(super) async fn write(
    connection: &Arc<RedisConnection>,
    key: &str,
    mut content: ByteStream,
) -> Result<(), StoreError> {
    let mut upload = Upload::new(connection);
    let mut piece = BytesMut::with_capacity(PIECE);
    while let Some(mut bytes) = content.try_next().await? {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(PIECE - piece.len()));
            piece.extend_from_slice(&part);
            if piece.len() == PIECE {
                upload.append(&piece).await?;
                piece.clear();
            }
        }
    }
    upload.append(&piece).await?;
    upload.commit(key).await
}

/// An upload; dropped before its end, it is removed.
struct Upload {
    connection: Arc<RedisConnection>,
    key: String,
    size: u64,
    committed: bool,
}

impl Upload {
    fn new(connection: &Arc<RedisConnection>) -> Self {
        let key = format!("grid-upload:{}", Uuid::new_v4());
        Self { connection: Arc::clone(connection), key, size: 0, committed: false }
    }

    async fn append(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let mut script = APPEND.prepare_invoke();
        script.key(&self.key).arg(self.size).arg(piece).arg(EXPIRY);
        self.size += piece.len() as u64;
        let size: u64 = self.connection.script(&script).await?;
        if size == self.size { Ok(()) } else { Err(self.lost()) }
    }

    async fn commit(mut self, key: &str) -> Result<(), StoreError> {
        let mut script = COMMIT.prepare_invoke();
        script.key(&self.key).key(key).arg(self.size);
        let size: u64 = self.connection.script(&script).await?;
        self.committed = true;
        if size == self.size { Ok(()) } else { Err(self.lost()) }
    }

    fn lost(&self) -> StoreError {
        StoreError::Unavailable {
            backend: Arc::clone(self.connection.name()),
            message: "the server lost an upload in the middle".into(),
            retry_after: None,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.committed, tokio::runtime::Handle::try_current()) else { return };
        let (connection, key) = (Arc::clone(&self.connection), std::mem::take(&mut self.key));
        // If this fails, it expires.
        runtime.spawn(async move { connection.command::<()>(&redis::Cmd::unlink(key)).await });
    }
}
