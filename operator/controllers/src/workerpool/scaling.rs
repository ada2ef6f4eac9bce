//! How many pods an autoscaled pool is to have, and which leave: a pure function of what is known.
//!
//! Up at once, in one step. Down only once fewer have been enough for the whole delay, and in steps that lose nothing:
//! idle workers are drained, and when they are, their pods are the ones that leave. A worker that runs something
//! never leaves by this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use grid_operator_api::Autoscaling;
use k8s_openapi::jiff::Timestamp;

use crate::fleet::{Bot, Drain, PoolDemand, Reason};

/// What was needed in the past, as far back as the delay reaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// When, and how many; later ones are smaller, for a larger one makes those before it irrelevant.
    peaks: VecDeque<(Timestamp, i32)>,
    /// When this began to look.
    since: Option<Timestamp>,
}

impl History {
    /// Notes what is needed now; the most that was needed within the delay, once that long has been looked.
    fn note(&mut self, now: Timestamp, needed: i32, delay: Duration) -> Option<i32> {
        let since = *self.since.get_or_insert(now);
        while self.peaks.back().is_some_and(|(_, earlier)| *earlier <= needed) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, needed));
        while self.peaks.front().is_some_and(|(at, _)| elapsed(*at, now) >= delay) && self.peaks.len() > 1 {
            self.peaks.pop_front();
        }
        let most = self.peaks.front().map(|(_, needed)| *needed);
        most.filter(|_| elapsed(since, now) >= delay)
    }

    /// When fewer may be enough without any change of the demand.
    fn next(&self, now: Timestamp, delay: Duration) -> Duration {
        let begun = self.since.map_or(delay, |since| delay.saturating_sub(elapsed(since, now)));
        let first =
            self.peaks.front().map_or(Duration::ZERO, |(at, _)| delay.saturating_sub(elapsed(*at, now)));
        begun.max(first).max(Duration::from_secs(1))
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) min: i32,
    pub(crate) max: i32,
    pub(crate) concurrency: i32,
    pub(crate) target: Duration,
    pub(crate) delay: Duration,
}

impl Limits {
    pub(crate) fn of(spec: &Autoscaling, concurrency: i32) -> Self {
        let span = |span: &grid_operator_api::Span| Duration::from_secs(span.seconds().unwrap_or_default());
        Self {
            min: spec.min_replicas,
            max: spec.max_replicas,
            concurrency: concurrency.max(1),
            target: span(&spec.target_queue_time),
            delay: span(&spec.scale_down_delay),
        }
    }
}

/// How many pods there are to be, before any leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Pods that are wanted in the end.
    pub(crate) pods: i32,
    /// More would be needed than the pool may have.
    pub(crate) limited: bool,
    /// When to look again though nothing changed.
    pub(crate) again: Option<Duration>,
}

/// The goal for a pool that has `current` pods now.
pub(crate) fn goal(
    limits: Limits,
    current: i32,
    demand: &PoolDemand,
    history: &mut History,
    now: Timestamp,
) -> Goal {
    let required = required(limits, demand);
    let needed = needed(limits, demand);
    let limited = required > limits.max;
    let lately = history.note(now, needed, limits.delay);
    if needed > current {
        let waited = demand.oldest.unwrap_or_default();
        // Busy workers may yet take what has only just come.
        if current < limits.min || demand.bots == 0 || waited >= limits.target {
            return Goal { pods: needed, limited, again: None };
        }
        return Goal { pods: current, limited, again: Some(limits.target.saturating_sub(waited)) };
    }
    let floor = lately.map_or(current, |most| most.clamp(limits.min, limits.max));
    let pods = floor.clamp(needed, current.max(needed)).min(limits.max);
    let again = (needed < current).then(|| history.next(now, limits.delay));
    Goal { pods, limited, again }
}

/// The pods that the demand asks for, whatever the pool may have.
fn required(limits: Limits, demand: &PoolDemand) -> i32 {
    let slots = u64::try_from(limits.concurrency).unwrap_or(1);
    i32::try_from(demand.required_slots.div_ceil(slots)).unwrap_or(i32::MAX)
}

/// The pods that the demand asks for, within the pool's own limits.
pub(crate) fn needed(limits: Limits, demand: &PoolDemand) -> i32 {
    required(limits, demand).clamp(limits.min, limits.max)
}

