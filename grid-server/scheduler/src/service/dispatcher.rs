//! [`Dispatcher`]: the bots that wait for work on this replica, and what is known of the queue.
//!
//! Knowledge of the queue is a set of hints: requirements of which jobs may wait. A claim takes its hints out
//! before it looks and puts back those that had more, so news that comes while it looks is never lost.

mod place;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::assign::{self, Slots};
use crate::engine::{BotReport, Errand, Undelivered};
use crate::ids::SessionId;
use crate::job::Job;
use crate::properties::{Match, Requirement, RequirementId};
use crate::session::Session;

pub(super) use place::Place;

/// How long a requirement counts as known to the store: much less than the store keeps it.
const KNOWN: Duration = Duration::from_hours(1);

/// Why a waiting bot is woken.
#[derive(Debug)]
pub(super) enum Wake {
    /// It got these, then.
    Granted(Vec<Job>, Instant),
    /// What it holds may have changed: look again.
    Resync,
    /// It did not want to wait, and there was nothing for it.
    Nothing,
}

/// The waiting bots and the hints.
#[derive(Debug)]
pub(super) struct Dispatcher {
    state: Mutex<State>,
    work: Notify,
    undelivered: mpsc::UnboundedSender<Undelivered>,
    called: Notify,
    /// How many locality hints of a bot are remembered.
    hints: usize,
    /// Of a hundred leases, how many go to the oldest jobs whatever their priority.
    aged: u32,
}

#[derive(Debug, Default)]
struct State {
    /// Bots that hold nothing and were told nothing but that, as the store saw them last, and when that was.
    idle: HashMap<SessionId, (Session, Instant)>,
    /// Those of them that called again since the store was told of any.
    called: BTreeSet<SessionId>,
    next_place: u64,
    /// In the order of arrival: the bot that has waited longest comes first.
    waiting: BTreeMap<u64, Waiting>,
    places: HashMap<SessionId, u64>,
    queued: HashSet<RequirementId>,
    /// Places and hints that were not compared with all others yet. Of the rest no bot fits any hint, so that the call of one
    /// idle bot costs nothing for the others.
    fresh_places: HashSet<u64>,
    fresh_hints: HashSet<RequirementId>,
    /// Requirements of which no more jobs may run, for their quotas admit none, until a lease ends.
    held_back: HashSet<RequirementId>,
    /// What is left of the oldest jobs' share, in hundredths of a lease.
    aged: u32,
    requirements: HashMap<RequirementId, Requirement>,
    /// When this replica last said to the store that they are asked for.
    interned: HashMap<RequirementId, Instant>,
    /// The locality hints of what bots ran last, newest first.
    localities: HashMap<SessionId, VecDeque<String>>,
}

#[derive(Debug)]
struct Waiting {
    session: SessionId,
    /// What it takes; `None` while its report is being worked on.
    offer: Option<Slots>,
    /// It is answered as soon as it is known whether there is work for it.
    impatient: bool,
    wake: oneshot::Sender<Wake>,
}

impl Dispatcher {
    /// A dispatcher, and where leases come out whose bots had gone.
    pub(super) fn new(hints: usize, aged: u32) -> (Self, mpsc::UnboundedReceiver<Undelivered>) {
        let (undelivered, returned) = mpsc::unbounded_channel();
        let (work, called) = (Notify::new(), Notify::new());
        (Self { state: Mutex::default(), work, undelivered, called, hints, aged }, returned)
    }

