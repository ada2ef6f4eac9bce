//! The Remote Asset API.

use base64::Engine as _;
use grid_core::{Digest, DigestFunction};
use grid_proto::asset::fetch_client::FetchClient;
use grid_proto::asset::push_client::PushClient;
use grid_proto::asset::{
    FetchBlobRequest, FetchBlobResponse, FetchDirectoryRequest, FetchDirectoryResponse, PushBlobRequest,
    PushDirectoryRequest, Qualifier,
};
use grid_proto::reapi::{self, Directory, DirectoryNode, FileNode};
use grid_rpc::digests::to_wire;
use prost::Message;
use tonic::{Code, Status};

use crate::grid::{ASSET_BYTES, Grid, MAIN, READ_ONLY, TIGHT, refused, sha256, wire};
use crate::rule::{Rule, accepts, refuses};

const FETCH: &str = "Remote Asset: Fetch";
const PUSH: &str = "Remote Asset: Push";
const SRI: &str = "Remote Asset: checksum.sri";

fn qualifier(name: &str, value: &str) -> Qualifier {
    Qualifier { name: name.into(), value: value.into() }
}

fn sri(content: &[u8]) -> Qualifier {
    let hash = base64::engine::general_purpose::STANDARD.encode(sha256(content).hash_bytes());
    qualifier("checksum.sri", &format!("sha256-{hash}"))
}

fn ask(uri: impl Into<String>) -> FetchBlobRequest {
    FetchBlobRequest { instance_name: MAIN.into(), uris: vec![uri.into()], ..Default::default() }
}

async fn fetch(grid: &Grid, request: FetchBlobRequest) -> Result<FetchBlobResponse, Status> {
    FetchClient::new(grid.channel.clone()).fetch_blob(request).await.map(tonic::Response::into_inner)
}

/// Fetches what must be there.
async fn found(grid: &Grid, request: FetchBlobRequest) -> reapi::Digest {
    let answer = fetch(grid, request).await.unwrap();
    assert_eq!(answer.status.as_ref().unwrap().code, 0, "{answer:?}");
    answer.blob_digest.unwrap()
}

/// Fetches what can't be had; gives the code within the answer.
async fn lacking(grid: &Grid, request: FetchBlobRequest) -> Code {
    let answer = fetch(grid, request).await.unwrap();
    assert!(answer.blob_digest.is_none());
    answer.status.unwrap().code.into()
}

async fn directory(grid: &Grid, uri: &str) -> FetchDirectoryResponse {
    let request = FetchDirectoryRequest {
        instance_name: MAIN.into(),
        uris: vec![uri.into()],
        ..FetchDirectoryRequest::default()
    };
    FetchClient::new(grid.channel.clone()).fetch_directory(request).await.unwrap().into_inner()
}

fn blob(uri: &str, content: &[u8]) -> PushBlobRequest {
    PushBlobRequest {
        instance_name: MAIN.into(),
        uris: vec![uri.into()],
        blob_digest: Some(wire(content)),
        ..PushBlobRequest::default()
    }
}

async fn push(grid: &Grid, request: PushBlobRequest) -> Result<(), Status> {
    PushClient::new(grid.channel.clone()).push_blob(request).await.map(|_| ())
}

async fn push_directory(grid: &Grid, uri: &str, root: Digest) -> Result<(), Status> {
    let request = PushDirectoryRequest {
        instance_name: MAIN.into(),
        uris: vec![uri.into()],
        root_directory_digest: Some(to_wire(&root)),
        ..PushDirectoryRequest::default()
    };
    PushClient::new(grid.channel.clone()).push_directory(request).await.map(|_| ())
}

/// Stores a tree of one directory in another with one file; gives the root and the file.
async fn tree(grid: &Grid, text: &'static [u8]) -> (Digest, Digest) {
    let file = grid.put(text).await;
    let files = vec![FileNode { name: "f".into(), digest: Some(to_wire(&file)), ..Default::default() }];
    let inner = grid.put(Directory { files, ..Default::default() }.encode_to_vec()).await;
    let directories = vec![DirectoryNode { name: "d".into(), digest: Some(to_wire(&inner)) }];
    (grid.put(Directory { directories, ..Default::default() }.encode_to_vec()).await, file)
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = pushing();
    rules.extend(fetching());
    rules.extend(guarding());
    rules
}

