//! `ContentAddressableStorage.GetTree`.

use std::collections::HashSet;

use grid_core::Digest;
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi::{self, Directory, DirectoryNode, GetTreeRequest};
use grid_rpc::digests::to_wire;
use prost::Message;
use tonic::{Code, Status};

use crate::grid::{Grid, MAIN, TIGHT, malformed_digests, refused, wire};
use crate::rule::{Rule, accepts, refuses};

const SOURCE: &str = "REAPI GetTree";

/// A directory with these children, told apart from others by `label`.
fn directory(label: &str, children: &[Digest]) -> Directory {
    let node = |(index, digest): (usize, &Digest)| DirectoryNode {
        name: format!("{label}-{index:05}"),
        digest: Some(to_wire(digest)),
    };
    let symlinks = vec![reapi::SymlinkNode { name: label.into(), target: "x".into(), ..Default::default() }];
    Directory {
        directories: children.iter().enumerate().map(node).collect(),
        symlinks,
        ..Directory::default()
    }
}

async fn put(grid: &Grid, label: &str, children: &[Digest]) -> Digest {
    grid.put(directory(label, children).encode_to_vec()).await
}

async fn pages(grid: &Grid, request: GetTreeRequest) -> Result<Vec<GetTreeResponse>, Status> {
    let mut stream = grid.cas().get_tree(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

fn request(root: &Digest) -> GetTreeRequest {
    GetTreeRequest {
        instance_name: MAIN.into(),
        root_digest: Some(to_wire(root)),
        ..GetTreeRequest::default()
    }
}

fn directories(pages: &[GetTreeResponse]) -> Vec<Directory> {
    pages.iter().flat_map(|page| page.decoded().unwrap()).collect()
}

/// A root with `count` children.
async fn wide(grid: &Grid, label: &str, count: usize) -> Digest {
    let mut children = Vec::new();
    for index in 0..count {
        children.push(put(grid, &format!("{label}/{index}"), &[]).await);
    }
    put(grid, label, &children).await
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = walks();
    rules.extend(paging());
    rules.extend(refusals());
    rules
}

fn walks() -> Vec<Rule> {
    vec![
        accepts(SOURCE, "the root and everything beneath it is given", |grid| async move {
            let leaf = put(&grid, "601-leaf", &[]).await;
            let middle = put(&grid, "601-middle", &[leaf]).await;
            let root = put(&grid, "601-root", &[middle]).await;
            let found = directories(&pages(&grid, request(&root)).await.unwrap());
            let expected = [
                directory("601-root", &[middle]),
                directory("601-middle", &[leaf]),
                directory("601-leaf", &[]),
            ];
            assert_eq!(found, expected);
        }),
        accepts(SOURCE, "a directory that is linked often is given once", |grid| async move {
            // 18 levels, each linked twice: 262,143 directories if each link counted.
            let mut below = put(&grid, "602-0", &[]).await;
            for level in 1..18 {
                below = put(&grid, &format!("602-{level}"), &[below, below]).await;
            }
            assert_eq!(directories(&pages(&grid, request(&below)).await.unwrap()).len(), 18);
        }),
        accepts(SOURCE, "a deep tree is walked without recursion", |grid| async move {
            let mut below = put(&grid, "603-0", &[]).await;
            for level in 1..3_000 {
                below = put(&grid, &format!("603-{level}"), &[below]).await;
            }
            assert_eq!(directories(&pages(&grid, request(&below)).await.unwrap()).len(), 3_000);
        }),
        accepts(SOURCE, "what is missing below the root is left out", |grid| async move {
            let there = put(&grid, "604-there", &[]).await;
            let absent = crate::grid::sha256(b"absent directory 604");
            let root = put(&grid, "604-root", &[absent, there]).await;
            assert_eq!(directories(&pages(&grid, request(&root)).await.unwrap()).len(), 2);
        }),
        accepts(
            SOURCE,
            "directories are given as they are stored, whatever fields they have",
            |grid| async move {
                let unknown_field = [0xa0, 0x06, 0x01];
                let content = [directory("605", &[]).encode_to_vec(), unknown_field.to_vec()].concat();
                let root = grid.put(content.clone()).await;
                assert_eq!(pages(&grid, request(&root)).await.unwrap()[0].directories, [content]);
            },
        ),
        accepts("REAPI CAS: empty blobs", "the empty directory is a tree of one", |grid| async move {
            let root = crate::grid::sha256(b"");
            assert_eq!(directories(&pages(&grid, request(&root)).await.unwrap()), [Directory::default()]);
        }),
    ]
}

fn paging() -> Vec<Rule> {
    vec![
        accepts(
            SOURCE,
            "pages are no larger than asked, and only the last has no token",
            |grid| async move {
                let root = wide(&grid, "611", 25).await;
                let pages = pages(&grid, GetTreeRequest { page_size: 4, ..request(&root) }).await.unwrap();
                assert!(pages.iter().all(|p| p.directories.len() <= 4));
                let (last, others) = pages.split_last().unwrap();
                assert!(
                    last.next_page_token.is_empty() && others.iter().all(|p| !p.next_page_token.is_empty())
                );
                assert_eq!(directories(&pages).len(), 26);
            },
        ),
        accepts(SOURCE, "a token goes on after its page, on another replica too", |grid| async move {
            let root = wide(&grid, "612", 25).await;
            let ask = GetTreeRequest { page_size: 4, ..request(&root) };
            let all = pages(&grid, ask.clone()).await.unwrap();
            let other = grid.other_replica();
            for (index, page) in all.iter().enumerate().take(all.len() - 1) {
                let again = GetTreeRequest { page_token: page.next_page_token.clone(), ..ask.clone() };
                let rest = pages(&other, again).await.unwrap();
                assert_eq!(directories(&rest), directories(&all[index + 1..]));
            }
        }),
        accepts(SOURCE, "a token goes on with another page size", |grid| async move {
            let root = wide(&grid, "613", 25).await;
            let all = pages(&grid, GetTreeRequest { page_size: 7, ..request(&root) }).await.unwrap();
            let page_token = all[0].next_page_token.clone();
            let rest =
                pages(&grid, GetTreeRequest { page_token, page_size: 1, ..request(&root) }).await.unwrap();
            assert_eq!(rest.len(), 19);
            assert_eq!(directories(&rest), directories(&all[1..]));
        }),
        accepts("gRPC message size", "pages stay below what clients take", |grid| async move {
            let mut children = Vec::new();
            for index in 0..40 {
                let symlinks = (0..2_000)
                    .map(|link| reapi::SymlinkNode {
                        name: format!("614-{index}-{link}"),
                        target: "x".repeat(60),
                        ..Default::default()
                    })
                    .collect();
                let directory = Directory { symlinks, ..Directory::default() };
                children.push(grid.put(directory.encode_to_vec()).await);
            }
            let root = put(&grid, "614", &children).await;
            let pages = pages(&grid, request(&root)).await.unwrap();
            assert!(pages.iter().all(|p| p.encoded_len() < 4 << 20));
            let names: HashSet<_> = directories(&pages).iter().map(|d| d.symlinks[0].name.clone()).collect();
            assert_eq!(names.len(), 41);
        }),
    ]
}

fn refusals() -> Vec<Rule> {
    vec![
        refuses(SOURCE, "a root that is missing is NOT_FOUND", |grid| async move {
            refused(pages(&grid, request(&crate::grid::sha256(b"absent 621"))).await, Code::NotFound);
        }),
        refuses(SOURCE, "a root that is no directory is refused", |grid| async move {
            let root = grid.put(&b"\xff\xff not a directory 622"[..]).await;
            refused(pages(&grid, request(&root)).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a root whose fields have other types is refused", |grid| async move {
            for (field, content) in [(1, b"\x08\x05"), (2, b"\x10\x05"), (3, b"\x18\x05"), (5, b"\x28\x05")] {
                let root = grid.put(&content[..]).await;
                let refusal = pages(&grid, request(&root)).await;
                assert!(refusal.is_err(), "field {field}");
                refused(refusal, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "a child that is no directory is refused", |grid| async move {
            let child = grid.put(&b"\xff\xff not a directory 623"[..]).await;
            let root = put(&grid, "623", &[child]).await;
            refused(pages(&grid, request(&root)).await, Code::InvalidArgument);
        }),
        refuses(SOURCE, "a child with a malformed digest is refused", |grid| async move {
            for (index, digest) in malformed_digests().into_iter().enumerate() {
                let node = DirectoryNode { name: format!("624-{index}"), digest: Some(digest) };
                let root = Directory { directories: vec![node], ..Directory::default() };
                let root = grid.put(root.encode_to_vec()).await;
                refused(pages(&grid, request(&root)).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "a root digest that is not set or malformed is refused", |grid| async move {
            let unset = GetTreeRequest { root_digest: None, ..request(&crate::grid::sha256(b"")) };
            refused(pages(&grid, unset.clone()).await, Code::InvalidArgument);
            for digest in malformed_digests() {
                let bad = GetTreeRequest { root_digest: Some(digest), ..unset.clone() };
                refused(pages(&grid, bad).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "tokens of other trees and garbage are refused", |grid| async move {
            let (root, other) = (wide(&grid, "625", 5).await, wide(&grid, "626", 5).await);
            let ask = GetTreeRequest { page_size: 2, ..request(&other) };
            let token = pages(&grid, ask).await.unwrap()[0].next_page_token.clone();
            for page_token in [token, "x".into(), "-".into(), "0-0-0".into(), "é".into(), "9".repeat(50)] {
                let bad = GetTreeRequest { page_token, ..request(&root) };
                refused(pages(&grid, bad).await, Code::InvalidArgument);
            }
        }),
        refuses(SOURCE, "a negative page size is refused", |grid| async move {
            let bad = GetTreeRequest { page_size: -1, ..request(&crate::grid::sha256(b"")) };
            refused(pages(&grid, bad).await, Code::InvalidArgument);
        }),
        refuses(
            "no unbounded work",
            "a tree with more directories than the limit is refused",
            |grid| async move {
                let root = wide(&grid, "627", 21).await;
                let ask = GetTreeRequest { instance_name: TIGHT.into(), ..request(&root) };
                refused(pages(&grid, ask).await, Code::ResourceExhausted);
            },
        ),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            let bad = GetTreeRequest {
                instance_name: "nope".into(),
                root_digest: Some(wire(b"")),
                ..Default::default()
            };
            refused(pages(&grid, bad).await, Code::InvalidArgument);
        }),
    ]
}