    /// A bot calls: from now on it hears of changes to what it holds. An earlier call of the same session ends.
    pub(super) fn enter(&self, session: SessionId) -> Place<'_> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state.lock();
        let place = state.next_place;
        state.next_place += 1;
        if let Some(earlier) = state.places.insert(session, place) {
            state.wake(earlier, Wake::Resync);
        }
        state.places.insert(session, place);
        state.waiting.insert(place, Waiting { session, offer: None, impatient: false, wake });
        Place { dispatcher: self, place, session, offered: None, woken }
    }

    /// The session of a bot that holds nothing, that says what it said before, and of which nothing new is known
    /// here: the store need not be asked, only told some time that the bot lives.
    pub(super) fn recall(&self, report: &BotReport) -> Option<Session> {
        let state = &mut *self.state.lock();
        let (session, at) = state.idle.get(&report.session)?;
        let same = report.leases.is_empty()
            && report.bot_id == session.bot_id
            && report.status == session.status
            && report.properties.as_ref().is_none_or(|properties| *properties == session.properties)
            && report.capacity.is_none_or(|capacity| capacity == session.capacity);
        if !same {
            state.idle.remove(&report.session);
            return None;
        }
        let session = Session { expires_at: session.expires_at.after(at.elapsed()), ..session.clone() };
        state.called.insert(session.id);
        self.called.notify_one();
        Some(session)
    }

    /// Waits for a call that the store is not told of yet.
    pub(super) async fn calls(&self) {
        self.called.notified().await;
    }

    /// The sessions of such calls, which the caller tells the store of.
    pub(super) fn called(&self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.state.lock().called)
    }

    /// Jobs with these requirements may wait.
    pub(super) fn queued(&self, ids: impl IntoIterator<Item = RequirementId>) {
        let state = &mut *self.state.lock();
        let before = state.queued.len();
        state.fresh_hints.extend(ids.into_iter().filter(|id| state.queued.insert(*id)));
        if state.queued.len() > before {
            self.work.notify_one();
        }
    }

    /// Quotas admit no more jobs with these requirements for now.
    pub(super) fn hold_back(&self, ids: impl IntoIterator<Item = RequirementId>) {
        self.state.lock().held_back.extend(ids);
    }

    /// A lease ended, or a quota changed: what quotas held back may go on.
    pub(super) fn reconsider(&self) {
        let held_back = std::mem::take(&mut self.state.lock().held_back);
        if !held_back.is_empty() {
            self.queued(held_back);
        }
    }

    /// What these requirements say.
    pub(super) fn learn(&self, requirements: impl IntoIterator<Item = Requirement>) {
        self.state.lock().requirements.extend(requirements.into_iter().map(|r| (r.id(), r)));
    }

    /// The store has been told of these requirements.
    pub(super) fn interned(&self, requirements: impl IntoIterator<Item = Requirement>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        for (id, requirement) in requirements.into_iter().map(|r| (r.id(), r)) {
            state.requirements.insert(id, requirement);
            state.interned.insert(id, now);
        }
    }

    /// Forgets requirements that nobody asked for here of late and of which no job is known to wait.
    pub(super) fn forget(&self) {
        let state = &mut *self.state.lock();
        // Who has gone calls no more; who is there is known again with the next call.
        state.idle.retain(|id, _| state.places.contains_key(id));
        state.localities.retain(|id, _| state.places.contains_key(id));
        state.interned.retain(|_, at| at.elapsed() < KNOWN);
        state.requirements.retain(|id, _| state.queued.contains(id) || state.interned.contains_key(id));
    }

    /// Whether the requirement is known here, and so was interned before.
    pub(super) fn knows(&self, id: RequirementId) -> bool {
        self.state.lock().interned.get(&id).is_some_and(|at| at.elapsed() < KNOWN)
    }

    /// Hints whose requirements are not known here yet.
    pub(super) fn unknown(&self) -> Vec<RequirementId> {
        let state = self.state.lock();
        state.queued.iter().filter(|id| !state.requirements.contains_key(id)).copied().collect()
    }

    /// The requirements of which jobs may wait, as far as they are known here.
    pub(super) fn hints(&self) -> Vec<(RequirementId, Requirement)> {
        let state = self.state.lock();
        let known = |id: &RequirementId| Some((*id, state.requirements.get(id)?.clone()));
        state.queued.iter().filter_map(known).collect()
    }

    /// No job waits with these requirements.
    pub(super) fn settled(&self, ids: &[RequirementId]) {
        let mut state = self.state.lock();
        for id in ids {
            state.queued.remove(id);
        }
    }

    /// What this requirement says, where it is known here.
    pub(super) fn requirement(&self, id: RequirementId) -> Option<Requirement> {
        self.state.lock().requirements.get(&id).cloned()
    }

    /// Has these sessions look again at what they hold.
    pub(super) fn resync(&self, sessions: impl IntoIterator<Item = SessionId>) {
        let mut state = self.state.lock();
        for session in sessions {
            state.idle.remove(&session);
            if let Some(place) = state.places.get(&session).copied() {
                state.wake(place, Wake::Resync);
            }
        }
    }

    /// Has every session look again at what it holds.
    pub(super) fn resync_all(&self) {
        let sessions: Vec<SessionId> = {
            let mut state = self.state.lock();
            state.idle.clear();
            state.places.keys().copied().collect()
        };
        self.resync(sessions);
    }

    /// Waits for something that may let a claim find work.
    pub(super) async fn changed(&self) {
        self.work.notified().await;
    }

    /// Has what is known of the queue looked at once more.
    pub(super) fn look_again(&self) {
        self.work.notify_one();
    }

    /// What a claim should look at now; `None` where no free bot fits a hint. Then nobody impatient waits on.
    pub(super) fn errand(&self) -> Option<Errand> {
        let mut state = self.state.lock();
        let errand = state.errand(self.aged);
        if errand.is_none() {
            state.dismiss(|_| true);
        }
        errand
    }

    /// A claim had nothing for some of these bots: those that did not want to wait are told.
    pub(super) fn passed_over(&self, slots: &[Slots]) {
        let served: HashSet<SessionId> = slots.iter().map(|s| s.session.id).collect();
        self.state.lock().dismiss(|session| served.contains(&session));
    }

    /// Gives a session what a claim brought it. Where the bot has gone, the leases go back.
    pub(super) fn grant(&self, session: SessionId, jobs: Vec<Job>, slots: &[Slots]) {
        let mut state = self.state.lock();
        state.idle.remove(&session);
        state.remember(session, &jobs, self.hints);
        let place = state.places.get(&session).copied();
        let offered = place.and_then(|place| state.waiting.get(&place)).is_some_and(|w| w.offer.is_some());
        let undelivered = match place {
            Some(place) if offered => state.wake(place, Wake::Granted(jobs, Instant::now())),
            Some(place) => {
                // A newer call is being worked on, and may have looked before the claim: it looks again.
                state.wake(place, Wake::Resync);
                None
            }
            None => Some(Wake::Granted(jobs, Instant::now())),
        };
        drop(state);
        let offer = slots.iter().find(|s| s.session.id == session);
        if let (Some(Wake::Granted(jobs, _)), Some(offer)) = (undelivered, offer) {
            self.give_back(session, offer.session.calls, &jobs);
        }
    }

    fn give_back(&self, session: SessionId, calls: u64, jobs: &[Job]) {
        let jobs = jobs.iter().map(|job| job.id).collect();
        // The receiver ends with the scheduler; the session's end then gives the leases back.
        let _ = self.undelivered.send(Undelivered { session, calls, jobs });
    }
}

