//! A transaction on a simulated database: a copy of the rows, which the commit puts in their place.

use std::sync::Arc;

use async_trait::async_trait;
use grid_core::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::World;
use super::tables::{self, Tables};
use crate::SchedulerError;
use crate::fleet::{Declaration, Drain, DrainTarget, Wait};
use crate::ids::{JobId, OperationId, SessionId};
use crate::job::{Job, Stage};
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::quota::{Quota, Share};
use crate::session::Session;
use crate::store::{Event, FlowKey, Order, Overdue, QueueTx, StoreResult, Want};

pub(super) struct SimTx {
    world: Arc<World>,
    handle: usize,
    committed: OwnedMutexGuard<Tables>,
    tables: Tables,
    now: Timestamp,
    events: Vec<Event>,
}

impl SimTx {
    pub(super) fn new(world: Arc<World>, handle: usize, committed: OwnedMutexGuard<Tables>) -> Self {
        let (tables, now) = (committed.clone(), world.now());
        Self { world, handle, committed, tables, now, events: Vec::new() }
    }

    async fn statement(&self) -> StoreResult<()> {
        self.world.stall().await;
        self.world.fail(|f| f.statement)
    }

    fn jobs(&self, keep: impl Fn(&Job) -> bool) -> Vec<Job> {
        let kept = self.tables.jobs.values().filter(|job| keep(job));
        kept.map(|job| job.as_ref().clone()).collect()
    }

    fn sessions(&self, keep: impl Fn(&Session) -> bool) -> Vec<Session> {
        let kept = self.tables.sessions.values().filter(|session| keep(session));
        kept.map(|session| session.as_ref().clone()).collect()
    }

    fn in_the_way(&self, job: &Job) -> bool {
        let key = job.live_merge_key();
        self.tables.jobs.contains_key(&job.id)
            || key.is_some() && self.tables.jobs.values().any(|other| other.live_merge_key() == key)
    }
}

