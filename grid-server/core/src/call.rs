//! [`ServedCall`]: the call that is being served, for those who measure what is done for it.
//!
//! Whoever counts calls enters it around each of their steps; what runs within finds it by [`ServedCall::current`], and needs
//! to be handed nothing. Work that a call leaves to other tasks is not within it.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{CallInstance, Coded, ErrorCode};

/// A part of a call that is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A tree of directories is walked and sent.
    GetTree,
    /// A blob is cut into chunks.
    Split,
    /// A blob is made from chunks.
    Splice,
    /// The chunks that a blob is made from are read, and checked with it.
    SpliceVerify,
    /// It is looked up whether a client used more than it may.
    GetThrottling,
    /// What a client used is noted.
    PutUsage,
}

/// What a call tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// So many bytes of the request came.
    Received(u64),
    /// It took so long to know the caller, or to decide what they may do. A call may tell it several times.
    Authorized(Duration),
    /// It is answered with a result of an action that ended so long ago.
    ResultAge(Duration),
    /// A step ended.
    Step {
        /// Which.
        step: Step,
        /// How long it took.
        took: Duration,
        /// How it ended; `None` is well.
        error: Option<ErrorCode>,
    },
}

/// Who is told of [`CallEvent`]s: it counts, and does nothing else.
pub trait CallObserver: Debug + Send + Sync {
    /// A call tells something.
    fn event(&self, event: CallEvent);
}

/// The call that is being served.
#[derive(Clone, Debug)]
pub struct ServedCall {
    /// The full name of its service.
    pub service: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Its instance, once that is known.
    pub instance: CallInstance,
    /// Who hears of it.
    pub observer: Arc<dyn CallObserver>,
}

thread_local! {
    static SERVED: RefCell<Option<ServedCall>> = const { RefCell::new(None) };
}

/// Puts back what was there before, however the work within ends.
struct Leave(Option<ServedCall>);

impl Drop for Leave {
    fn drop(&mut self) {
        let before = self.0.take();
        // A thread that ends serves nothing.
        let _ = SERVED.try_with(|served| served.replace(before));
    }
}

impl ServedCall {
    /// Does some work as a part of the call: one look at a future, never its whole life.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _leave = Leave(SERVED.replace(Some(self.clone())));
        work()
    }

    /// The call that is being served here, where that is measured.
    #[must_use]
    pub fn current() -> Option<Self> {
        SERVED.with_borrow(Clone::clone)
    }
}

/// Tells whoever measures the call that is served here.
pub fn tell(event: CallEvent) {
    if let Some(call) = ServedCall::current() {
        call.observer.event(event);
    }
}

/// Measures a step of the call that is served where it begins. It ends when this is dropped, wherever that is, and is told as
/// a part of that call.
#[derive(Debug)]
pub struct Stopwatch {
    call: Option<ServedCall>,
    step: Step,
    began: Instant,
    error: Option<ErrorCode>,
}

impl Stopwatch {
    /// A step begins. Until more is said of it, it ends because its caller went away.
    #[must_use]
    pub fn start(step: Step) -> Self {
        Self { call: ServedCall::current(), step, began: Instant::now(), error: Some(ErrorCode::Cancelled) }
    }

    /// Notes how the step goes, or ended.
    pub const fn note(&mut self, error: Option<ErrorCode>) {
        self.error = error;
    }

    /// The step ended like this.
    pub fn ended<T, E: Coded>(mut self, result: &Result<T, E>) {
        self.error = result.as_ref().err().map(Coded::code);
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            let (step, took, error) = (self.step, self.began.elapsed(), self.error);
            call.enter(|| call.observer.event(CallEvent::Step { step, took, error }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<CallEvent>>);

    impl CallObserver for Notes {
        fn event(&self, event: CallEvent) {
            assert!(ServedCall::current().is_some(), "it is told within its call");
            self.0.lock().unwrap().push(event);
        }
    }

    fn call(method: &'static str) -> (ServedCall, Arc<Notes>) {
        let notes = Arc::new(Notes::default());
        let observer = Arc::clone(&notes) as Arc<dyn CallObserver>;
        (ServedCall { service: "a.Service", method, instance: CallInstance::default(), observer }, notes)
    }

    #[test]
    fn what_is_told_within_a_call_is_told_to_its_observer() {
        let (outer, outer_notes) = call("Outer");
        let (inner, inner_notes) = call("Inner");
        tell(CallEvent::Received(1));
        outer.enter(|| {
            inner.enter(|| tell(CallEvent::Received(2)));
            tell(CallEvent::Received(3));
        });
        assert!(ServedCall::current().is_none());
        assert_eq!(*outer_notes.0.lock().unwrap(), [CallEvent::Received(3)]);
        assert_eq!(*inner_notes.0.lock().unwrap(), [CallEvent::Received(2)]);
    }

    #[test]
    fn a_step_belongs_to_the_call_in_which_it_began() {
        let (call, notes) = call("GetTree");
        let mut step = call.enter(|| Stopwatch::start(Step::GetTree));
        step.note(None);
        drop(step);
        let [CallEvent::Step { step: Step::GetTree, error: None, .. }] = notes.0.lock().unwrap()[..] else {
            panic!("{notes:?}")
        };
    }
}
