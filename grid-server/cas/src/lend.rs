//! [`lend`]: content for a store that may refuse it unread, to be given to another one then.

use std::sync::Arc;
use std::task::Poll;

use futures::stream;
use parking_lot::Mutex;

use crate::{ByteStream, StoreError};

/// The way back to content that was lent.
pub(crate) struct Lender(Arc<Mutex<Option<ByteStream>>>);

impl Lender {
    /// The content, if nothing was read of it.
    pub(crate) fn take_back(self) -> Option<ByteStream> {
        self.0.lock().take()
    }
}

/// `content` for a reader, and the way back to it until that one has begun.
pub(crate) fn lend(content: ByteStream) -> (ByteStream, Lender) {
    let unread = Arc::new(Mutex::new(Some(content)));
    let lender = Lender(Arc::clone(&unread));
    let mut begun: Option<ByteStream> = None;
    let lent = stream::poll_fn(move |cx| {
        if let Some(content) = &mut begun {
            return content.as_mut().poll_next(cx);
        }
        let mut unread = unread.lock();
        let Some(content) = unread.as_mut() else {
            return Poll::Ready(Some(Err(StoreError::Interrupted("the content was taken back".into()))));
        };
        let polled = content.as_mut().poll_next(cx);
        if polled.is_ready() {
            begun = unread.take();
        }
        polled
    });
    (Box::pin(lent), lender)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, TryStreamExt};

    use super::*;
    use crate::conformance::{blob, pieces};

    async fn all(stream: ByteStream) -> Result<Vec<u8>, StoreError> {
        Ok(stream.try_collect::<Vec<_>>().await?.concat())
    }

    #[tokio::test]
    async fn content_comes_back_as_long_as_nobody_read_it() {
        let (_, bytes) = blob(1, 10_000);
        let (lent, lender) = lend(pieces(&bytes, 999));
        let back = lender.take_back().unwrap();
        assert!(all(lent).await.is_err(), "a clean end");
        assert_eq!(all(back).await.unwrap(), bytes);
        let (mut lent, lender) = lend(pieces(&bytes, 999));
        lent.next().await.unwrap().unwrap();
        assert!(lender.take_back().is_none());
        assert_eq!(all(lent).await.unwrap(), bytes[999..]);
    }
}
