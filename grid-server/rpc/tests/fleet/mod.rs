//! Fleet through real services, on both databases: pools, demand, drains, and why jobs wait.

use std::time::Duration;

use grid_cache::ActionCache as _;
use grid_core::{Digest, DigestFunction};
use grid_proto::any;
use grid_proto::buildbox::ExecutionStatistics;
use grid_proto::fleet::drain_target::Target;
use grid_proto::fleet::{
    BotState, DeclarePoolsRequest, DemandRequest, DrainRequest, DrainState, DrainTarget, GetDrainRequest,
    ListBotsRequest, ListJobsRequest, ListPoolsRequest, Pool, Property, SizeClassesRequest, UndrainRequest,
    WaitReason, WatchDemandRequest, WhyRequest,
};
use grid_proto::reapi::{self, ActionResult, ExecuteOperationMetadata, ExecutedActionMetadata};
use grid_proto::resourceusage::PosixResourceUsage;
use grid_proto::rwapi::worker::Config;
use grid_proto::{longrunning, rpc};
use grid_scheduler::SchedulerOptions;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Streaming};

use crate::support::{self, Bot, Grid, Kind, Shared, finish, last, response};

const WAIT: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_secs(1);
const LINUX: &[(&str, &str)] = &[("OSFamily", "linux"), ("ISA", "x86-64")];
const POOL: &str = "builds/linux";

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { use super::*; $(#[tokio::test] async fn $name() { super::$name(Kind::Sqlite).await; })* }
        mod postgres { use super::*; $(#[tokio::test] async fn $name() { super::$name(Kind::Postgres).await; })* }
    };
}

on_both!(
    pools_are_declared_by_revision,
    a_declaration_with_faults_stores_nothing,
    a_job_that_no_pool_fits_says_so,
    a_job_that_no_pool_fits_ends_when_the_grace_does,
    a_job_counts_for_the_pool_that_would_run_it,
    images_choose_the_pool,
    a_drained_bot_gets_no_more_work_and_leaves_when_it_is_done,
    a_drain_without_grace_takes_leases_back_without_counting_them,
    a_drained_pool_covers_bots_that_join_later,
    jobs_are_listed_by_age_and_filter,
    a_full_queue_refuses,
    what_actions_took_is_kept_and_offered,
    a_job_waits_for_the_first_declaration,
    why_a_job_waited_is_told_when_it_is_over,
);

fn pool() -> Pool {
    let property = |(key, value): &(&str, &str)| Property { key: (*key).into(), value: (*value).into() };
    Pool {
        name: POOL.into(),
        // Pools are listed with their keys in order.
        properties: LINUX.iter().rev().map(property).collect(),
        max_workers: 4,
        concurrency: 2,
        autoscaled: true,
        ..Pool::default()
    }
}

fn declaration(revision: u64, pools: Vec<Pool>) -> DeclarePoolsRequest {
    DeclarePoolsRequest { owner: "builds/grid".into(), revision, pools }
}

async fn grid(kind: Kind, options: SchedulerOptions) -> (Shared, Grid) {
    let shared = Shared::new(kind).await;
    let grid = Grid::start(&shared, options).await;
    (shared, grid)
}

/// A bot of the declared pool, on a node.
fn bot(grid: &Grid, name: &str) -> Bot {
    let mut bot = grid.bot(name, LINUX);
    let config = |key: &str, value: &str| Config { key: key.into(), value: value.into() };
    let worker = bot.session.worker.as_mut().unwrap();
    worker.configs = vec![config("pool", POOL), config("node", "node-1"), config("long-poll", "always")];
    bot
}

fn target(target: Target) -> DrainTarget {
    DrainTarget { target: Some(target) }
}

fn drain(target: Target, grace: u64) -> DrainRequest {
    let grace = Some(prost_types::Duration::try_from(Duration::from_secs(grace)).unwrap());
    DrainRequest { targets: vec![DrainTarget { target: Some(target) }], grace, ..DrainRequest::default() }
}

/// Why an operation waits, as its metadata says: in a message that every client of operations can print.
fn explained(operation: &longrunning::Operation) -> Option<rpc::Status> {
    let metadata: ExecuteOperationMetadata = any::unpack(operation.metadata.as_ref().unwrap()).unwrap();
    let partial = metadata.partial_execution_metadata.unwrap();
    partial.auxiliary_metadata.first().map(|any| any::unpack(any).unwrap())
}

/// The first reason with these words that a stream tells; `first` is its first message. What was said before the
/// scheduler heard of a pool or a bot is corrected when it does.
async fn told(
    first: &longrunning::Operation,
    stream: &mut Streaming<longrunning::Operation>,
    words: &str,
) -> rpc::Status {
    let mut told = explained(first);
    loop {
        match told {
            Some(told) if told.message.contains(words) => return told,
            _ => {
                let next = tokio::time::timeout(WAIT, stream.message()).await.unwrap().unwrap().unwrap();
                told = explained(&next);
            }
        }
    }
}

async fn pools_are_declared_by_revision(kind: Kind) {
    let (_shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let mut fleet = grid.fleet();
    fleet.declare_pools(declaration(2, vec![pool()])).await.unwrap();
    fleet.declare_pools(declaration(2, vec![pool()])).await.unwrap();
    for (revision, pools) in [(2, vec![]), (1, vec![pool()])] {
        let stale = fleet.declare_pools(declaration(revision, pools)).await.unwrap_err();
        assert_eq!(stale.code(), Code::FailedPrecondition, "{stale}");
    }
    let other = DeclarePoolsRequest { owner: "other".into(), revision: 1, pools: vec![pool()] };
    assert_eq!(fleet.declare_pools(other).await.unwrap_err().code(), Code::AlreadyExists);
    let listed = fleet.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].pool.as_ref(), listed[0].revision), (Some(&pool()), 2));
    fleet.declare_pools(declaration(3, vec![])).await.unwrap();
    assert!(fleet.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools.is_empty());
}

