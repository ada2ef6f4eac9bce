//! [`Listener`]: the UNIX socket that the bus listens on. Whoever connects is told every record from then on.
//!
//! Nobody is waited for: what a client has not read yet is kept within bounds, and one that falls behind further is
//! disconnected.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream as Connection};
use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many clients are told.
const CLIENTS: usize = 64;
/// How many writes, each of a batch of records at most, wait for a client.
const BEHIND: usize = 32;

/// The socket and who is connected.
pub(super) struct Listener {
    socket: UnixListener,
    clients: Vec<Client>,
}

/// Somebody who is connected; dropping it disconnects.
struct Client {
    queue: mpsc::Sender<Bytes>,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Listens at `path`. A socket that a process left there gives way; one that somebody listens on, and a file of any
    /// other kind, does not.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = UnixListener::bind(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, clients: Vec::new() })
    }

    /// Tells all who are connected. Gives how many of them were too slow for it and are so no longer.
    pub(super) fn tell(&mut self, bytes: &Bytes) -> io::Result<u64> {
        self.accept()?;
        let mut slow = 0;
        self.clients.retain(|client| match client.queue.try_send(bytes.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                slow += 1;
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        Ok(slow)
    }

    /// Lets all in who wait for it, as far as there is room; the others are disconnected.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.socket.accept() {
                Ok((connection, _)) if self.clients.len() < CLIENTS => self.clients.push(serve(connection)?),
                Ok(_) => {}
                // Nobody waits; who went away before that, and a lack of descriptors, concern nobody who is connected.
                Err(_) => return Ok(()),
            }
        }
    }
}

fn serve(connection: Connection) -> io::Result<Client> {
    connection.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(connection)?;
    let (queue, mut waiting) = mpsc::channel::<Bytes>(BEHIND);
    let task = tokio::spawn(async move {
        while let Some(bytes) = waiting.recv().await {
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    Ok(Client { queue, task })
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_socket() && Connection::connect(path).is_err() {
        return std::fs::remove_file(path);
    }
    Err(io::ErrorKind::AddrInUse.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_gives_way_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let first = Listener::bind(&path).unwrap();
        assert!(Listener::bind(&path).is_err(), "somebody listens there");
        drop(first);
        assert!(path.exists());
        drop(Listener::bind(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn who_does_not_read_is_disconnected_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let mut listener = Listener::bind(&path).unwrap();
        let mut slow = UnixStream::connect(&path).await.unwrap();
        let mut good = UnixStream::connect(&path).await.unwrap();
        let record = Bytes::from(vec![7; 1 << 20]);
        let mut buffer = vec![0; 1 << 20];
        let mut dropped = 0;
        while dropped == 0 {
            dropped += listener.tell(&record).unwrap();
            good.read_exact(&mut buffer).await.unwrap();
        }
        assert_eq!((dropped, listener.clients.len()), (1, 1));
        assert_eq!(buffer, record);
        let mut left = Vec::new();
        slow.read_to_end(&mut left).await.unwrap();
        assert!(left.len() <= (BEHIND + 1) << 20, "what waits for a client is bounded");
        listener.tell(&record).unwrap();
        good.read_exact(&mut buffer).await.unwrap();
    }
}