impl State {
    /// Copies nothing but what a claim is for: it is asked at every call of every idle bot.
    fn errand(&mut self, aged: u32) -> Option<Errand> {
        if !self.may_match() {
            return None;
        }
        let free: Vec<&Slots> =
            self.waiting.values().filter_map(|w| w.offer.as_ref()).filter(|s| s.free > 0).collect();
        let known = self.queued.iter().filter_map(|id| self.requirements.get_key_value(id));
        let (chosen, wants) = assign::choose(&free, known);
        let slots = chosen.into_iter().cloned().collect();
        let body = |(id, _): &(RequirementId, u32)| Some((*id, self.requirements.get(id)?.clone()));
        let requirements = wants.iter().filter_map(body).collect();
        for (id, _) in &wants {
            self.queued.remove(id);
        }
        let aged = wants.iter().map(|(id, most)| (*id, self.aged(*most, aged)));
        let aged = aged.filter(|(_, most)| *most > 0).collect();
        Some(Errand { slots, wants, aged, requirements })
    }

    /// Whether a free bot fits a hint. Compares only what is fresh, which it is no more where nothing fits.
    fn may_match(&mut self) -> bool {
        let fits = |id: &RequirementId, waiting: &Waiting| {
            let slots = waiting.offer.as_ref().filter(|slots| slots.free > 0);
            let pair = self.requirements.get(id).zip(slots);
            pair.is_some_and(|(wants, slots)| wants.matches(&slots.session.pool, &slots.offer) > Match::No)
        };
        let mut places = self.fresh_places.iter().filter_map(|place| self.waiting.get(place));
        let mut hints = self.fresh_hints.iter().filter(|id| self.queued.contains(id));
        let found = places.any(|waiting| self.queued.iter().any(|id| fits(id, waiting)))
            || hints.any(|id| self.waiting.values().any(|waiting| fits(id, waiting)));
        if !found {
            self.fresh_places.clear();
            // What is not known yet was compared with nobody.
            self.fresh_hints.retain(|id| self.queued.contains(id) && !self.requirements.contains_key(id));
        }
        found
    }

    /// How many of so many leases go to the oldest jobs. What is less than one is carried on.
    fn aged(&mut self, leases: u32, percent: u32) -> u32 {
        let share = u64::from(self.aged) + u64::from(leases) * u64::from(percent);
        self.aged = u32::try_from(share % 100).unwrap_or(0);
        u32::try_from(share / 100).unwrap_or(u32::MAX)
    }

    /// Notes the localities of what a bot is given.
    fn remember(&mut self, session: SessionId, jobs: &[Job], most: usize) {
        for hint in jobs.iter().map(|job| &job.spec.locality).filter(|hint| !hint.is_empty()) {
            let hints = self.localities.entry(session).or_default();
            hints.retain(|known| known != hint);
            hints.push_front(hint.clone());
            hints.truncate(most);
        }
    }

    /// Answers those who did not want to wait, among the sessions that `which` picks.
    fn dismiss(&mut self, which: impl Fn(SessionId) -> bool) {
        let impatient = |(place, w): (&u64, &Waiting)| {
            (w.impatient && w.offer.is_some() && which(w.session)).then_some(*place)
        };
        let places: Vec<u64> = self.waiting.iter().filter_map(impatient).collect();
        for place in places {
            self.wake(place, Wake::Nothing);
        }
    }

    /// Wakes the bot in a place, which it thereby leaves. Gives back the news where the bot has gone.
    fn wake(&mut self, place: u64, wake: Wake) -> Option<Wake> {
        let waiting = self.waiting.remove(&place)?;
        if self.places.get(&waiting.session) == Some(&place) {
            self.places.remove(&waiting.session);
        }
        waiting.wake.send(wake).err()
    }
}
