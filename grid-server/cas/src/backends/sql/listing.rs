//! What the table of blobs names, in the order of keys.

use async_trait::async_trait;
use futures::stream;
use grid_core::Digest;

use super::{Key, PACKED, Sql, WINDOW};
use crate::StoreError;
use crate::form::Form;
use crate::inventory::{Inventory, Pages, Stored};
use crate::sql::signed;
use crate::wait::until_available;

#[async_trait]
impl Inventory for Sql {
    fn list(&self) -> Pages<'_> {
        let (first, before) = match self.form {
            Form::Plain => (Vec::new(), vec![PACKED]),
            Form::Packed => (vec![PACKED], vec![u8::MAX]),
        };
        let state = (first, before);
        Box::pin(stream::try_unfold(state, move |(after, before): (Key, Key)| async move {
            let rows = until_available(|| self.rows.list(&after, &before, signed(WINDOW as u64))).await?;
            let Some(after) = rows.last().map(|(key, ..)| key.clone()) else { return Ok(None) };
            Ok(Some((self.stored_of(rows)?, (after, before))))
        }))
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::with_capacity(digests.len());
        for window in digests.chunks(WINDOW) {
            let keys = self.keys(window);
            found.extend(self.stored_of(until_available(|| self.rows.stored(&keys)).await?)?);
        }
        Ok(found)
    }
}