fn pushing() -> Vec<Rule> {
    vec![
        accepts(PUSH, "what was pushed is found on every replica", |grid| async move {
            grid.put(&b"asset 1"[..]).await;
            push(&grid, blob("urn:asset:1", b"asset 1")).await.unwrap();
            assert_eq!(found(&grid.other_replica(), ask("urn:asset:1")).await, wire(b"asset 1"));
        }),
        accepts(PUSH, "qualifiers tell assets apart, in any order", |grid| async move {
            grid.put(&b"asset 2"[..]).await;
            let qualifiers = vec![qualifier("vcs.branch", "a"), qualifier("vcs.commit", "b")];
            push(&grid, PushBlobRequest { qualifiers, ..blob("urn:asset:2", b"asset 2") }).await.unwrap();
            let turned = vec![qualifier("vcs.commit", "b"), qualifier("vcs.branch", "a")];
            found(&grid, FetchBlobRequest { qualifiers: turned, ..ask("urn:asset:2") }).await;
            assert_eq!(lacking(&grid, ask("urn:asset:2")).await, Code::NotFound);
        }),
        accepts(PUSH, "a later push takes the place of an earlier one", |grid| async move {
            for content in [&b"asset 3a"[..], b"asset 3b"] {
                grid.put(content).await;
                push(&grid, blob("urn:asset:3", content)).await.unwrap();
            }
            assert_eq!(found(&grid, ask("urn:asset:3")).await, wire(b"asset 3b"));
        }),
        accepts(PUSH, "every URI of a push leads to the asset", |grid| async move {
            grid.put(&b"asset 4"[..]).await;
            let uris = vec!["urn:asset:4a".into(), "urn:asset:4b".into()];
            push(&grid, PushBlobRequest { uris, ..blob("", b"asset 4") }).await.unwrap();
            found(&grid, ask("urn:asset:4b")).await;
            let either = vec!["urn:asset:none".into(), "urn:asset:4a".into()];
            let answer = fetch(&grid, FetchBlobRequest { uris: either, ..ask("") }).await.unwrap();
            assert_eq!(answer.uri, "urn:asset:4a", "the answer says which URI it was");
        }),
        accepts(PUSH, "a directory is found as one, with its end", |grid| async move {
            let (root, _) = tree(&grid, b"asset 5").await;
            let request = PushDirectoryRequest {
                instance_name: MAIN.into(),
                uris: vec!["urn:asset:5".into()],
                root_directory_digest: Some(to_wire(&root)),
                expire_at: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
                ..PushDirectoryRequest::default()
            };
            PushClient::new(grid.channel.clone()).push_directory(request).await.unwrap();
            let answer = directory(&grid, "urn:asset:5").await;
            assert_eq!(answer.root_directory_digest, Some(to_wire(&root)));
            assert_eq!(answer.expires_at.unwrap().seconds, 4_000_000_000);
            assert_eq!(lacking(&grid, ask("urn:asset:5")).await, Code::NotFound, "it is no blob");
        }),
        accepts(
            PUSH,
            "a reference that is not there does not keep an asset from being pushed",
            |grid| async move {
                grid.put(&b"asset 6"[..]).await;
                let references_directories = vec![wire(b"a build tree that was not uploaded")];
                let request = PushBlobRequest { references_directories, ..blob("urn:asset:6", b"asset 6") };
                push(&grid, request).await.unwrap();
                found(&grid, ask("urn:asset:6")).await;
            },
        ),
        refuses(PUSH, "an asset of which a file is gone is not given", |grid| async move {
            let (root, file) = tree(&grid, b"asset 7").await;
            push_directory(&grid, "urn:asset:7", root).await.unwrap();
            grid.store.delete(&[file]).await.remove(0).unwrap();
            let answer = directory(&grid, "urn:asset:7").await;
            assert_eq!(answer.status.unwrap().code, Code::NotFound as i32);
        }),
        refuses(PUSH, "an asset of which a reference is gone is not given", |grid| async move {
            grid.put(&b"asset 8"[..]).await;
            let log = grid.put(&b"asset 8's log"[..]).await;
            let references_blobs = vec![to_wire(&log)];
            push(&grid, PushBlobRequest { references_blobs, ..blob("urn:asset:8", b"asset 8") })
                .await
                .unwrap();
            found(&grid, ask("urn:asset:8")).await;
            grid.store.delete(&[log]).await.remove(0).unwrap();
            assert_eq!(lacking(&grid, ask("urn:asset:8")).await, Code::NotFound);
        }),
        refuses(PUSH, "what is not in the storage is not pushed", |grid| async move {
            let status =
                refused(push(&grid, blob("urn:asset:9", b"asset 9")).await, Code::FailedPrecondition);
            assert!(!status.details().is_empty(), "the missing blob is named");
            let (root, file) = tree(&grid, b"asset 9's file").await;
            grid.store.delete(&[file]).await.remove(0).unwrap();
            refused(push_directory(&grid, "urn:asset:9", root).await, Code::FailedPrecondition);
        }),
        refuses(PUSH, "a push must name URIs and a digest", |grid| async move {
            grid.put(&b"asset 10"[..]).await;
            let request = PushBlobRequest { uris: Vec::new(), ..blob("", b"asset 10") };
            refused(push(&grid, request).await, Code::InvalidArgument);
            refused(push(&grid, blob("", b"asset 10")).await, Code::InvalidArgument);
            let request = PushBlobRequest { blob_digest: None, ..blob("urn:asset:10", b"") };
            refused(push(&grid, request).await, Code::InvalidArgument);
        }),
        refuses(PUSH, "an end that has passed is refused", |grid| async move {
            grid.put(&b"asset 11"[..]).await;
            let expire_at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
            let request = PushBlobRequest { expire_at, ..blob("urn:asset:11", b"asset 11") };
            refused(push(&grid, request).await, Code::InvalidArgument);
        }),
        refuses(PUSH, "an instance that takes no pushes says so before anything else", |grid| async move {
            let request = PushBlobRequest { instance_name: READ_ONLY.into(), ..PushBlobRequest::default() };
            refused(push(&grid, request).await, Code::PermissionDenied);
        }),
        refuses(SRI, "content that contradicts its checksum is not pushed", |grid| async move {
            grid.put(&b"asset 12"[..]).await;
            let push_as = |checksum| PushBlobRequest {
                qualifiers: vec![checksum],
                ..blob("https://example.org/asset-12", b"asset 12")
            };
            refused(push(&grid, push_as(sri(b"another thing"))).await, Code::InvalidArgument);
            push(&grid, push_as(sri(b"asset 12"))).await.unwrap();
        }),
        refuses(PUSH, "an unknown instance has no assets", |grid| async move {
            let request = PushBlobRequest { instance_name: "unknown".into(), ..blob("urn:x", b"x") };
            refused(push(&grid, request).await, Code::InvalidArgument);
            let request = FetchBlobRequest { instance_name: "unknown".into(), ..ask("urn:x") };
            refused(fetch(&grid, request).await, Code::InvalidArgument);
        }),
    ]
}

