//! [`Gathered`]: what a connection writes in one turn, in few system calls.
//!
//! HTTP/2 hands each frame to the socket by itself and flushes after it; clients take frames of 16 KiB unless they say
//! otherwise, so that a mebibyte is 64 writes, and its reader is woken as often. Here frames are gathered until there are
//! enough, or the turn of the connection ends ([`Turn::end`]). What waits for a reader that does not read is one gathering
//! a connection; an idle connection holds nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many bytes are written at once; frames that are as large by themselves are not gathered.
const ENOUGH: usize = 64 << 10;
/// What is larger than this is part of a stream of its like, and gets room for a whole gathering.
const LARGE: usize = 4 << 10;

/// The connection's side, for the protocol. To flush it is a promise that [`Turn::end`] keeps.
pub(super) struct Gathered<IO>(Arc<Mutex<Inner<IO>>>);

/// The same connection, for whoever gives it its turns.
pub(super) struct Turn<IO>(Arc<Mutex<Inner<IO>>>);

struct Inner<IO> {
    io: IO,
    waiting: BytesMut,
}

/// Both sides of a connection.
pub(super) fn gather<IO>(io: IO) -> (Gathered<IO>, Turn<IO>) {
    let inner = Arc::new(Mutex::new(Inner { io, waiting: BytesMut::new() }));
    (Gathered(Arc::clone(&inner)), Turn(inner))
}

impl<IO: AsyncWrite + Unpin> Turn<IO> {
    /// Writes what was gathered. Pending where the peer takes no more: the task is woken when it does.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.lock();
        ready!(inner.write(cx))?;
        inner.waiting = BytesMut::new();
        Pin::new(&mut inner.io).poll_flush(cx)
    }
}

impl<IO: AsyncWrite + Unpin> Inner<IO> {
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.waiting.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gathered<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gathered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.lock();
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if inner.waiting.len() >= ENOUGH || length >= ENOUGH {
            ready!(inner.write(cx))?;
        }
        if length >= ENOUGH {
            return Pin::new(&mut inner.io).poll_write_vectored(cx, slices);
        }
        if inner.waiting.is_empty() && length > LARGE {
            inner.waiting.reserve(2 * ENOUGH);
        }
        slices.iter().for_each(|slice| inner.waiting.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.lock();
        ready!(inner.write(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A peer that takes so many bytes at a write, or none for now; then it takes all.
    #[derive(Default)]
    struct Peer {
        takes: VecDeque<usize>,
        taken: Vec<u8>,
        writes: usize,
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let takes = self.takes.pop_front().unwrap_or(usize::MAX).min(bytes.len());
            if takes == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.writes += 1;
            self.taken.extend_from_slice(&bytes[..takes]);
            Poll::Ready(Ok(takes))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What one turn does with a frame: writes its head and its content as far as there is room, and flushes.
    fn send(gathered: &mut Gathered<Peer>, frame: &[u8]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (head, content) = frame.split_at(frame.len().min(9));
        let slices = [IoSlice::new(head), IoSlice::new(content)];
        let written = match Pin::new(&mut *gathered).poll_write_vectored(&mut cx, &slices) {
            Poll::Ready(written) => written.unwrap(),
            Poll::Pending => 0,
        };
        assert!(Pin::new(gathered).poll_flush(&mut cx).is_ready());
        written
    }

    fn end(turn: &Turn<Peer>) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        matches!(turn.end(&mut cx), Poll::Ready(Ok(())))
    }

    #[test]
    fn the_frames_of_a_turn_are_one_write() {
        let (mut gathered, turn) = gather(Peer::default());
        for _ in 0..4 {
            assert_eq!(send(&mut gathered, &[7; 10_000]), 10_000);
        }
        assert_eq!(turn.0.lock().io.writes, 0, "a turn's frames wait for its end");
        assert!(end(&turn));
        let inner = turn.0.lock();
        assert_eq!((inner.io.writes, inner.io.taken.len()), (1, 40_000));
        assert_eq!(inner.waiting.capacity(), 0, "an idle connection holds nothing");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_waited_for() {
        let (mut gathered, turn) = gather(Peer { takes: vec![0; 1_000].into(), ..Peer::default() });
        let written: usize = (0..100).map(|_| send(&mut gathered, &[7; 16_000])).sum();
        assert!(written <= 2 * ENOUGH, "{written} bytes wait");
        assert!(!end(&turn));
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order(
            frames in prop::collection::vec(prop_oneof![1_usize..100, 1_usize..20_000, ENOUGH..3 * ENOUGH], 1..30),
            takes in prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..50_000], 0..60),
        ) {
            let (mut gathered, turn) = gather(Peer { takes: takes.into(), ..Peer::default() });
            let mut sent = Vec::new();
            for (number, length) in frames.into_iter().enumerate() {
                let frame: Vec<u8> = (0..length).map(|at| u8::try_from((at * 31 + number) % 251).unwrap()).collect();
                let mut left = &frame[..];
                while !left.is_empty() {
                    let written = send(&mut gathered, left);
                    sent.extend_from_slice(&left[..written]);
                    left = &left[written..];
                }
                if number % 3 == 0 {
                    end(&turn);
                }
            }
            while !end(&turn) {}
            prop_assert!(turn.0.lock().io.taken == sent);
        }
    }
}