async fn a_declaration_with_faults_stores_nothing(kind: Kind) {
    let (_shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let mut fleet = grid.fleet();
    let bad = Pool { name: "x".into(), concurrency: 0, ..pool() };
    let status = fleet.declare_pools(declaration(1, vec![pool(), bad])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("pools[1].name") && status.message().contains("pools[1].concurrency"));
    assert!(fleet.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools.is_empty());
}

async fn a_job_that_no_pool_fits_says_so(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    grid.fleet().declare_pools(declaration(1, vec![pool()])).await.unwrap();
    let action = shared.action("x", &[("ISA", "sparc")], |_| {}).await;
    let (first, mut stream) = grid.execute(action).await;
    let told = told(&first, &mut stream, "ISA=sparc").await;
    assert!(told.message.contains(POOL), "{}", told.message);
    assert_eq!(Code::from_i32(told.code), Code::FailedPrecondition, "waiting alone does not end it");
    let why = grid.fleet().why(WhyRequest { operation: first.name.clone() }).await.unwrap().into_inner();
    assert_eq!((why.reason(), &why.text), (WaitReason::NoPoolFits, &told.message));
    assert!(why.fails_at.is_some());
    assert_eq!(why.pools[0].missing, [Property { key: "ISA".into(), value: "sparc".into() }]);
    let unknown = format!("main/test/{}", uuid::Uuid::nil());
    let unknown = grid.fleet().why(WhyRequest { operation: unknown }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

async fn a_job_that_no_pool_fits_ends_when_the_grace_does(kind: Kind) {
    let grace = Some(Duration::from_millis(100));
    let options = SchedulerOptions { unplaceable_grace: grace, ..SchedulerOptions::default() };
    let (shared, grid) = grid(kind, options).await;
    grid.fleet().declare_pools(declaration(1, vec![pool()])).await.unwrap();
    let action = shared.action("x", &[("ISA", "sparc")], |_| {}).await;
    let (_, stream) = grid.execute(action).await;
    let status = response(&last(stream).await).status.unwrap();
    assert_eq!(status.code, Code::FailedPrecondition as i32);
    assert!(status.message.starts_with("No worker can run this, because"), "{}", status.message);
    assert!(status.message.contains("ISA=sparc") && status.message.contains(POOL), "{}", status.message);
}

/// A grid's servers answer before its operator has told them of the pools: who comes in between waits.
async fn a_job_waits_for_the_first_declaration(kind: Kind) {
    let options = SchedulerOptions { awaits_pools: Some(WAIT), ..SchedulerOptions::default() };
    let (shared, grid) = grid(kind, options).await;
    let replica = Grid::start(&shared, SchedulerOptions::default()).await;
    let gpu = [("gpu", "one")];
    let [early, refused] = [shared.action("x", &gpu, |_| {}).await, shared.action("y", &gpu, |_| {}).await];
    let held = std::pin::pin!(grid.execute(early));
    let declared = std::pin::pin!(async {
        // This replica waits for nobody.
        assert_eq!(replica.try_execute(refused).await.unwrap_err().code(), Code::FailedPrecondition);
        let property = Property { key: "gpu".into(), value: "one".into() };
        let pool = Pool { properties: vec![property], ..pool() };
        replica.fleet().declare_pools(declaration(1, vec![pool])).await.unwrap();
    });
    let ((first, _stream), ()) = futures::future::join(held, declared).await;
    assert!(!first.done, "{first:?}");
    let unknown = shared.action("z", &[("fpga", "one")], |_| {}).await;
    let refused = grid.try_execute(unknown).await.unwrap_err();
    assert!(refused.message().contains("matched: ISA, OSFamily, container-image, gpu"), "{refused}");
}

async fn a_job_counts_for_the_pool_that_would_run_it(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let mut fleet = grid.fleet();
    fleet.declare_pools(declaration(1, vec![pool()])).await.unwrap();
    let mut watch = fleet.watch_demand(WatchDemandRequest::default()).await.unwrap().into_inner();
    let idle = watch.message().await.unwrap().unwrap();
    assert_eq!((idle.pools[0].queued, idle.pools[0].required_slots), (0, 0));
    let action = shared.action("x", LINUX, |_| {}).await;
    let (queued, mut stream) = grid.execute(action).await;
    // It came while nothing was free, which is noted a moment after it is counted.
    let wanted = loop {
        let next = tokio::time::timeout(WAIT, watch.message()).await.unwrap().unwrap().unwrap();
        if next.pools[0].wakeup_generation > idle.pools[0].wakeup_generation {
            break next;
        }
    };
    assert_eq!((wanted.pools[0].queued, wanted.pools[0].required_slots, wanted.pools[0].bots), (1, 1, 0));
    assert!(wanted.pools[0].oldest_queue_age.is_some());
    let told = told(&queued, &mut stream, "is being scaled up").await;
    assert_eq!(Code::from_i32(told.code), Code::Unavailable, "waiting alone ends it");
    let why = grid.fleet().why(WhyRequest { operation: queued.name }).await.unwrap().into_inner();
    assert_eq!((why.pool.as_str(), why.queue_position), (POOL, 0));
    let mut bot = bot(&grid, "b1");
    bot.create(WAIT).await;
    assert_eq!(bot.session.leases.len(), 1);
    let demand = grid.fleet().get_demand(DemandRequest::default()).await.unwrap().into_inner();
    let demand = &demand.pools[0];
    assert_eq!((demand.queued, demand.executing, demand.bots, demand.idle_slots), (0, 1, 1, 0));
    assert!(demand.recent_queue_time.is_some());
}

async fn images_choose_the_pool(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let images = Pool { runner_images: vec!["r.example/gcc:13".into()], ..pool() };
    grid.fleet().declare_pools(declaration(1, vec![images])).await.unwrap();
    let mut bot = bot(&grid, "b1");
    bot.create(BRIEF).await;
    let action = shared.action("x", &[("container-image", "docker://r.example/clang:18")], |_| {}).await;
    let (first, mut stream) = grid.execute(action).await;
    told(&first, &mut stream, "images on offer: r.example/gcc:13").await;
    let action = shared.action("y", &[("container-image", "docker://r.example/gcc:13")], |_| {}).await;
    let (_, _stream) = grid.execute(action).await;
    bot.update(WAIT).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1);
}

async fn a_drained_bot_gets_no_more_work_and_leaves_when_it_is_done(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let action = shared.action("x", LINUX, |_| {}).await;
    let (_, stream) = grid.execute(action).await;
    let mut bot = bot(&grid, "pod-1/0");
    bot.create(WAIT).await;
    assert_eq!((bot.session.leases.len(), bot.drain), (1, None));
    let request = drain(Target::Bot("pod-1/0".into()), 600);
    let mut held = bot.clone();
    let held = tokio::spawn(async move {
        held.update(WAIT).await.unwrap();
        held
    });
    let begun = grid.fleet().drain(request.clone()).await.unwrap().into_inner().drains;
    // The bot may have heard of it before the answer is written.
    assert!([DrainState::Requested, DrainState::Acknowledged].contains(&begun[0].state()), "{begun:?}");
    assert_eq!((begun[0].bots, begun[0].running_leases), (1, 1));
    // The held call is answered at once.
    let mut bot = held.await.unwrap();
    assert!(bot.drain.unwrap() > 500, "{:?}", bot.drain);
    let get = GetDrainRequest { target: Some(target(Target::Bot("pod-1/0".into()))) };
    let heard = grid.fleet().get_drain(get.clone()).await.unwrap().into_inner();
    assert_eq!(heard.state(), DrainState::Acknowledged);
    let mut watch = grid.fleet().watch_drain(get.clone()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().state(), DrainState::Acknowledged);
    let second = shared.action("y", LINUX, |_| {}).await;
    let (first, mut waiting) = grid.execute(second).await;
    bot.complete(0);
    bot.update(BRIEF).await.unwrap();
    assert!(bot.session.leases.is_empty(), "no new lease");
    assert_eq!(response(&last(stream).await).result.unwrap().exit_code, 0);
    told(&first, &mut waiting, "Every worker that fits (1) is draining").await;
    let mut state = DrainState::Acknowledged;
    while let Some(status) = watch.message().await.unwrap() {
        state = status.state();
    }
    assert_eq!(state, DrainState::Drained);
    let bots = grid.fleet().list_bots(ListBotsRequest::default()).await.unwrap().into_inner().bots;
    assert_eq!((bots[0].state(), bots[0].node.as_str()), (BotState::Draining, "node-1"));
    grid.fleet().undrain(UndrainRequest { targets: request.targets }).await.unwrap();
    bot.update(WAIT).await.unwrap();
    assert_eq!(bot.drain, None, "it hears of it at once");
    bot.update(WAIT).await.unwrap();
    assert_eq!(bot.session.leases.len(), 1, "it works again");
    assert_eq!(grid.fleet().get_drain(get).await.unwrap_err().code(), Code::NotFound);
    let nobody = grid.fleet().drain(drain(Target::Bot("nobody".into()), 1)).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
}

async fn a_drain_without_grace_takes_leases_back_without_counting_them(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let action = shared.action("x", LINUX, |_| {}).await;
    let (_, _stream) = grid.execute(action).await;
    let mut first = bot(&grid, "b1");
    first.create(WAIT).await;
    assert_eq!(first.session.leases.len(), 1);
    let begun = grid.fleet().drain(drain(Target::Node("node-1".into()), 0)).await.unwrap().into_inner();
    assert_eq!((begun.drains[0].returned_leases, begun.drains[0].running_leases), (1, 0));
    first.update(WAIT).await.unwrap();
    assert!(first.session.leases.is_empty());
    let mut second = grid.bot("b2", LINUX);
    second.create(WAIT).await;
    assert_eq!(second.session.leases.len(), 1, "the next bot gets it");
    let jobs = grid.fleet().list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!((jobs[0].attempts, jobs[0].bot.as_str()), (0, "b2"));
}

async fn a_drained_pool_covers_bots_that_join_later(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    grid.fleet().drain(drain(Target::Pool(POOL.into()), 60)).await.unwrap();
    let action = shared.action("x", LINUX, |_| {}).await;
    let (_, _stream) = grid.execute(action).await;
    let mut bot = bot(&grid, "late");
    bot.create(WAIT).await;
    assert!(bot.session.leases.is_empty() && bot.drain.is_some());
}

async fn jobs_are_listed_by_age_and_filter(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let mut names = Vec::new();
    for n in 0..3 {
        let action = shared.action(&format!("a{n}"), LINUX, |_| {}).await;
        names.push(grid.execute(action).await.0.name);
    }
    let mut bot = bot(&grid, "b1");
    bot.create(WAIT).await;
    let mut seen = Vec::new();
    let mut request = ListJobsRequest { page_size: 2, ..ListJobsRequest::default() };
    loop {
        let page = grid.fleet().list_jobs(request.clone()).await.unwrap().into_inner();
        seen.extend(page.jobs.into_iter().flat_map(|job| job.operations));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, names);
    let by = |request: ListJobsRequest| {
        let mut fleet = grid.fleet();
        async move { fleet.list_jobs(request).await.unwrap().into_inner().jobs }
    };
    let on_bot = by(ListJobsRequest { bot: "b1".into(), ..ListJobsRequest::default() }).await;
    assert_eq!(on_bot[0].operations, names[..1]);
    assert!(by(ListJobsRequest { pool: "other/pool".into(), ..ListJobsRequest::default() }).await.is_empty());
    let hour = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    assert!(by(ListJobsRequest { min_queue_age: hour, ..ListJobsRequest::default() }).await.is_empty());
    let why = grid.fleet().why(WhyRequest { operation: names[2].clone() }).await.unwrap().into_inner();
    assert_eq!((why.reason(), why.queue_position), (WaitReason::BehindOthers, 1));
}

async fn what_actions_took_is_kept_and_offered(kind: Kind) {
    let (shared, grid) = grid(kind, SchedulerOptions::default()).await;
    let action = shared.action("x", LINUX, |_| {}).await;
    let (first, stream) = grid.execute(action).await;
    let mut bot = bot(&grid, "b1");
    bot.create(WAIT).await;
    finish(&mut bot.session.leases[0], 13, None);
    bot.update(WAIT).await.unwrap();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let usage = PosixResourceUsage {
        user_time: seconds(3),
        system_time: seconds(1),
        maximum_resident_set_size: 700 << 20,
        ..PosixResourceUsage::default()
    };
    let metadata =
        ExecutedActionMetadata { auxiliary_metadata: vec![any::pack(&usage)], ..Default::default() };
    let result = ActionResult { execution_metadata: Some(metadata), ..ActionResult::default() };
    finish(&mut bot.session.leases[0], 0, Some(&result));
    bot.update(BRIEF).await.unwrap();
    let done = response(&last(stream).await).result.unwrap();
    // Clients print results whatever their worker sent: what they don't know is behind a digest.
    let shown = done.execution_metadata.unwrap().auxiliary_metadata;
    let named: reapi::Digest = any::unpack(&shown[0]).unwrap();
    let named = Digest::parse(DigestFunction::Sha256, &named.hash, named.size_bytes).unwrap();
    let stored = shared.storage.read_batch(&[named]).await.pop().unwrap().unwrap();
    let statistics: ExecutionStatistics = any::unpack(&Any::decode(stored).unwrap()).unwrap();
    let measured = statistics.command_rusage.unwrap();
    assert_eq!((measured.utime, measured.maxrss, shown.len()), (seconds(3), 700 << 10, 1));
    let kept = shared.cache.get(&action).await.unwrap().unwrap();
    assert_eq!(kept.execution_metadata.unwrap().auxiliary_metadata, shown, "the cache gives the same");

    let classes = grid.fleet().get_size_classes(SizeClassesRequest::default()).await.unwrap().into_inner();
    let class = &classes.classes[0];
    assert_eq!((class.finished, class.workers_lost, classes.classes.len()), (1, 0, 1));
    assert_eq!(class.memory.unwrap().max, 700 << 20);
    assert_eq!(class.cpu_time.unwrap().p50, seconds(4));
    let why = grid.fleet().why(WhyRequest { operation: first.name }).await.unwrap().into_inner();
    let attempts: Vec<_> =
        why.attempts.iter().map(|a| (a.number, a.ending.as_str(), a.bot.as_str())).collect();
    assert_eq!(attempts, [(2, "finished", "b1"), (1, "internal", "b1")]);
}

async fn why_a_job_waited_is_told_when_it_is_over(kind: Kind) {
    let often = SchedulerOptions { safety_poll: Duration::from_millis(100), ..SchedulerOptions::default() };
    let (shared, grid) = grid(kind, often).await;
    grid.fleet().declare_pools(declaration(1, vec![pool()])).await.unwrap();
    let action = shared.action("x", LINUX, |_| {}).await;
    let (first, stream) = grid.execute(action).await;
    let why = || async {
        let request = WhyRequest { operation: first.name.clone() };
        grid.fleet().why(request).await.unwrap().into_inner()
    };
    let noted = async { while why().await.waits.is_empty() {} };
    tokio::time::timeout(WAIT, noted).await.unwrap();
    let mut bot = bot(&grid, "b1");
    bot.create(WAIT).await;
    finish(&mut bot.session.leases[0], 0, Some(&ActionResult::default()));
    bot.update(BRIEF).await.unwrap();
    last(stream).await;
    let told = why().await;
    assert_eq!(told.reason(), WaitReason::NotWaiting);
    let waited = &told.waits[0];
    assert_eq!(waited.reason(), WaitReason::ScalingUp);
    assert!(waited.text.contains(POOL), "{}", waited.text);
    let job = told.job.unwrap();
    let nanos = |at: Option<prost_types::Timestamp>| at.map(|at| (at.seconds, at.nanos)).unwrap();
    assert!(nanos(job.queued_at) <= nanos(waited.since) && nanos(waited.since) <= nanos(waited.until));
    let until = told.waits.iter().map(|wait| nanos(wait.until)).max().unwrap();
    assert!(
        until <= nanos(job.assigned_at),
        "it is told of a wait that was over: {told:?}",
        told = told.waits
    );
}

async fn a_full_queue_refuses(kind: Kind) {
    let limits = vec![(vec![support::INSTANCE.to_owned()], 1)];
    let options = SchedulerOptions {
        max_queue_size: Some(100),
        instanced_queue_sizes: limits,
        ..SchedulerOptions::default()
    };
    let (shared, grid) = grid(kind, options).await;
    let (_, _stream) = grid.execute(shared.action("a", LINUX, |_| {}).await).await;
    let status = grid.try_execute(shared.action("b", LINUX, |_| {}).await).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("linux") && status.message().contains('1'), "{status}");
}
