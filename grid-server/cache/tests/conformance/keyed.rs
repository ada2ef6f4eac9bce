//! `!redis-action-cache` and `!s3action-cache`: BuildGrid's keys and both of its entry types, against a Redis server and an
//! S3 server.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grid_cache::ActionCache;
use grid_cache::backends::keyed::{EntryOptions, EntryType, Keyed, Values};
use grid_cache::backends::redis::RedisValues;
use grid_cache::backends::s3::S3Values;
use grid_cache::conformance::{Subject, action, result};
use grid_cas::redis_client::{RedisConnection, RedisConnectionOptions};
use grid_cas::s3_client::{S3Connection, S3ConnectionOptions, S3Credentials, TimeLimit};
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

use super::trees::storage;

pub(crate) const RESULTS: EntryOptions = EntryOptions { entry_type: EntryType::Result, migrate: false };
pub(crate) const DIGESTS: EntryOptions = EntryOptions { entry_type: EntryType::Digest, migrate: false };

/// A Redis server, stopped when it is dropped.
struct Redis {
    port: u16,
    _child: Child,
    /// What it logs; it must have somebody to say that to.
    _log: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

async fn redis_server() -> (Arc<RedisConnection>, Redis) {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
    command.arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("Redis is needed by these tests: apt-get install -y redis-server ({error})")
    });
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready =
        async { while !log.next_line().await.unwrap().unwrap().contains("Ready to accept connections") {} };
    tokio::time::timeout(Duration::from_secs(60), ready).await.unwrap();
    let server = Redis { port, _child: child, _log: log, _folder: folder };
    let options = RedisConnectionOptions { port, ..redis_options() };
    (Arc::new(RedisConnection::new(options)), server)
}

fn redis_options() -> RedisConnectionOptions {
    RedisConnectionOptions {
        host: "127.0.0.1".into(),
        port: 0,
        password: None,
        db: 0,
        sentinel_master: None,
        retries: 3,
        resp3: false,
        name: "caches[0] !redis-action-cache".into(),
    }
}

/// An S3 server over a folder, with a bucket.
async fn s3_server() -> (Arc<S3Connection>, TempDir) {
    s3_server_that_loses(0).await
}

/// The same, which does what it is asked first, and fails to say so: so often.
async fn s3_server_that_loses(answers: u32) -> (Arc<S3Connection>, TempDir) {
    let losing = Arc::new(AtomicU32::new(answers));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("main")).unwrap();
    let mut service = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
    service.set_auth(s3s::auth::SimpleAuth::from_single("access", "secret"));
    // One request at a time: s3s-fs looks before it writes, where a real service decides in one step.
    let (service, turn) = (service.build(), Arc::new(tokio::sync::Mutex::new(())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (service, turn, losing) = (service.clone(), Arc::clone(&turn), Arc::clone(&losing));
            let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (service, turn, losing) = (service.clone(), Arc::clone(&turn), Arc::clone(&losing));
                async move {
                    let _turn = turn.lock().await;
                    let mut answer = service.call(request.map(s3s::Body::from)).await.unwrap();
                    let lost = losing.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                    if lost.is_ok() {
                        answer = http::Response::builder().status(503).body(s3s::Body::empty()).unwrap();
                    }
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let (socket, executor) =
                (hyper_util::rt::TokioIo::new(socket), hyper_util::rt::TokioExecutor::new());
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(executor);
                server.serve_connection(socket, answer).await.ok();
            });
        }
    });
    let options = S3ConnectionOptions {
        endpoint,
        credentials: S3Credentials::Keys { access: "access".into(), secret: "secret".into() },
        reads: TimeLimit::default(),
        writes: TimeLimit::default(),
        name: "caches[0] !s3action-cache".into(),
    };
    (Arc::new(S3Connection::new(options).await.unwrap()), folder)
}

pub(crate) async fn redis_subject(options: EntryOptions) -> Subject {
    let (connection, server) = redis_server().await;
    Subject::new(Arc::new(Keyed::new(RedisValues::new(connection, None), storage(), options))).keeping(server)
}

pub(crate) async fn s3_subject(options: EntryOptions) -> Subject {
    let (connection, folder) = s3_server().await;
    let values = S3Values::new(connection, "main", Some("salt"));
    Subject::new(Arc::new(Keyed::new(values, storage(), options))).keeping(folder)
}

