//! `!redis-action-cache` and `!s3action-cache`: BuildGrid's keys and both of its entry types, against a Redis server and an
//! S3 server.

use std::process::Stdio;
use std::sync::Arc;
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
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};

use super::trees::storage;

pub(crate) const RESULTS: EntryOptions = EntryOptions { entry_type: EntryType::Result, migrate: false };
pub(crate) const DIGESTS: EntryOptions = EntryOptions { entry_type: EntryType::Digest, migrate: false };

/// A Redis server, stopped when it is dropped.
struct Redis {
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
    let server = Redis { _child: child, _log: log, _folder: folder };
    let options = RedisConnectionOptions {
        host: "127.0.0.1".into(),
        port,
        password: None,
        db: 0,
        sentinel_master: None,
        retries: 3,
        resp3: false,
        name: "caches[0] !redis-action-cache".into(),
    };
    (Arc::new(RedisConnection::new(options)), server)
}

/// An S3 server over a folder, with a bucket.
async fn s3_server() -> (Arc<S3Connection>, TempDir) {
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
            let (service, turn) = (service.clone(), Arc::clone(&turn));
            let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (service, turn) = (service.clone(), Arc::clone(&turn));
                async move {
                    let _turn = turn.lock().await;
                    let answer = service.call(request.map(s3s::Body::from)).await;
                    Ok::<_, std::convert::Infallible>(answer.unwrap())
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
