//! `!metering`: use is counted in Redis as BuildGrid counts it, and whoever used more than they may is throttled.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::process::Stdio;
use std::time::Duration;

use grid_proto::any::pack;
use grid_proto::longrunning::Operation;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{ExecuteRequest, ExecutionPolicy};
use support::{Server, store_action};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tonic::{Code, Request, Status, Streaming};

/// A Redis server, killed when it is dropped.
struct Redis {
    port: u16,
    _child: Child,
}

impl Redis {
    async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !lines.next_line().await.unwrap().unwrap().contains("Ready to accept") {}
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { port, _child: child }
    }

    /// The value of a key; empty where it has none.
    async fn get(&self, key: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let ask = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
        stream.write_all(ask.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().nth(1).unwrap_or_default().to_owned()
    }

    /// Waits until a key's value has all of these parts, which come in any order: nobody is told when use has been counted.
    async fn becomes(&self, key: &str, parts: &[&str]) {
        let becomes = async {
            loop {
                let value = self.get(key).await;
                if parts.iter().all(|part| value.contains(part)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), becomes).await;
        assert!(in_time.is_ok(), "{key} is {:?}, without some of {parts:?}", self.get(key).await);
    }
}

fn key(subject: &str) -> String {
    format!(r#"{{"instance":"","workflow":"","actor":"","subject":"{subject}"}}"#)
}

async fn server(redis: &Redis, action: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let thresholds = folder.path().join("thresholds.json");
    std::fs::write(&thresholds, r#"{"part": "root", "default": {"rpc": {"execute": 1}}, "next": null}"#)
        .unwrap();
    let (port, path) = (redis.port, thresholds.display());
    let config = format!(
        "
connections: [!redis-connection &redis {{host: 127.0.0.1, port: {port}}}]
metering: !metering &metering {{redis: *redis, throttling-config-path: '{path}'}}
storages: [!lru-storage &cas {{size: 10M}}]
schedulers: [!sql-scheduler &queue {{storage: *cas, metering: *metering, metering-throttle-action: {action}}}]
instances: [{{name: '', services: [!cas {{storage: *cas}}, !bytestream {{storage: *cas}}, !execution {{scheduler: *queue}}]}}]
monitoring: {{endpoint-type: file, endpoint-location: published}}
"
    );
    Server::start(&config).await
}

/// Waits until so many lines that begin like this are published.
async fn publishes(server: &Server, beginning: &str, count: usize) {
    let path = server.folder().join("published");
    let published = async {
        loop {
            let lines = tokio::fs::read_to_string(&path).await.unwrap_or_default();
            if lines.lines().filter(|line| line.starts_with(beginning)).count() >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), published).await.is_ok(), "{beginning}");
}

async fn execute(
    server: &Server,
    subject: &str,
    number: usize,
    priority: i32,
) -> Result<Streaming<Operation>, Status> {
    let channel = server.channel().await;
    let (action, _) = store_action(channel.clone(), &["run", &number.to_string()]).await;
    let policy = Some(ExecutionPolicy { priority });
    let mut request = Request::new(ExecuteRequest {
        action_digest: Some(action),
        execution_policy: policy,
        ..Default::default()
    });
    request.metadata_mut().insert("x-request-subject", subject.parse().unwrap());
    let mut stream = ExecutionClient::new(channel).execute(request).await?.into_inner();
    stream.message().await?.unwrap();
    Ok(stream)
}

#[tokio::test]
async fn whoever_used_more_than_they_may_is_refused_and_others_are_not() {
    let redis = Redis::start().await;
    let server = server(&redis, "reject").await;
    let mut streams = Vec::new();
    for (number, counted) in ["1", "2"].iter().enumerate() {
        streams.push(execute(&server, "alice", number, 0).await.unwrap());
        redis.becomes(&key("alice"), &[&format!(r#"{{"rpc":{{"execute":{counted}}}}}"#)]).await;
    }
    let refused = execute(&server, "alice", 2, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("rpc.execute"), "{refused:?}");
    assert!(!refused.details().is_empty(), "it says when to come again");
    streams.push(execute(&server, "alice", 3, 1).await.expect("what is not urgent is not throttled"));
    streams.push(execute(&server, "bob", 4, 0).await.expect("others have accounts of their own"));
    drop(redis);
    streams.push(execute(&server, "alice", 5, 0).await.expect("without Redis nobody is throttled"));
}

#[tokio::test]
async fn what_an_action_used_is_counted_and_the_throttled_lose_their_priority() {
    let redis = Redis::start().await;
    let server = server(&redis, "deprioritize").await;
    let mut stream = execute(&server, "alice", 0, 0).await.unwrap();
    let measured = grid_proto::resourceusage::PosixResourceUsage {
        user_time: Some(prost_types::Duration { seconds: 1, nanos: 5_000_000 }),
        block_input_operations: 7,
        ..Default::default()
    };
    support::run_one_lease_using(server.channel().await, pack(&measured)).await;
    while !stream.message().await.unwrap().unwrap().done {}
    redis.becomes(&key("alice"), &[r#""utime":1005"#, r#""inblock":7"#]).await;
    let of_call = "instanceName=unnamed,method=Execute,serviceName=Execution";
    publishes(&server, &format!("metering.get_throttling.duration.ms,{of_call}:"), 1).await;
    // Once for the call, and once for what the action used.
    publishes(&server, &format!("metering.put_usage.duration.ms,{of_call}:"), 2).await;
    let _second = execute(&server, "alice", 1, 0).await.unwrap();
    let _throttled = execute(&server, "alice", 2, 0).await.expect("it is not refused");
    server.says("an action is throttled").await;
}
