//! The task that writes: it takes what waits, in batches, and opens its target anew when that breaks.

use std::io;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::net::{UdpSocket, UnixStream};
use tokio::sync::mpsc;

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
    Socket(UnixStream),
    Udp(UdpSocket),
}

/// Writes records until nobody can hand over any more.
pub(super) async fn run(options: BusOptions, mut records: mpsc::Receiver<Record>, dropped: Counter) {
    let mut open = None;
    let mut sequence = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while records.recv_many(&mut batch, BATCH).await > 0 {
        let encoded: Vec<Vec<u8>> =
            batch.drain(..).filter_map(|record| encode(&options, &mut sequence, &record)).collect();
        let written = async {
            let target = match &mut open {
                Some(target) => target,
                closed => closed.insert(open_target(&options.target).await?),
            };
            target.write(&encoded).await
        };
        if written.await.is_err() {
            // No word in the log: it may be what could not be written.
            dropped.inc_by(encoded.len() as u64);
            open = None;
            tokio::time::sleep(OPEN_AGAIN).await;
        }
    }
}

fn encode(options: &BusOptions, sequence: &mut i64, record: &Record) -> Option<Vec<u8>> {
    if options.format == Format::Statsd {
        let Record::Sample(_, sample) = record else { return None };
        return Some(format!("{}\n", statsd::line(options, sample)).into_bytes());
    }
    *sequence += 1;
    let message = record::message(options, *sequence, record);
    Some(match options.format {
        Format::Json => format!("{}\n", record::json(&message)).into_bytes(),
        _ => message.encode_length_delimited_to_vec(),
    })
}

async fn open_target(target: &Target) -> io::Result<Open> {
    Ok(match target {
        Target::Stdout => Open::Stdout(tokio::io::stdout()),
        Target::File(path) => Open::File(OpenOptions::new().create(true).append(true).open(path).await?),
        Target::Socket(path) => Open::Socket(UnixStream::connect(path).await?),
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
    async fn write(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        let whole = || records.concat();
        match self {
            Self::Stdout(out) => {
                out.write_all(&whole()).await?;
                out.flush().await
            }
            Self::File(file) => {
                file.write_all(&whole()).await?;
                file.flush().await
            }
            Self::Socket(socket) => socket.write_all(&whole()).await,
            Self::Udp(socket) => send(socket, records).await,
        }
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
