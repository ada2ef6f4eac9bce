//! The Log Stream API.

use futures::StreamExt;
use grid_proto::bytestream::{ReadRequest, WriteRequest};
use grid_proto::logstream::{CreateLogStreamRequest, LogStream};
use tonic::{Code, Status};

use crate::bytestream_read::read;
use crate::bytestream_write::{messages, query, send};
use crate::grid::{Grid, noise, refused};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "Log Stream API";

async fn create_in(grid: &Grid, parent: &str) -> Result<LogStream, Status> {
    let request = CreateLogStreamRequest { parent: parent.into() };
    Ok(grid.logs().create_log_stream(request).await?.into_inner())
}

async fn create(grid: &Grid) -> LogStream {
    create_in(grid, "main/x_1_2_stdout").await.unwrap()
}

/// Messages that leave the stream open.
fn open(name: &str, content: &[u8], offset: i64) -> Vec<WriteRequest> {
    let mut all = messages(name, content, offset, 1_000);
    all.last_mut().unwrap().finish_write = false;
    all
}

fn on_the_other(grid: &Grid) -> Grid {
    grid.other_replica()
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = streams();
    rules.extend(refusals());
    rules
}

fn streams() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "a stream's names are of the specified form", |grid| async move {
            let stream = create(&grid).await;
            let id = stream.name.strip_prefix("main/x_1_2_stdout/logstreams/").unwrap();
            assert!(!id.is_empty() && !id.contains('/'));
            let token = stream.write_resource_name.strip_prefix(&format!("{}/", stream.name)).unwrap();
            assert!(token.len() >= 32 && !token.contains('/'));
        }),
        accepts(SOURCE, "what was written and finished is read, on another replica", |grid| async move {
            let (stream, content) = (create(&grid).await, noise(901, 50_000));
            let written =
                send(&grid, messages(&stream.write_resource_name, &content, 0, 1_000)).await.unwrap();
            assert_eq!(written, 50_000);
            assert!(read(&on_the_other(&grid), &stream.name, 0, 0).await.unwrap() == content);
        }),
        accepts(SOURCE, "read_offset and read_limit hold", |grid| async move {
            let (stream, content) = (create(&grid).await, noise(902, 5_000));
            send(&grid, messages(&stream.write_resource_name, &content, 0, 700)).await.unwrap();
            assert_eq!(read(&grid, &stream.name, 1_234, 0).await.unwrap(), content[1_234..]);
            assert_eq!(read(&grid, &stream.name, 10, 2_000).await.unwrap(), content[10..2_010]);
            assert!(read(&grid, &stream.name, 5_000, 0).await.unwrap().is_empty());
        }),
        accepts(SOURCE, "a reader follows what is written after it came", |grid| async move {
            let stream = create(&grid).await;
            let name = &stream.write_resource_name;
            send(&grid, open(name, b"first ", 0)).await.unwrap();
            let request = ReadRequest { resource_name: stream.name.clone(), ..Default::default() };
            let mut reader = grid.bytestream().read(request).await.unwrap().into_inner();
            assert_eq!(reader.message().await.unwrap().unwrap().data, "first ");
            send(&grid, open(name, b"second ", 6)).await.unwrap();
            assert_eq!(reader.message().await.unwrap().unwrap().data, "second ");
            send(&grid, messages(name, b"last", 13, 10)).await.unwrap();
            assert_eq!(reader.message().await.unwrap().unwrap().data, "last");
            assert!(reader.message().await.unwrap().is_none(), "the read ends with the stream");
        }),
        accepts(SOURCE, "a writer goes on on another replica", |grid| async move {
            let stream = create(&grid).await;
            let name = &stream.write_resource_name;
            assert_eq!(send(&grid, open(name, b"one ", 0)).await.unwrap(), 4);
            let other = on_the_other(&grid);
            assert_eq!(query(&other, name).await.unwrap(), (4, false));
            assert_eq!(send(&other, messages(name, b"two", 4, 10)).await.unwrap(), 7);
            assert_eq!(query(&grid, name).await.unwrap(), (7, true));
            assert_eq!(read(&grid, &stream.name, 0, 0).await.unwrap(), b"one two");
        }),
        accepts(
            "BuildGrid logStreams names",
            "BuildGrid's spelling names the same stream",
            |grid| async move {
                let stream = create(&grid).await;
                let camel = |name: &str| name.replace("/logstreams/", "/logStreams/");
                send(&grid, messages(&camel(&stream.write_resource_name), b"abc", 0, 10)).await.unwrap();
                assert_eq!(read(&grid, &camel(&stream.name), 0, 0).await.unwrap(), b"abc");
                assert_eq!(read(&grid, &stream.name, 0, 0).await.unwrap(), b"abc");
            },
        ),
        accepts(
            "BuildGrid --wait-for-reader",
            "QueryWriteStatus of an unread stream waits for its reader",
            |grid| async move {
                let stream = create(&grid).await;
                let name = stream.write_resource_name.clone();
                let waiting = query(&grid, &name);
                let reading = async {
                    let request = ReadRequest { resource_name: stream.name.clone(), ..Default::default() };
                    let mut reader = grid.bytestream().read(request).await.unwrap().into_inner();
                    reader.message().await
                };
                tokio::select! {
                    biased;
                    answer = waiting => assert_eq!(answer.unwrap(), (0, false)),
                    read = reading => panic!("the read ended: {read:?}"),
                }
            },
        ),
        accepts(SOURCE, "a parent's last segment may end in logstreams", |grid| async move {
            let stream = create_in(&grid, "main/my-logstreams").await.unwrap();
            send(&grid, messages(&stream.write_resource_name, b"abc", 0, 10)).await.unwrap();
            assert_eq!(read(&grid, &stream.name, 0, 0).await.unwrap(), b"abc");
        }),
        accepts(SOURCE, "an empty stream can be finished", |grid| async move {
            let stream = create(&grid).await;
            assert_eq!(send(&grid, messages(&stream.write_resource_name, b"", 0, 1)).await.unwrap(), 0);
            assert!(read(&grid, &stream.name, 0, 0).await.unwrap().is_empty());
        }),
    ]
}