fn fetching() -> Vec<Rule> {
    vec![
        accepts(FETCH, "a URI is fetched into the storage", |grid| async move {
            let url = grid.web.url("text/fetched%201");
            assert_eq!(found(&grid, ask(url)).await, wire(b"fetched 1"));
            assert!(grid.has(&sha256(b"fetched 1")).await);
        }),
        accepts(SRI, "content with its checksum is fetched once, whatever its URI", |grid| async move {
            let qualifiers = vec![sri(b"fetched 2")];
            let ask = |url| FetchBlobRequest { qualifiers: qualifiers.clone(), ..ask(url) };
            found(&grid, ask(grid.web.url("text/fetched%202"))).await;
            found(&grid.other_replica(), ask(grid.web.named("text/fetched%202"))).await;
            assert_eq!(grid.web.times("text/fetched 2"), 1);
        }),
        accepts(SRI, "content that many ask for at once is fetched once for all", |grid| async move {
            let qualifiers = vec![sri(b"fetched 20")];
            let request = || FetchBlobRequest {
                qualifiers: qualifiers.clone(),
                ..ask(grid.web.url("text/fetched%2020"))
            };
            let all = (0..16).map(|_| found(&grid, request()));
            for digest in futures::future::join_all(all).await {
                assert_eq!(digest, wire(b"fetched 20"));
            }
            assert_eq!(grid.web.times("text/fetched 20"), 1);
        }),
        accepts(FETCH, "content without a checksum is fetched anew", |grid| async move {
            for times in 1..=2 {
                found(&grid, ask(grid.web.url("text/fetched%203"))).await;
                assert_eq!(grid.web.times("text/fetched 3"), times);
            }
        }),
        accepts(FETCH, "the digest is by the function that was asked for", |grid| async move {
            let digest_function = DigestFunction::Blake3.to_wire();
            let url = grid.web.url("text/fetched%204");
            let qualifiers = vec![sri(b"fetched 4")];
            let answer =
                fetch(&grid, FetchBlobRequest { digest_function, qualifiers, ..ask(url) }).await.unwrap();
            assert_eq!(answer.digest_function, digest_function);
            assert_eq!(
                answer.blob_digest.unwrap(),
                to_wire(&Digest::of(DigestFunction::Blake3, b"fetched 4"))
            );
        }),
        accepts(FETCH, "what was pushed comes before what a URI gives", |grid| async move {
            let url = grid.web.url("text/fetched%205");
            grid.put(&b"pushed 5"[..]).await;
            push(&grid, blob(&url, b"pushed 5")).await.unwrap();
            assert_eq!(found(&grid, ask(url)).await, wire(b"pushed 5"));
            assert_eq!(grid.web.times("text/fetched 5"), 0);
        }),
        accepts(FETCH, "content older than the client accepts is fetched anew", |grid| async move {
            let url = grid.web.url("text/fetched%206");
            grid.put(&b"pushed 6"[..]).await;
            push(&grid, blob(&url, b"pushed 6")).await.unwrap();
            let oldest_content_accepted = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
            let request = FetchBlobRequest { oldest_content_accepted, ..ask(url) };
            assert_eq!(found(&grid, request).await, wire(b"fetched 6"));
        }),
        accepts(FETCH, "one URI that works will do", |grid| async move {
            let uris = vec![grid.web.url("status/404"), "urn:x".into(), grid.web.url("text/fetched%207")];
            let answer = fetch(&grid, FetchBlobRequest { uris, ..ask("") }).await.unwrap();
            assert_eq!(answer.blob_digest.unwrap(), wire(b"fetched 7"));
            assert!(answer.uri.ends_with("text/fetched%207"));
        }),
        accepts(FETCH, "an origin in passing trouble is asked again", |grid| async move {
            assert_eq!(found(&grid, ask(grid.web.url("later/8"))).await, wire(b"8"));
        }),
        accepts(FETCH, "headers go to the URI that they are for, and to no other host", |grid| async move {
            let elsewhere = grid.web.named("text/landed");
            let first = grid.web.url(&format!("to/{}", elsewhere.trim_start_matches("http://")));
            let qualifiers = vec![
                qualifier("http_header:Accept", "*/*"),
                qualifier("http_header_url:0:Authorization", "Bearer secret"),
            ];
            found(&grid, FetchBlobRequest { qualifiers, ..ask(&first) }).await;
            let path = first.split_once("/to/").unwrap().1;
            assert_eq!(grid.web.credential(&format!("to/{path}")).as_deref(), Some("Bearer secret"));
            assert_eq!(grid.web.credential("text/landed"), None, "the redirect leads to another host");
        }),
        refuses(FETCH, "a request must name URIs, each qualifier once", |grid| async move {
            let request = FetchBlobRequest { uris: Vec::new(), ..ask("") };
            refused(fetch(&grid, request).await, Code::InvalidArgument);
            let qualifiers = vec![qualifier("a", "1"), qualifier("a", "2")];
            refused(
                fetch(&grid, FetchBlobRequest { qualifiers, ..ask("urn:x") }).await,
                Code::InvalidArgument,
            );
        }),
        refuses(FETCH, "a qualifier that fetching does not know is named", |grid| async move {
            let qualifiers = vec![qualifier("vcs.branch", "main")];
            let url = grid.web.url("text/fetched%2011");
            let status = refused(
                fetch(&grid, FetchBlobRequest { qualifiers, ..ask(url) }).await,
                Code::InvalidArgument,
            );
            assert!(status.message().contains("vcs.branch"));
            assert_eq!(grid.web.times("text/fetched 11"), 0);
        }),
        refuses(FETCH, "what origins say is told within the answer", |grid| async move {
            for (path, code) in [
                ("status/404", Code::NotFound),
                ("status/410", Code::NotFound),
                ("status/401", Code::PermissionDenied),
                ("status/403", Code::PermissionDenied),
                ("status/418", Code::Aborted),
                ("loop/x", Code::Aborted),
            ] {
                assert_eq!(lacking(&grid, ask(grid.web.url(path))).await, code, "{path}");
            }
        }),
        refuses(FETCH, "an origin that stays in trouble makes the call one to repeat", |grid| async move {
            let status = refused(fetch(&grid, ask(grid.web.url("status/503"))).await, Code::Unavailable);
            assert!(!status.details().is_empty(), "it says when");
            assert_eq!(grid.web.times("status/503"), 3);
        }),
        refuses(SRI, "content with another checksum is refused and not kept", |grid| async move {
            let qualifiers = vec![sri(b"what it should be")];
            let url = grid.web.url("text/what%20it%20is");
            let request = FetchBlobRequest { qualifiers, ..ask(url) };
            assert_eq!(lacking(&grid, request).await, Code::Aborted);
            assert!(!grid.has(&sha256(b"what it is")).await);
        }),
        refuses(FETCH, "an origin that never ends is given up in time", |grid| async move {
            let timeout = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
            let request = FetchBlobRequest { timeout, ..ask(grid.web.url("never/x")) };
            assert_eq!(lacking(&grid, request).await, Code::DeadlineExceeded);
            let timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 });
            let request = FetchBlobRequest { timeout, ..ask(grid.web.url("never/x")) };
            refused(fetch(&grid, request).await, Code::InvalidArgument);
        }),
        refuses(FETCH, "a directory is not fetched from a URI", |grid| async move {
            let answer = directory(&grid, &grid.web.url("text/fetched%2016")).await;
            assert_eq!(answer.status.unwrap().code, Code::NotFound as i32);
        }),
    ]
}

