//! Reads a blob in pieces for a ByteStream write, compressed if asked, on a thread that may block.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

use bytes::Bytes;
use grid_proto::bytestream::WriteRequest;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use crate::exit::Failure;
use crate::transfer::upload::Source;

/// Content bytes in one request.
const PIECE: usize = 256 << 10;
/// Requests that may wait for the network.
const AHEAD: usize = 4;
/// Fast, and most of what zstd gains on source and object files.
pub(crate) const ZSTD_LEVEL: i32 = 1;

/// What to write, and where to begin.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The content.
    pub(crate) source: Source,
    /// Its size by its digest.
    pub(crate) size: u64,
    /// Resource name of the write.
    pub(crate) name: String,
    /// Bytes of the content that the server has already; only for uncompressed writes.
    pub(crate) offset: u64,
    /// Whether to compress.
    pub(crate) zstd: bool,
}

/// The requests of `plan`, and the thread that reads. It ends by itself when the receiver is dropped, and
/// ends the requests early, without `finish_write`, when the content can't be read.
pub(crate) fn requests(plan: Plan) -> (Receiver<WriteRequest>, JoinHandle<Result<(), Failure>>) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        let result = send_all(&plan, &sender);
        result.map_err(|error| plan.source.unreadable(error))
    });
    (receiver, reader)
}

fn send_all(plan: &Plan, sender: &Sender<WriteRequest>) -> io::Result<()> {
    let mut content = open(&plan.source, plan.offset)?;
    let mut outgoing = Outgoing { sender, name: Some(plan.name.clone()), offset: plan.offset, open: true };
    let mut left = plan.size - plan.offset;
    let mut encoder =
        plan.zstd.then(|| zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)).transpose()?;
    let mut piece = vec![0; PIECE];
    while left > 0 && outgoing.open {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        content.read_exact(&mut piece[..wanted])?;
        left -= wanted as u64;
        match &mut encoder {
            None => outgoing.send(Bytes::copy_from_slice(&piece[..wanted]), left == 0),
            Some(encoder) => {
                encoder.write_all(&piece[..wanted])?;
                if encoder.get_ref().len() >= PIECE {
                    outgoing.send(std::mem::take(encoder.get_mut()).into(), false);
                }
            }
        }
    }
    if let Some(encoder) = encoder {
        outgoing.send(encoder.finish()?.into(), true);
    }
    Ok(())
}

fn open(source: &Source, offset: u64) -> io::Result<Box<dyn Read>> {
    match source {
        Source::Bytes(bytes) => {
            let rest = bytes.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..);
            Ok(Box::new(io::Cursor::new(rest)))
        }
        Source::File(path) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(Box::new(file))
        }
    }
}

struct Outgoing<'a> {
    sender: &'a Sender<WriteRequest>,
    /// Only the first request tells it.
    name: Option<String>,
    offset: u64,
    /// Whether anybody still takes requests: a server that has the blob answers before the end.
    open: bool,
}

impl Outgoing<'_> {
    fn send(&mut self, data: Bytes, last: bool) {
        let length = data.len() as u64;
        let request = WriteRequest {
            resource_name: self.name.take().unwrap_or_default(),
            write_offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            finish_write: last,
            data,
        };
        self.offset += length;
        self.open = self.sender.blocking_send(request).is_ok();
    }
}