#[tokio::test]
async fn redis_keys_are_those_of_buildgrid() {
    let (connection, _server) = redis_server().await;
    let blake = Digest::of(DigestFunction::Blake3, b"action");
    for (salt, digest, key) in [
        (None, action(1), format!("action-cache.{}_8", action(1).hash_hex())),
        (Some(""), action(2), format!("action-cache.{}_8", action(2).hash_hex())),
        (Some("s"), action(1), format!("action-cache.s.{}_8", action(1).hash_hex())),
        (None, blake, format!("action-cache.blake3:{}_6", blake.hash_hex())),
    ] {
        let values = RedisValues::new(connection.clone(), salt);
        values.put(&digest, Bytes::from_static(b"value")).await.unwrap();
        let stored: Vec<u8> = connection.command(&redis::Cmd::get(&key)).await.unwrap();
        assert_eq!(stored, b"value", "{key}");
    }
    let unsalted = RedisValues::new(connection.clone(), None);
    unsalted.delete(&action(1)).await.unwrap();
    let salted = RedisValues::new(connection, Some("s"));
    assert!(salted.get(&action(1)).await.unwrap().is_some(), "salts keep entries apart");
}

#[tokio::test]
async fn s3_keys_are_those_of_buildgrid() {
    let (connection, folder) = s3_server().await;
    for (salt, name) in [(None, ""), (Some("s"), "s_")] {
        let values = S3Values::new(connection.clone(), "main", salt);
        values.put(&action(1), Bytes::from_static(b"value")).await.unwrap();
        let path = folder.path().join("main").join(format!("{name}{}_8", action(1).hash_hex()));
        assert_eq!(std::fs::read(&path).unwrap(), b"value");
    }
}

/// A port that passes everything to a server, but closes the first connection on which a command was answered instead of
/// passing that answer on.
async fn losing_port(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let lost = Arc::new(AtomicU32::new(0));
        while let Ok((mut client, _)) = listener.accept().await {
            let lost = Arc::clone(&lost);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                if lost.fetch_add(1, Ordering::SeqCst) > 0 {
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                    return;
                }
                let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
                loop {
                    let asked = client.read(&mut from_client).await.unwrap();
                    server.write_all(&from_client[..asked]).await.unwrap();
                    let answered = server.read(&mut from_server).await.unwrap();
                    if from_client[..asked].windows(5).any(|part| part == b"SETNX") {
                        return;
                    }
                    client.write_all(&from_server[..answered]).await.unwrap();
                }
            });
        }
    });
    port
}

async fn only_the_first_is_told_that_it_is(values: impl Values) {
    let (ours, other) = (Bytes::from_static(b"ours"), Bytes::from_static(b"another"));
    assert!(
        values.put_new(&action(1), ours.clone()).await.unwrap(),
        "the answer was lost, the value was not"
    );
    assert!(!values.put_new(&action(1), other).await.unwrap());
    assert!(!values.put_new(&action(1), ours.clone()).await.unwrap(), "not ours, though it is the same");
    assert_eq!(values.get(&action(1)).await.unwrap(), Some(ours));
}

#[tokio::test]
async fn a_first_value_whose_answer_is_lost_is_the_first_in_redis() {
    let (connection, server) = redis_server().await;
    let port = losing_port(server.port).await;
    let options = RedisConnectionOptions { port, ..redis_options() };
    drop(connection);
    only_the_first_is_told_that_it_is(RedisValues::new(Arc::new(RedisConnection::new(options)), None)).await;
}

#[tokio::test]
async fn a_first_value_whose_answer_is_lost_is_the_first_in_s3() {
    let (connection, _folder) = s3_server_that_loses(1).await;
    only_the_first_is_told_that_it_is(S3Values::new(connection, "main", None)).await;
}

#[tokio::test]
async fn both_entry_types_are_read_and_rewritten_where_that_is_wanted() {
    let (connection, _server) = redis_server().await;
    let (storage, values) = (storage(), || RedisValues::new(connection.clone(), None));
    let cache =
        |entry_type, migrate| Keyed::new(values(), storage.clone(), EntryOptions { entry_type, migrate });
    let is_digest = || async {
        let value = values().get(&action(1)).await.unwrap().unwrap();
        reapi::Digest::decode(value).is_ok_and(|digest| digest.hash.len() == 64)
    };
    cache(EntryType::Digest, false).update(&action(1), &result(1)).await.unwrap();
    assert!(is_digest().await);
    assert_eq!(cache(EntryType::Result, false).get(&action(1)).await.unwrap(), Some(result(1)));
    assert!(is_digest().await, "rewritten, and nobody said so");
    assert_eq!(cache(EntryType::Result, true).get(&action(1)).await.unwrap(), Some(result(1)));
    assert!(!is_digest().await);
    assert_eq!(cache(EntryType::Digest, true).get(&action(1)).await.unwrap(), Some(result(1)));
    assert!(is_digest().await);
    // The result that an entry names is a blob, and may be gone.
    let digest = Digest::of(DigestFunction::Sha256, &result(1).encode_to_vec());
    storage.delete(&[digest]).await.remove(0).unwrap();
    assert_eq!(cache(EntryType::Digest, true).get(&action(1)).await.unwrap(), None);
    values().put(&action(2), Bytes::from_static(b"\xff\xff")).await.unwrap();
    let damaged = cache(EntryType::Digest, true).get(&action(2)).await;
    assert!(matches!(damaged, Err(grid_cache::CacheError::Corrupt(_))), "{damaged:?}");
}
