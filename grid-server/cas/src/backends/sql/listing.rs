//! What the table of blobs names, in the order of keys.

use async_trait::async_trait;
use futures::stream;
use grid_core::Digest;

use super::{Sql, WINDOW};
use crate::StoreError;
use crate::inventory::{Inventory, Pages, Stored};
use crate::sql::key;
use crate::wait::until_available;

#[async_trait]
impl Inventory for Sql {
    fn list(&self) -> Pages<'_> {
        Box::pin(stream::try_unfold(Vec::new(), move |after: Vec<u8>| async move {
            let page = until_available(|| self.rows.list(&after, WINDOW)).await?;
            Ok(page.last().map(|last| key(&last.digest)).map(|after| (page, after)))
        }))
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::with_capacity(digests.len());
        for window in digests.chunks(WINDOW) {
            found.extend(until_available(|| self.rows.stored(window)).await?);
        }
        Ok(found)
    }
}