/// Who leaves, and who stays after all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Pods that there are to be from now on.
    pub(crate) replicas: i32,
    /// Sessions that get no more actions.
    pub(crate) drain: Vec<String>,
    /// Sessions that get actions again.
    pub(crate) undrain: Vec<String>,
    /// Pods that are the first to leave.
    pub(crate) leave: Vec<String>,
}

/// A pod that exists and isn't leaving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LivePod {
    pub(crate) name: String,
    /// Its worker says that it takes actions.
    pub(crate) ready: bool,
}

/// The next step from `current` pods to `goal`, where these are the pods that exist. One that is ready and of which
/// Fleet knows nothing may well be at work: it stays. So does one that leaves for another reason than ours.
pub(crate) fn depart(goal: i32, current: i32, pods: &[LivePod], bots: &[Bot]) -> Departure {
    let existing = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let surplus = current - goal;
    // More pods than are wanted: some are leaving already, or a rollout is going on. One thing at a time.
    if surplus > 0 && existing > current {
        return Departure { replicas: current, ..Departure::default() };
    }
    let known = Known::of(pods, bots);
    let wish = usize::try_from(surplus.max(0)).unwrap_or(0);
    // Pods that have not come up are the first that a ReplicaSet removes, and before them those that the annotation names.
    let of_silent: Vec<&str> = known.silent.iter().take(wish).copied().collect();
    let (free, held) = known.done();
    let of_done: Vec<&str> = free.iter().take(wish - of_silent.len()).copied().collect();
    let open = wish - of_silent.len() - of_done.len();
    let going = known.going();
    let open_after_going = open.saturating_sub(going.len());
    let (weak, well): (Vec<&str>, Vec<&str>) = known.idle().into_iter().partition(|pod| known.is_weak(pod));
    let of_weak: Vec<&str> = weak.into_iter().take(open_after_going).collect();
    let open_after_weak = open_after_going - of_weak.len();
    let of_held = held.len().min(open_after_weak);
    let drained = of_weak.iter().chain(well.iter().take(open_after_weak - of_held));
    let spared =
        free.iter().skip(of_done.len()).chain(going.iter().skip(open)).chain(held.iter().skip(of_held));
    let marked = of_done.iter().chain(of_silent.iter().filter(|_| known.has_weak()));
    let left = i32::try_from(of_silent.len() + of_done.len()).unwrap_or(0);
    Departure {
        replicas: if surplus > 0 { current - left } else { goal },
        drain: known.sessions(drained.copied()),
        undrain: known.sessions(spared.copied()),
        leave: marked.map(ToString::to_string).collect(),
    }
}

/// What Fleet knows of the pods that exist.
struct Known<'a> {
    /// The sessions of each, but of those that leave for another reason.
    workers: BTreeMap<&'a str, Vec<&'a Bot>>,
    /// Not ready, and unknown: they have not come up.
    silent: Vec<&'a str>,
    /// Not ready, and known: they may be at work, and a ReplicaSet would remove them before any that is ready.
    weak: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(pods: &'a [LivePod], bots: &'a [Bot]) -> Self {
        let mut workers: BTreeMap<&str, Vec<&Bot>> = BTreeMap::new();
        for bot in bots.iter().filter(|bot| pods.iter().any(|pod| pod.name == bot.pod())) {
            workers.entry(bot.pod()).or_default().push(bot);
        }
        let unready = || pods.iter().filter(|pod| !pod.ready).map(|pod| pod.name.as_str());
        let silent = unready().filter(|pod| !workers.contains_key(pod)).collect();
        let weak = unready().filter(|pod| workers.contains_key(pod)).collect();
        workers.retain(|_, bots| {
            bots.iter().all(|bot| bot.drain == Drain::None || bot.reason == Reason::ScaleDown)
        });
        Self { workers, silent, weak }
    }

    fn is_weak(&self, pod: &str) -> bool {
        self.weak.contains(pod)
    }

    /// A pod that isn't ready may be at work: none that is ready may leave, for that one would leave in its place.
    fn has_weak(&self) -> bool {
        self.weak.iter().any(|pod| !self.workers.get(pod).is_some_and(|bots| is(bots, Drain::Done)))
    }

    /// Pods whose sessions are all drained: those that may leave, and those that may not yet.
    fn done(&self) -> (Vec<&'a str>, Vec<&'a str>) {
        let done = self.workers.iter().filter(|(_, bots)| is(bots, Drain::Done)).map(|(pod, _)| *pod);
        let has_weak = self.has_weak();
        done.partition(|pod| !has_weak || self.is_weak(pod))
    }

    /// Pods whose sessions are being drained.
    fn going(&self) -> Vec<&'a str> {
        let drains = |bots: &[&Bot]| bots.iter().any(|bot| bot.drain != Drain::None);
        let going = self.workers.iter().filter(|(_, bots)| !is(bots, Drain::Done) && drains(bots));
        going.map(|(pod, _)| *pod).collect()
    }

    /// Pods of which no session has anything to do, the longest idle first.
    fn idle(&self) -> Vec<&'a str> {
        let mut idle: Vec<(Option<Timestamp>, &str)> = self
            .workers
            .iter()
            .filter(|(_, bots)| bots.iter().all(|bot| bot.leases == 0 && bot.drain == Drain::None))
            .map(|(pod, bots)| (bots.iter().filter_map(|bot| bot.idle_since).max(), *pod))
            .collect();
        idle.sort();
        idle.into_iter().map(|(_, pod)| pod).collect()
    }

    fn sessions<'p>(&self, pods: impl Iterator<Item = &'p str>) -> Vec<String> {
        pods.filter_map(|pod| self.workers.get(pod)).flatten().map(|bot| bot.id.clone()).collect()
    }
}

