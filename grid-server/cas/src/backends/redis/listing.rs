//! What the server holds, by `SCAN`: keys of others are passed over.

use async_trait::async_trait;
use futures::stream;
use grid_core::{Clock, Digest, SystemClock};

use super::{KEYS, Redis};
use crate::StoreError;
use crate::inventory::{Inventory, Pages, Stored};
use crate::redis_client::keys;

impl Redis {
    /// The page at a cursor, and the next cursor: 0 after the last.
    async fn page(&self, cursor: u64) -> Result<(u64, Vec<Stored>), StoreError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(KEYS).arg("TYPE").arg("string");
        let (next, names): (u64, Vec<Vec<u8>>) = self.connection.command(&scan).await?;
        let digest = |name: &Vec<u8>| keys::to_blob(self.form.plain_name(std::str::from_utf8(name).ok()?)?);
        let digests: Vec<Digest> = names.iter().filter_map(digest).collect();
        Ok((next, self.stored(&digests).await?))
    }
}

#[async_trait]
impl Inventory for Redis {
    fn list(&self) -> Pages<'_> {
        Box::pin(stream::try_unfold(Some(0), move |cursor| async move {
            let Some(cursor) = cursor else { return Ok(None) };
            let (next, page) = self.page(cursor).await?;
            Ok(Some((page, (next != 0).then_some(next))))
        }))
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        let now = SystemClock.now();
        let mut found = Vec::with_capacity(digests.len());
        for part in digests.chunks(KEYS) {
            let mut pipeline = redis::pipe();
            for digest in part {
                // In this order: a look at the length is a use.
                pipeline.cmd("OBJECT").arg("IDLETIME").arg(self.key(digest));
                pipeline.strlen(self.key(digest));
            }
            let answers: Vec<Option<u64>> = self.connection.pipeline(&pipeline).await?;
            for (digest, answer) in part.iter().zip(answers.chunks(2)) {
                if let [Some(idle), Some(size)] = answer
                    && self.form.fits(digest, *size)
                {
                    let since = now.before(std::time::Duration::from_secs(*idle));
                    found.push(Stored { digest: *digest, since });
                }
            }
        }
        Ok(found)
    }
}
