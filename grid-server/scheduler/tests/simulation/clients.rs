//! Clients: each asks for an action, and must hear of its end once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_scheduler::ids::OperationId;
use grid_scheduler::job::Stage;
use grid_scheduler::operation::{ClientIdentity, RequestMetadata};
use grid_scheduler::service::{ExecuteRequest, View};
use grid_scheduler::{Scheduler, SchedulerError, Watch};
use tokio::time::{sleep, timeout};

use crate::World;

/// What an action does besides, as its only byte says: it brings down whoever runs it, or never comes to a result, as long as
/// there is trouble.
pub(crate) const ENDS_ITS_WORKER: u8 = 5;
pub(crate) const FAILS: u8 = 4;

pub(crate) async fn client(world: Arc<World>, number: usize) {
    sleep(Duration::from_millis(world.below(20_000).into())).await;
    let action = Bytes::from(vec![u8::try_from(world.below(6)).unwrap()]);
    let size = if world.below(4) == 0 { "large" } else { "small" };
    let request = ExecuteRequest {
        priority: i32::try_from(world.below(2)).unwrap(),
        cacheable: world.below(4) > 0,
        metadata: RequestMetadata { invocation_id: (number % 3).to_string(), ..RequestMetadata::default() },
        ..request(&world.replica(), action, size).await
    };
    // A client that gets no answer asks again; what it asked before may run all the same.
    let mut watch = loop {
        let replica = world.replica();
        if let Ok(watch) = world.answered(replica.execute(request.clone())).await {
            break watch;
        }
        sleep(Duration::from_secs(1)).await;
    };
    let id = watch.operation.id;
    let gives_up = world.below(5) == 0;
    let mut finals = 0;
    loop {
        let view = watch.view();
        if view.is_final() {
            assert!(gives_up || !view.cancelled, "cancelled, and nobody asked for it");
            finals += 1;
            break;
        }
        let patience = Duration::from_millis(u64::from(world.below(30_000)));
        if timeout(patience, watch.changed()).await.is_err() {
            if gives_up && !world.calm() {
                let _ = world.replica().cancel(id).await;
            }
            // The connection is lost: the client goes on watching on another replica.
            watch = again(&world, id).await;
        }
    }
    assert_eq!(finals, 1);
    let view = again(&world, id).await.view();
    assert!(view.is_final(), "an answer was taken back");
    assert!(gives_up || !view.cancelled, "cancelled, and nobody asked for it");
}

async fn again(world: &World, id: OperationId) -> Watch {
    loop {
        let replica = world.replica();
        match world.answered(replica.watch(id)).await {
            Ok(watch) => return watch,
            Err(SchedulerError::OperationNotFound(_)) => panic!("operation {id} was lost"),
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}

pub(crate) async fn request(replica: &Scheduler, action: Bytes, size: &str) -> ExecuteRequest {
    let platform = vec![("size".to_owned(), size.to_owned())];
    ExecuteRequest {
        instance: String::new(),
        action_digest: Digest::of(DigestFunction::Sha256, &action),
        action,
        command: String::new(),
        requirement: loop {
            if let Ok(requirement) = replica.requirement("", &platform).await {
                break requirement;
            }
        },
        platform,
        priority: 0,
        cacheable: true,
        timeout: None,
        locality: String::new(),
        client: ClientIdentity::default(),
        metadata: RequestMetadata::default(),
        cached: None,
    }
}

/// Nothing that went wrong before keeps an action from a bot that has nothing to do, or its end from who watches it: longer
/// than it takes to look at the queue where no news came, and for a bot to come back, nobody waits.
pub(crate) async fn served(replica: &Scheduler, number: usize) {
    let action = Bytes::from(vec![u8::MAX, u8::try_from(number).unwrap()]);
    let size = ["large", "small"][number % 2];
    let mut watch = replica.execute(request(replica, action, size).await).await.expect("no trouble any more");
    let mut until = async |is_so: fn(&View) -> bool| {
        while !is_so(&watch.view()) {
            watch.changed().await;
        }
    };
    let began = until(|view| view.job.state.stage != Stage::Queued);
    timeout(Duration::from_secs(15), began).await.expect("a bot with nothing to do takes it up");
    timeout(Duration::from_secs(15), until(View::is_final)).await.expect("who watches is told of the end");
}
