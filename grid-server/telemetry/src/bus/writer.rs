//! The task that writes: it takes what waits, in batches, and opens its target anew when that breaks.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::socket::Listener;
use super::{BusOptions, Format, Record, Target, record, statsd};

/// How many records are written together.
const BATCH: usize = 200;
/// How large a datagram becomes, in bytes: what any network takes whole.
const DATAGRAM: usize = 1_400;
/// How long to wait before a target that broke is opened again.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// An open target.
enum Open {
    Stdout(Stdout),
    File(File),
    Socket(Listener),
    Udp(UdpSocket),
}

/// Writes records until nobody can hand over any more.
pub(super) async fn run(options: BusOptions, mut records: mpsc::Receiver<Record>, dropped: Counter) {
    // Before there is anything to write, so that those who want to hear it find the socket.
    let mut open = open_target(&options.target).await.ok();
    let mut sequence = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while records.recv_many(&mut batch, BATCH).await > 0 {
        let (mut encoded, mut flushes) = (Vec::with_capacity(batch.len()), Vec::new());
        for record in batch.drain(..) {
            match record {
                Record::Flush(written) => flushes.push(written),
                record => encoded.extend(encode(&options, &mut sequence, &record)),
            }
        }
        let written = async {
            if encoded.is_empty() {
                return Ok(0);
            }
            let target = match &mut open {
                Some(target) => target,
                closed => closed.insert(open_target(&options.target).await?),
            };
            target.write(&encoded).await
        };
        match written.await {
            Ok(slow) => drop(dropped.inc_by(slow * encoded.len() as u64)),
            // No word in the log: it may be what could not be written.
            Err(_) => {
                dropped.inc_by(encoded.len() as u64);
                open = None;
                tokio::time::sleep(OPEN_AGAIN).await;
            }
        }
        for written in flushes {
            // Whoever asked may have waited long enough.
            let _ = written.send(());
        }
    }
}

fn encode(options: &BusOptions, sequence: &mut i64, record: &Record) -> Option<Vec<u8>> {
    if options.format == Format::Statsd {
        let Record::Sample(_, sample) = record else { return None };
        return Some(format!("{}\n", statsd::line(options, sample)).into_bytes());
    }
    let message = record::message(options, *sequence + 1, record)?;
    *sequence += 1;
    Some(match options.format {
        Format::Json => format!("{}\n", record::json(&message)).into_bytes(),
        _ => framed(&message.encode_to_vec()),
    })
}

/// A message after its length, as BuildGrid writes it: 32 bits in the machine's own order.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_ne_bytes(), message].concat()
}

async fn open_target(target: &Target) -> io::Result<Open> {
    Ok(match target {
        Target::Stdout => Open::Stdout(tokio::io::stdout()),
        Target::File(path) => Open::File(OpenOptions::new().create(true).append(true).open(path).await?),
        Target::Socket(path) => Open::Socket(Listener::bind(path)?),
        Target::Udp(address) => {
            let peer = tokio::net::lookup_host(address).await?.next();
            let peer = peer.ok_or_else(|| io::Error::other("the name has no address"))?;
            let any = if peer.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(peer).await?;
            Open::Udp(socket)
        }
    })
}

impl Open {
    /// Gives how many of those who listen were too slow to hear these records.
    async fn write(&mut self, records: &[Vec<u8>]) -> io::Result<u64> {
        let whole = || records.concat();
        match self {
            Self::Stdout(out) => {
                out.write_all(&whole()).await?;
                out.flush().await?;
            }
            Self::File(file) => {
                file.write_all(&whole()).await?;
                file.flush().await?;
            }
            Self::Socket(listener) => return listener.tell(&Bytes::from(whole())),
            Self::Udp(socket) => send(socket, records).await?,
        }
        Ok(0)
    }
}

/// As many records in a datagram as it holds. Nobody listening is no failure: there may be somebody soon.
async fn send(socket: &UdpSocket, records: &[Vec<u8>]) -> io::Result<()> {
    let mut datagram = Vec::with_capacity(DATAGRAM);
    for record in records {
        if !datagram.is_empty() && datagram.len() + record.len() > DATAGRAM {
            ignore_refusal(socket.send(&datagram).await)?;
            datagram.clear();
        }
        datagram.extend_from_slice(record);
    }
    ignore_refusal(socket.send(&datagram).await)
}

fn ignore_refusal(sent: io::Result<usize>) -> io::Result<()> {
    match sent {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(()),
    }
}