fn is(bots: &[&Bot], drain: Drain) -> bool {
    bots.iter().all(|bot| bot.drain == drain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        min: 0,
        max: 10,
        concurrency: 2,
        target: Duration::from_secs(5),
        delay: Duration::from_secs(60),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn demand(required_slots: u64, waited: u64, bots: u64) -> PoolDemand {
        let oldest = (waited > 0).then(|| Duration::from_secs(waited));
        PoolDemand { required_slots, oldest, bots, ..PoolDemand::default() }
    }

    fn pods_at(history: &mut History, second: i64, current: i32, demand: &PoolDemand) -> i32 {
        goal(LIMITS, current, demand, history, at(second)).pods
    }

    #[test]
    fn from_zero_it_goes_up_at_once_and_in_one_step() {
        let mut history = History::default();
        let up = goal(LIMITS, 0, &demand(15, 0, 0), &mut history, at(0));
        assert_eq!(up, Goal { pods: 8, limited: false, again: None });
        let more = goal(LIMITS, 0, &demand(99, 0, 0), &mut history, at(0));
        assert_eq!(more, Goal { pods: 10, limited: true, again: None });
    }

    #[test]
    fn busy_workers_get_the_target_time_before_more_come() {
        let mut history = History::default();
        let early = goal(LIMITS, 2, &demand(6, 2, 2), &mut history, at(0));
        assert_eq!((early.pods, early.again), (2, Some(Duration::from_secs(3))));
        assert_eq!(pods_at(&mut history, 3, 2, &demand(6, 5, 2)), 3);
    }

    #[test]
    fn it_goes_down_only_after_fewer_were_enough_for_the_whole_delay() {
        let mut history = History::default();
        assert_eq!(pods_at(&mut history, 0, 8, &demand(16, 0, 8)), 8);
        assert_eq!(pods_at(&mut history, 10, 8, &demand(6, 0, 8)), 8);
        assert_eq!(pods_at(&mut history, 40, 8, &demand(2, 0, 8)), 8);
        assert_eq!(pods_at(&mut history, 61, 8, &demand(0, 0, 8)), 3, "six slots were needed 51 s ago");
        assert_eq!(pods_at(&mut history, 71, 8, &demand(0, 0, 8)), 1);
        assert_eq!(pods_at(&mut history, 130, 8, &demand(0, 0, 8)), 0);
    }

    #[test]
    fn an_operator_that_has_just_started_takes_nobody_away() {
        let mut history = History::default();
        let first = goal(LIMITS, 8, &demand(0, 0, 8), &mut history, at(0));
        assert_eq!((first.pods, first.again), (8, Some(LIMITS.delay)));
        assert_eq!(pods_at(&mut history, 60, 8, &demand(0, 0, 8)), 0);
    }

    fn bot(pod: &str, leases: usize, idle: i64, drain: Drain) -> Bot {
        Bot {
            id: format!("{pod}/0"),
            leases,
            idle_since: (leases == 0).then(|| at(idle)),
            drain,
            reason: Reason::ScaleDown,
            faults: 0,
        }
    }

    fn names(pods: &[&str]) -> Vec<String> {
        pods.iter().map(ToString::to_string).collect()
    }

    fn ready(pods: &[&str]) -> Vec<LivePod> {
        pods.iter().map(|name| LivePod { name: (*name).to_owned(), ready: true }).collect()
    }

    #[test]
    fn the_longest_idle_drain_first_and_leave_once_they_are_drained() {
        let pods = ready(&["a", "b", "c", "d"]);
        let idle = [
            bot("a", 1, 0, Drain::None),
            bot("b", 0, 20, Drain::None),
            bot("c", 0, 10, Drain::None),
            bot("d", 0, 30, Drain::None),
        ];
        let first = depart(2, 4, &pods, &idle);
        assert_eq!((first.replicas, first.drain), (4, names(&["c/0", "b/0"])));
        let mut drained = idle.clone();
        drained[2].drain = Drain::Done;
        drained[1].drain = Drain::Going;
        let second = depart(2, 4, &pods, &drained);
        assert_eq!((second.replicas, second.leave), (3, names(&["c"])));
        assert!(second.drain.is_empty() && second.undrain.is_empty());
        // c is leaving: nothing more until it is gone.
        assert_eq!(depart(2, 3, &pods, &drained), Departure { replicas: 3, ..Departure::default() });
    }

    #[test]
    fn who_was_to_leave_stays_where_the_demand_is_back() {
        let pods = ready(&["a", "b"]);
        let bots = [bot("a", 0, 0, Drain::Done), bot("b", 1, 0, Drain::Going)];
        let back = depart(2, 2, &pods, &bots);
        assert_eq!((back.replicas, back.undrain), (2, names(&["a/0", "b/0"])));
        let more = depart(5, 2, &pods, &bots);
        assert_eq!((more.replicas, more.undrain), (5, names(&["a/0", "b/0"])));
    }

    #[test]
    fn pods_that_have_not_come_up_leave_before_anyone_is_drained() {
        let mut pods = ready(&["a", "b", "pending"]);
        pods[2].ready = false;
        let bots = [bot("a", 0, 0, Drain::None), bot("b", 1, 0, Drain::None)];
        let one = depart(2, 3, &pods, &bots);
        assert_eq!(one, Departure { replicas: 2, ..Departure::default() });
        pods[2].ready = true;
        assert_eq!(depart(2, 3, &pods, &bots).replicas, 3, "who is ready and unknown may be at work");
    }

    #[test]
    fn while_one_that_works_is_not_ready_nobody_leaves_in_whose_place_it_would() {
        let mut pods = ready(&["a", "b", "c"]);
        let mut bots =
            [bot("a", 0, 0, Drain::Done), bot("b", 1, 0, Drain::None), bot("c", 0, 9, Drain::None)];
        assert_eq!(depart(2, 3, &pods, &bots).leave, names(&["a"]));
        pods[1].ready = false;
        assert_eq!(depart(2, 3, &pods, &bots), Departure { replicas: 3, ..Departure::default() });
        bots[1] = bot("b", 0, 10, Drain::None);
        let idle = depart(2, 3, &pods, &bots);
        assert_eq!((idle.replicas, idle.drain, idle.undrain), (3, names(&["b/0"]), names(&["a/0"])));
        bots[0] = bot("a", 0, 0, Drain::None);
        bots[1] = bot("b", 0, 10, Drain::Done);
        let done = depart(2, 3, &pods, &bots);
        assert_eq!((done.replicas, done.leave), (2, names(&["b"])));
    }

    #[test]
    fn who_leaves_with_its_node_is_not_taken_for_one_that_has_not_come_up() {
        let mut pods = ready(&["a", "b", "new"]);
        let for_node = Bot { reason: Reason::Node, ..bot("b", 1, 0, Drain::Going) };
        let bots = [bot("a", 0, 0, Drain::None), for_node];
        (pods[1].ready, pods[2].ready) = (false, false);
        let step = depart(1, 3, &pods, &bots);
        assert_eq!((step.replicas, step.leave, step.drain), (2, names(&["new"]), names(&["a/0"])));
    }

    #[test]
    fn a_pod_of_several_sessions_leaves_as_a_whole() {
        let pods = ready(&["a"]);
        let session = |n: usize, leases, drain| Bot { id: format!("a/{n}"), ..bot("a", leases, 0, drain) };
        let half_busy = [session(0, 0, Drain::None), session(1, 1, Drain::None)];
        assert!(depart(0, 1, &pods, &half_busy).drain.is_empty());
        let half_done = [session(0, 0, Drain::Done), session(1, 0, Drain::Going)];
        assert_eq!(depart(0, 1, &pods, &half_done).replicas, 1);
    }

    fn any_drain() -> impl Strategy<Value = Drain> {
        prop_oneof![Just(Drain::None), Just(Drain::Going), Just(Drain::Done)]
    }

    proptest! {
        /// Whatever the state: nobody who runs something is asked to leave, never more leave than are too many, and the
        /// number of pods goes down by those alone.
        #[test]
        fn nothing_that_runs_is_lost(
            workers in prop::collection::vec((0..3_usize, 0..100_i64, any_drain(), any::<bool>()), 0..12),
            silent in 0..4_usize,
            goal in 0..16_i32,
        ) {
            let pod = |name: String, ready| LivePod { name, ready };
            let mut pods: Vec<LivePod> =
                workers.iter().enumerate().map(|(n, (.., ready))| pod(format!("p{n}"), *ready)).collect();
            pods.extend((0..silent).map(|n| pod(format!("new{n}"), false)));
            let bots: Vec<Bot> = workers.iter().enumerate().map(|(n, (leases, idle, drain, _))| {
                // Drained means that nothing runs.
                let leases = if *drain == Drain::Done { 0 } else { *leases };
                bot(&format!("p{n}"), leases, *idle, *drain)
            }).collect();
            let current = i32::try_from(pods.len()).unwrap();
            let step = depart(goal, current, &pods, &bots);
            let of = |id: &str| bots.iter().find(|bot| bot.id == id).unwrap();
            let marked: Vec<&String> = step.leave.iter().collect();
            let of_workers = marked.iter().filter(|pod| pod.starts_with('p'));
            let leaving: Vec<String> = of_workers.map(|pod| format!("{pod}/0")).collect();
            prop_assert!(step.drain.iter().all(|id| of(id).leases == 0 && of(id).drain == Drain::None));
            prop_assert!(step.undrain.iter().all(|id| of(id).drain != Drain::None));
            prop_assert!(leaving.iter().all(|id| of(id).drain == Drain::Done));
            prop_assert!(leaving.iter().all(|id| !step.undrain.contains(id)));
            if goal >= current {
                prop_assert_eq!(step.replicas, goal);
                prop_assert!(step.leave.is_empty() && step.drain.is_empty());
            } else {
                let gone = current - step.replicas;
                prop_assert!(step.replicas >= goal);
                let of_silent = (current - goal).min(i32::try_from(silent).unwrap());
                prop_assert_eq!(gone, i32::try_from(leaving.len()).unwrap() + of_silent);
                // As a ReplicaSet chooses them, and of those that are alike the one that works first.
                let works = |pod: &LivePod| bots.iter().any(|bot| bot.pod() == pod.name && bot.leases > 0);
                let mut victims: Vec<&LivePod> = pods.iter().collect();
                victims.sort_by_key(|pod| (pod.ready, !marked.contains(&&pod.name), !works(pod)));
                let lost = victims.iter().take(usize::try_from(gone).unwrap()).find(|pod| works(pod));
                prop_assert_eq!(lost, None, "{:?}", step);
                let leaving = bots.iter().filter(|b| b.drain != Drain::None && !step.undrain.contains(&b.id)).count()
                    + step.drain.len();
                prop_assert!(leaving <= usize::try_from(current - goal).unwrap(), "{step:?}");
            }
        }

        /// However the demand moves, the goal stays within the limits, covers what has waited too long, and never falls
        /// below what is needed.
        #[test]
        fn the_goal_is_within_its_limits(
            steps in prop::collection::vec((0..60_u64, 0..10_u64, 0..40_i64), 1..40),
            min in 0..4_i32,
        ) {
            let limits = Limits { min, ..LIMITS };
            let (mut history, mut current, mut now) = (History::default(), min, 0);
            for (slots, waited, passed) in steps {
                now += passed;
                let demand = demand(slots, waited, u64::try_from(current).unwrap());
                let needed = i32::try_from(slots.div_ceil(2)).unwrap().clamp(min, 10);
                let next = goal(limits, current, &demand, &mut history, at(now));
                prop_assert!((min..=10).contains(&next.pods));
                prop_assert!(next.pods >= needed.min(current));
                if waited >= 5 || current == 0 {
                    prop_assert!(next.pods >= needed);
                }
                prop_assert_eq!(next.limited, slots.div_ceil(2) > 10);
                current = next.pods;
            }
        }
    }
}