fn refusals() -> Vec<Rule> {
    vec![
        refuses(SOURCE, "reading a write_resource_name is refused", |grid| async move {
            let stream = create(&grid).await;
            refused(read(&grid, &stream.write_resource_name, 0, 0).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "writing to a stream's name is refused", |grid| async move {
            let stream = create(&grid).await;
            refused(send(&grid, messages(&stream.name, b"x", 0, 1)).await, Code::InvalidArgument);
            refused(query(&grid, &stream.name).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a wrong token is refused and changes nothing", |grid| async move {
            let stream = create(&grid).await;
            let wrong = format!("{}/0b7c1f1e-0000-0000-0000-000000000000", stream.name);
            refused(send(&grid, messages(&wrong, b"x", 0, 1)).await, Code::PermissionDenied);
            refused(query(&grid, &wrong).await, Code::PermissionDenied);
            send(&grid, messages(&stream.write_resource_name, b"mine", 0, 10)).await.unwrap();
            assert_eq!(read(&grid, &stream.name, 0, 0).await.unwrap(), b"mine");
        }),
        refuses(SOURCE, "a stream that is not there is NOT_FOUND", |grid| async move {
            refused(read(&grid, "main/logstreams/none", 0, 0).await, Code::NotFound);
            refused(send(&grid, messages("main/logstreams/none/token", b"x", 0, 1)).await, Code::NotFound);
            refused(query(&grid, "main/logstreams/none/token").await, Code::NotFound);
        }),
        refuses(SOURCE, "a finished stream takes no more", |grid| async move {
            let stream = create(&grid).await;
            send(&grid, messages(&stream.write_resource_name, b"all", 0, 10)).await.unwrap();
            let more = messages(&stream.write_resource_name, b"more", 3, 10);
            refused(send(&grid, more).await, Code::FailedPrecondition);
        }),
        refuses(SOURCE, "committed bytes can't be overwritten, nor gaps left", |grid| async move {
            let stream = create(&grid).await;
            send(&grid, open(&stream.write_resource_name, b"abcdef", 0)).await.unwrap();
            for offset in [0, 3, 7, -1] {
                let again = messages(&stream.write_resource_name, b"x", offset, 10);
                refused(send(&grid, again).await, Code::InvalidArgument);
            }
        }),
        refuses("ByteStream Write", "offsets within one call must follow each other", |grid| async move {
            let stream = create(&grid).await;
            let mut all = messages(&stream.write_resource_name, &noise(911, 3_000), 0, 1_000);
            all[2].write_offset += 5;
            refused(send(&grid, all).await, Code::InvalidArgument);
        }),
        refuses("bounded streams", "a stream above its limit is refused", |grid| async move {
            let stream = create(&grid).await;
            let all = messages(&stream.write_resource_name, &noise(912, (1 << 20) + 1), 0, 100_000);
            refused(send(&grid, all).await, Code::ResourceExhausted);
        }),
        refuses("ByteStream Read", "offsets and limits that can't be are refused", |grid| async move {
            let stream = create(&grid).await;
            send(&grid, messages(&stream.write_resource_name, b"abc", 0, 10)).await.unwrap();
            refused(read(&grid, &stream.name, -1, 0).await, Code::OutOfRange);
            refused(read(&grid, &stream.name, 4, 0).await, Code::OutOfRange);
            refused(read(&grid, &stream.name, 0, -1).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "parents outside the instances and malformed ones are refused", |grid| async move {
            for parent in
                ["", "nope", "mainx", "main//x", "main/", "/main", "main/blobs/x", "main/logstreams/x"]
            {
                refused(create_in(&grid, parent).await, Code::InvalidArgument);
            }
            refused(create_in(&grid, &format!("main/{}", "x".repeat(2_000))).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a segment that only ends in logstreams names no stream", |grid| async move {
            for name in ["main/my-logstreams/a", "main/my-logstreams/a/token"] {
                refused(read(&grid, name, 0, 0).await, Code::InvalidArgument);
                refused(send(&grid, messages(name, b"x", 0, 1)).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "malformed stream names are refused", |grid| async move {
            for name in ["main/logstreams", "main/logstreams/", "main/logstreams/a/b/c"] {
                refused(read(&grid, name, 0, 0).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "a writer that goes away loses nothing that was committed", |grid| async move {
            let stream = create(&grid).await;
            let name = stream.write_resource_name.clone();
            let endless = futures::stream::iter(open(&name, b"before", 0)).chain(futures::stream::pending());
            let mut client = grid.bytestream();
            let watching = async {
                while query(&grid, &name).await.unwrap().0 < 6 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                answer = client.write(endless) => panic!("answered: {answer:?}"),
                () = watching => {}
            }
            assert_eq!(query(&grid, &name).await.unwrap(), (6, false));
        }),
    ]
}
