//! [`fan_out`]: one stream of content to several stores at once, at the pace of the slowest, with a few pieces of
//! memory whatever its size.

use std::future::Future;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;

use crate::{ByteStream, StoreError};

/// How many pieces may wait for a store.
const AHEAD: usize = 4;

/// When there is nobody left to read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until the first stream's reader is done or gone.
    FirstDone,
    /// Until all readers are done or gone.
    AllDone,
}

type Message = Option<Result<Bytes, StoreError>>;

/// `count` streams that each give all of `content`, and the future that feeds them: it must be driven beside the
/// readers. A stream whose feed breaks off ends in an error, never in a clean end.
pub(crate) fn fan_out(
    content: ByteStream,
    count: usize,
    until: Until,
) -> (impl Future<Output = ()> + Send, Vec<ByteStream>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(AHEAD)).unzip();
    (feed(content, senders, until), receivers.into_iter().map(receive).collect())
}

async fn feed(mut content: ByteStream, senders: Vec<mpsc::Sender<Message>>, until: Until) {
    loop {
        let gone = match until {
            Until::FirstDone => senders.first().is_none_or(mpsc::Sender::is_closed),
            Until::AllDone => senders.iter().all(mpsc::Sender::is_closed),
        };
        if gone {
            return;
        }
        let message = content.next().await;
        let ended = !matches!(message, Some(Ok(_)));
        for sender in &senders {
            // A reader that needs no more has dropped its stream.
            sender.send(message.clone()).await.ok();
        }
        if ended {
            return;
        }
    }
}

fn receive(receiver: mpsc::Receiver<Message>) -> ByteStream {
    Box::pin(stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(Ok(piece))) => Some((Ok(piece), Some(receiver))),
            Some(Some(Err(error))) => Some((Err(error), None)),
            Some(None) => None,
            None => Some((Err(StoreError::Interrupted("another store ended the transfer".into())), None)),
        }
    }))
}

/// `content` as it is, copied on the side into a stream for somebody who may be slower: rather than wait, the copy
/// breaks off.
pub(crate) fn copy_aside(content: ByteStream) -> (ByteStream, ByteStream) {
    let (sender, receiver) = mpsc::channel(AHEAD * 8);
    let state = (content, Some(sender));
    let passed = stream::unfold(state, |(mut content, mut sender)| async move {
        let message = content.next().await;
        if sender.as_ref().is_some_and(|s: &mpsc::Sender<Message>| s.try_send(message.clone()).is_err()) {
            sender = None;
        }
        message.map(|piece| (piece, (content, sender)))
    });
    (Box::pin(passed), receive(receiver))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use futures::future::join3;

    use super::*;
    use crate::conformance::{blob, pieces};

    async fn all(stream: ByteStream) -> Result<Vec<u8>, StoreError> {
        Ok(stream.try_collect::<Vec<_>>().await?.concat())
    }

    #[tokio::test]
    async fn each_reader_gets_everything() {
        let (_, bytes) = blob(1, 100_000);
        let (feed, mut streams) = fan_out(pieces(&bytes, 999), 2, Until::AllDone);
        let (second, first) = (streams.remove(1), streams.remove(0));
        let ((), a, b) = join3(feed, all(first), all(second)).await;
        assert_eq!(a.unwrap(), bytes);
        assert_eq!(b.unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_first_ends_the_others_in_an_error() {
        let (_, bytes) = blob(1, 100_000);
        let (feed, mut streams) = fan_out(pieces(&bytes, 999), 2, Until::FirstDone);
        let (second, first) = (streams.remove(1), streams.remove(0));
        drop(first);
        let ((), rest) = futures::join!(feed, all(second));
        assert!(matches!(rest, Err(StoreError::Interrupted(_))), "{rest:?}");
    }

    #[tokio::test]
    async fn a_copy_that_lags_breaks_off_and_never_ends_cleanly() {
        let (_, bytes) = blob(1, 1_000_000);
        let (passed, aside) = copy_aside(pieces(&bytes, 999));
        assert_eq!(all(passed).await.unwrap(), bytes);
        assert!(all(aside).await.is_err());
    }

    #[tokio::test]
    async fn a_copy_that_keeps_up_is_whole() {
        let (_, bytes) = blob(1, 1_000);
        let (passed, aside) = copy_aside(pieces(&bytes, 100));
        assert_eq!(all(passed).await.unwrap(), bytes);
        assert_eq!(all(aside).await.unwrap(), bytes);
    }
}
