//! `logstream`: streams that are read while they are written.

use clap::Subcommand;
use grid_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use grid_proto::logstream::CreateLogStreamRequest;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::remote::Remote;
use crate::remote::retry::Tries;

const EXAMPLES: &str = "\
Examples:
  Create a stream; its name and the name to write to are printed:
    grid logstream create builds/42
  Write the output of a command to it, and watch it from somewhere else:
    make 2>&1 | grid logstream write builds/42/logStreams/9b1e.../7c02...
    grid logstream read builds/42/logStreams/9b1e...
  Follow what an action writes; `operation status` shows the names:
    grid logstream read main/51ab.../logStreams/0d4f...
";

/// Input bytes in one request; a line that a program flushes goes at once, however short.
const PIECE: usize = 64 << 10;

/// Create, read and write log streams.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: StreamCommand,
}

#[derive(Debug, Subcommand)]
enum StreamCommand {
    /// Create a stream
    Create {
        /// What the stream belongs to; the first part of its name
        parent: String,
    },
    /// Copy a stream to the standard output until its end
    Read {
        /// Name of the stream
        resource: String,
    },
    /// Copy the standard input to a stream
    Write {
        /// The stream's name for writing, which `create` told
        resource: String,
        /// Begin when somebody reads
        #[arg(long)]
        wait_for_reader: bool,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let remote = Remote::connect(&self.connection).await?;
        match self.command {
            StreamCommand::Create { parent } => {
                create(&remote, &parent, self.connection.json, printer).await?;
            }
            StreamCommand::Read { resource } => read(&remote, &resource, printer).await?,
            StreamCommand::Write { resource, wait_for_reader } => {
                let name = remote.qualified(&resource);
                if wait_for_reader {
                    wait(&remote, &name).await?;
                }
                write(&remote, name, tokio::io::stdin()).await?;
            }
        }
        Ok(Exit::Success)
    }
}

async fn create(remote: &Remote, parent: &str, json: bool, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let request = CreateLogStreamRequest { parent: remote.qualified(parent) };
    let created = remote
        .call(&format!("create a log stream for {parent}"), || {
            let (mut client, request) = (remote.logstream(), request.clone());
            async move { client.create_log_stream(request).await }
        })
        .await?;
    if json {
        return printer.message(&created);
    }
    printer.line(format_args!("name   {}", created.name))?;
    printer.line(format_args!("write  {}", created.write_resource_name))
}

/// Copies a stream as it grows; a broken connection is taken up where it stopped.
async fn read(remote: &Remote, resource: &str, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let failed = |status| Failure::rpc(format!("read log stream {resource}"), status);
    let mut tries = Tries::new(remote.retry());
    let mut offset = 0;
    loop {
        let request =
            ReadRequest { resource_name: remote.qualified(resource), read_offset: offset, read_limit: 0 };
        let opened = remote.bytestream().read(request).await;
        let mut answer = match opened {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                tries.again(status).await.map_err(failed)?;
                continue;
            }
        };
        loop {
            match answer.message().await {
                Ok(Some(piece)) => {
                    offset += i64::try_from(piece.data.len()).unwrap_or_default();
                    tries.reset();
                    printer.bytes(&piece.data)?;
                }
                Ok(None) => return Ok(()),
                Err(status) => break tries.again(status).await.map_err(failed)?,
            }
        }
    }
}

/// Returns when the stream has a reader: until then, servers hold back the write status.
async fn wait(remote: &Remote, name: &str) -> Result<(), Failure> {
    let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
    let what = format!("wait for a reader of {name}");
    let answer = remote.call(&what, || {
        let (mut client, request) = (remote.bytestream(), request.clone());
        async move { client.query_write_status(request).await }
    });
    answer.await.map(drop)
}

/// Sends `input` as it comes. What was read from a pipe can't be read again, so that a failed write is final.
async fn write(remote: &Remote, name: String, input: impl AsyncRead + Unpin) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(4);
    let mut client = remote.bytestream();
    let call = client.write(ReceiverStream::new(receiver));
    let (answer, sent) = tokio::join!(call, send(&name, input, sender));
    let committed = match answer {
        Ok(answer) => answer.into_inner().committed_size,
        Err(status) => return Err(Failure::rpc(format!("write log stream {name}"), status)),
    };
    let sent = sent?;
    if committed == sent {
        return Ok(());
    }
    Err(Failure::Protocol(format!("of {sent} bytes of log, the server says that it stored {committed}")))
}

/// Passes on `input`; gives its size. Ends early when nobody takes requests any more.
async fn send(
    name: &str,
    mut input: impl AsyncRead + Unpin,
    sender: mpsc::Sender<WriteRequest>,
) -> Result<i64, Failure> {
    let mut resource_name = name.to_owned();
    let mut offset = 0;
    let mut piece = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            read = input.read(&mut piece) => read,
            () = sender.closed() => return Ok(offset),
        };
        let length = read.map_err(|error| Failure::local("can't read the standard input", error))?;
        let request = WriteRequest {
            resource_name: std::mem::take(&mut resource_name),
            write_offset: offset,
            finish_write: length == 0,
            data: bytes::Bytes::copy_from_slice(&piece[..length]),
        };
        offset += i64::try_from(length).unwrap_or_default();
        if sender.send(request).await.is_err() || length == 0 {
            return Ok(offset);
        }
    }
}