#[async_trait]
impl QueueTx for SimTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn insert_jobs(&mut self, jobs: &[Job]) -> StoreResult<Vec<JobId>> {
        self.statement().await?;
        let mut refused = Vec::new();
        for job in jobs {
            if self.in_the_way(job) {
                refused.push(job.id);
            } else {
                self.tables.jobs.insert(job.id, Arc::new(job.clone()));
            }
        }
        Ok(refused)
    }

    async fn lock_merge_keys(&mut self, keys: &[String]) -> StoreResult<Vec<Job>> {
        self.statement().await?;
        Ok(self.jobs(|job| job.live_merge_key().is_some_and(|key| keys.contains(&key))))
    }

    async fn lock_jobs(&mut self, ids: &[JobId]) -> StoreResult<Vec<Job>> {
        self.statement().await?;
        Ok(self.jobs(|job| ids.contains(&job.id)))
    }

    async fn lock_leased(&mut self, sessions: &[SessionId]) -> StoreResult<Vec<Job>> {
        self.statement().await?;
        Ok(self.jobs(|job| job.session().is_some_and(|session| sessions.contains(&session))))
    }

    async fn lock_queued(&mut self, wants: &[Want], order: Order) -> StoreResult<Vec<Job>> {
        self.statement().await?;
        let mut found = Vec::new();
        for want in wants {
            let asked = |job: &Job| {
                let instance = &job.spec.instance;
                job.state.stage == Stage::Queued
                    && job.spec.requirement == want.requirement
                    && want.only.as_ref().is_none_or(|only| only.contains(instance))
                    && !want.except.contains(instance)
            };
            let mut jobs = self.jobs(asked);
            order.sort(&mut jobs);
            jobs.truncate(usize::try_from(want.most).unwrap_or(usize::MAX));
            found.extend(jobs);
        }
        order.sort(&mut found);
        Ok(found)
    }

    async fn lock_lent(
        &mut self,
        cohort: &str,
        instances: &[String],
        requirement: RequirementId,
        limit: u32,
    ) -> StoreResult<Vec<Job>> {
        self.statement().await?;
        let lent = |job: &Job| {
            job.state.lease.as_ref().is_some_and(|lease| lease.cohort == cohort)
                && job.spec.requirement == requirement
                && instances.contains(&job.spec.instance)
        };
        let mut found = self.jobs(lent);
        found.sort_by_key(|job| std::cmp::Reverse((job.state.priority, job.state.queued_at)));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn lock_shares(&mut self, cohorts: &[String], evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
        self.statement().await?;
        let shares = self.tables.shares(evicted_since).into_iter();
        Ok(shares.filter(|share| cohorts.contains(&share.quota.cohort)).collect())
    }

    async fn save_quota(&mut self, quota: &Quota) -> StoreResult<()> {
        self.statement().await?;
        let key = (quota.cohort.clone(), quota.instance.clone());
        self.tables.quotas.insert(key, quota.clone());
        Ok(())
    }

    async fn delete_quota(&mut self, cohort: &str, instance: &str) -> StoreResult<bool> {
        self.statement().await?;
        Ok(self.tables.quotas.remove(&(cohort.to_owned(), instance.to_owned())).is_some())
    }

    async fn note_evictions(&mut self, evicted: &[(String, String)]) -> StoreResult<()> {
        self.statement().await?;
        let now = self.now;
        self.tables.evictions.extend(evicted.iter().map(|of| (of.clone(), now)));
        Ok(())
    }

    async fn lock_overdue(&mut self, overdue: Overdue, limit: u32) -> StoreResult<Vec<Job>> {
        self.statement().await?;
        let now = self.now;
        let mut found = self.jobs(|job| tables::is_overdue(job, &overdue, now));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn save_jobs(&mut self, jobs: &[Job]) -> StoreResult<()> {
        self.statement().await?;
        jobs.iter().for_each(|job| self.tables.save(job));
        Ok(())
    }

    async fn prune(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        self.statement().await?;
        let mut old = self.jobs(|job| job.state.completed_at.is_some_and(|at| at < before));
        old.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        for job in &old {
            self.tables.jobs.remove(&job.id);
            self.tables.operations.retain(|_, operation| operation.job != job.id);
        }
        Ok(old.len() as u64)
    }

    async fn prune_runs(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        self.statement().await?;
        let old = self.tables.runs.iter().filter(|(_, run)| run.ended_at < before).map(|(key, _)| *key);
        let old: Vec<_> = old.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        old.iter().for_each(|key| drop(self.tables.runs.remove(key)));
        self.tables.waits.retain(|wait| wait.until >= before);
        Ok(old.len() as u64)
    }

    async fn latest_waits(&mut self, since: Timestamp) -> StoreResult<Vec<Wait>> {
        self.statement().await?;
        Ok(self.tables.waits.iter().filter(|wait| wait.until >= since).cloned().collect())
    }

    async fn save_waits(&mut self, waits: &[Wait]) -> StoreResult<()> {
        self.statement().await?;
        self.tables.save_waits(waits);
        Ok(())
    }

    async fn intern(&mut self, requirements: &[Requirement]) -> StoreResult<()> {
        self.statement().await?;
        let now = self.now;
        self.tables.requirements.extend(requirements.iter().map(|r| (r.id(), (r.clone(), now))));
        Ok(())
    }

    async fn forget(&mut self, unused_since: Timestamp) -> StoreResult<()> {
        self.statement().await?;
        let Tables { jobs, requirements, turns, evictions, .. } = &mut self.tables;
        let live = |id: &RequirementId| {
            jobs.values().any(|job| job.state.stage != Stage::Completed && job.spec.requirement == *id)
        };
        evictions.retain(|(_, at)| *at >= unused_since);
        requirements.retain(|id, (_, used)| *used >= unused_since || live(id));
        let clock = turns.clone();
        turns.retain(|key, turn| {
            let clock = clock.get(&FlowKey { flow: String::new(), ..key.clone() });
            key.flow.is_empty() || clock.is_none_or(|clock| *turn > *clock)
        });
        Ok(())
    }

    async fn insert_operations(&mut self, operations: &[Operation]) -> StoreResult<()> {
        self.statement().await?;
        for operation in operations {
            if !self.tables.jobs.contains_key(&operation.job) {
                return Err(SchedulerError::Internal("an operation without its job".into()));
            }
            self.tables.operations.entry(operation.id).or_insert_with(|| Arc::new(operation.clone()));
        }
        Ok(())
    }

    async fn lock_operations(&mut self, jobs: &[JobId]) -> StoreResult<Vec<Operation>> {
        self.statement().await?;
        let own = self.tables.operations.values().filter(|o| jobs.contains(&o.job));
        Ok(own.map(|operation| operation.as_ref().clone()).collect())
    }

    async fn jobs_of(&mut self, operations: &[OperationId]) -> StoreResult<Vec<(OperationId, JobId)>> {
        self.statement().await?;
        let job = |id: &OperationId| self.tables.operations.get(id).map(|o| (*id, o.job));
        Ok(operations.iter().filter_map(job).collect())
    }

    async fn cancel_operations(&mut self, ids: &[OperationId]) -> StoreResult<()> {
        self.statement().await?;
        for id in ids {
            if let Some(operation) = self.tables.operations.get_mut(id) {
                Arc::make_mut(operation).cancelled = true;
            }
        }
        Ok(())
    }

    async fn delete_operations(&mut self, ids: &[OperationId]) -> StoreResult<()> {
        self.statement().await?;
        self.tables.operations.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    async fn extend_watch(&mut self, jobs: &[JobId], until: Timestamp) -> StoreResult<()> {
        self.statement().await?;
        for id in jobs {
            if let Some(job) = self.tables.jobs.get_mut(id) {
                let state = &mut Arc::make_mut(job).state;
                state.watched_until = state.watched_until.max(until);
            }
        }
        Ok(())
    }

    async fn save_sessions(&mut self, sessions: &[Session]) -> StoreResult<()> {
        self.statement().await?;
        self.tables.sessions.extend(sessions.iter().map(|s| (s.id, Arc::new(s.clone()))));
        Ok(())
    }

    async fn lock_sessions(&mut self, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
        self.statement().await?;
        Ok(self.sessions(|s| ids.contains(&s.id)))
    }

    async fn lock_bot(&mut self, pool: &str, bot_id: &str) -> StoreResult<Vec<Session>> {
        self.statement().await?;
        Ok(self.sessions(|s| s.pool == pool && s.bot_id == bot_id))
    }

    async fn lock_expired(&mut self, limit: u32) -> StoreResult<Vec<Session>> {
        self.statement().await?;
        let mut expired = self.sessions(|s| s.expires_at < self.now);
        expired.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(expired)
    }

    async fn lock_fleet(&mut self) -> StoreResult<()> {
        self.statement().await
    }

    async fn declarations(&mut self) -> StoreResult<Vec<Declaration>> {
        self.statement().await?;
        Ok(self.tables.declarations.values().cloned().collect())
    }

    async fn save_declaration(&mut self, declaration: &Declaration) -> StoreResult<()> {
        self.statement().await?;
        self.tables.declarations.insert(declaration.owner.clone(), declaration.clone());
        Ok(())
    }

    async fn drains(&mut self) -> StoreResult<Vec<Drain>> {
        self.statement().await?;
        Ok(self.tables.drains.values().cloned().collect())
    }

    async fn save_drains(&mut self, drains: &[Drain]) -> StoreResult<()> {
        self.statement().await?;
        self.tables.drains.extend(drains.iter().map(|drain| (drain.target.clone(), drain.clone())));
        Ok(())
    }

    async fn delete_drains(&mut self, targets: &[DrainTarget]) -> StoreResult<()> {
        self.statement().await?;
        self.tables.drains.retain(|target, _| !targets.contains(target));
        Ok(())
    }

    async fn lock_covered(&mut self, targets: &[DrainTarget]) -> StoreResult<Vec<Session>> {
        self.statement().await?;
        Ok(self.sessions(|session| targets.iter().any(|target| target.covers(session))))
    }

    async fn wake_pools(&mut self, pools: &[String]) -> StoreResult<()> {
        self.statement().await?;
        let now = u64::try_from(self.now.0).unwrap_or(0);
        self.tables.wakeups.extend(pools.iter().map(|pool| (pool.clone(), now)));
        Ok(())
    }

    async fn delete_sessions(&mut self, ids: &[SessionId]) -> StoreResult<()> {
        self.statement().await?;
        self.tables.sessions.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    async fn take_turns(&mut self, flows: &[(FlowKey, u32)], step: i64) -> StoreResult<Vec<i64>> {
        self.statement().await?;
        let mut turns = Vec::with_capacity(flows.len());
        for (key, count) in flows {
            let clock = FlowKey { flow: String::new(), ..key.clone() };
            let clock = self.tables.turns.get(&clock).copied().unwrap_or(0);
            let turn = self.tables.turns.entry(key.clone()).or_default();
            *turn = (*turn).max(clock).saturating_add(step.saturating_mul(i64::from(*count)));
            turns.push(*turn);
        }
        Ok(turns)
    }

    async fn serve_turns(&mut self, clocks: &[(FlowKey, i64)]) -> StoreResult<()> {
        self.statement().await?;
        for (key, turn) in clocks {
            let clock = self.tables.turns.entry(key.clone()).or_default();
            *clock = (*clock).max(*turn);
        }
        Ok(())
    }

    fn notify(&mut self, event: Event) {
        self.events.push(event);
    }

    async fn commit(mut self: Box<Self>) -> StoreResult<()> {
        self.world.stall().await;
        self.world.fail(|f| f.commit)?;
        (self.world.inspect)(&self.tables);
        *self.committed = std::mem::take(&mut self.tables);
        self.world.tell(self.handle, &self.events);
        self.world.fail(|f| f.unknown)
    }
}