fn guarding() -> Vec<Rule> {
    const SOURCE: &str = "ours: what may be fetched";
    vec![
        refuses(SOURCE, "content larger than the limit is not taken in", |grid| async move {
            let announced = grid.web.url(&format!("large/{}", ASSET_BYTES + 1));
            assert_eq!(lacking(&grid, ask(announced)).await, Code::Aborted);
            let unannounced = grid.web.url(&format!("chunked/{}", ASSET_BYTES / 1000 + 1));
            assert_eq!(lacking(&grid, ask(unannounced)).await, Code::Aborted);
            found(&grid, ask(grid.web.url(&format!("large/{ASSET_BYTES}")))).await;
        }),
        refuses(SOURCE, "internal addresses are not asked, by number or by name", |grid| async move {
            for url in [grid.web.url("text/inside"), grid.web.named("text/inside")] {
                let request = FetchBlobRequest { instance_name: TIGHT.into(), ..ask(url) };
                assert_eq!(lacking(&grid, request).await, Code::PermissionDenied);
            }
            assert_eq!(grid.web.times("text/inside"), 0);
        }),
        refuses(SOURCE, "a redirect does not lead inwards", |grid| async move {
            let inside = format!("to/[::ffff:127.0.0.1]:{}/text/inside", grid.web.address.port());
            assert_eq!(lacking(&grid, ask(grid.web.url(&inside))).await, Code::PermissionDenied);
        }),
        refuses(SOURCE, "hosts that are not listed are not asked", |grid| async move {
            let request =
                FetchBlobRequest { instance_name: READ_ONLY.into(), ..ask(grid.web.named("text/x")) };
            assert_eq!(lacking(&grid, request).await, Code::PermissionDenied);
            let request = FetchBlobRequest { instance_name: READ_ONLY.into(), ..ask(grid.web.url("text/x")) };
            found(&grid, request).await;
        }),
        refuses(SOURCE, "other schemes are not fetched", |grid| async move {
            for uri in ["file:///etc/passwd", "ftp://example.org/x", "urn:x:y"] {
                assert_eq!(lacking(&grid, ask(uri)).await, Code::NotFound);
            }
        }),
    ]
}
