//! The tokens of workers and of the operator, and how they are replaced while a build runs.
//!
//! A token's file has a line for each token that is let in, and who shows one shows the first. The kubelet brings a changed
//! Secret to pods one by one, within a minute or two; so a new token is first let in everywhere, then shown everywhere, and
//! only then is the old one let in no more. The state is kept on the Secret itself: what was asked for, and which step
//! began when.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::certificates::text;
use crate::context::Mint;
use crate::names::{ROTATED_ANNOTATION, ROTATION_SINCE_ANNOTATION, ROTATION_STEP_ANNOTATION};

/// How long a step takes to be everywhere: a kubelet looks at a Secret every minute, with a cache of another.
const STEP: Duration = Duration::from_secs(300);

/// The key with what workers show.
pub(crate) const SHOWN_TOKEN: &str = "worker-token-shown";
const KEYS: [&str; 2] = ["worker-token", "admin-token"];

/// The tokens of a grid: each what is shown, and perhaps another that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    files: [String; 2],
    rotated: Option<String>,
    step: Option<(Step, Timestamp)>,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The new token is let in, the old one is shown.
    Accept,
    /// The new token is shown, the old one still let in.
    Show,
}

impl Tokens {
    /// Those in a Secret, or new ones; moved on where that is due, or where another rotation is asked for by `request`.
    pub(crate) fn of(existing: Option<&Secret>, request: Option<&str>, mint: &dyn Mint) -> Self {
        let annotation = |name| existing.and_then(|secret| secret.annotations().get(name)).cloned();
        let kept = KEYS.map(|key| text(existing, key));
        let is_new = kept.iter().all(Option::is_none);
        let tokens = Self {
            files: kept.map(|file| file.unwrap_or_else(|| mint.token())),
            // New ones need no rotation.
            rotated: if is_new { request.map(str::to_owned) } else { annotation(ROTATED_ANNOTATION) },
            step: annotation(ROTATION_STEP_ANNOTATION)
                .zip(annotation(ROTATION_SINCE_ANNOTATION))
                .and_then(|(step, since)| Some((Step::parse(&step)?, since.parse().ok()?))),
        };
        tokens.moved(request, mint)
    }

    fn moved(mut self, request: Option<&str>, mint: &dyn Mint) -> Self {
        let now = mint.now();
        match self.step {
            None if request.is_some() && request != self.rotated.as_deref() => {
                self.rotated = request.map(str::to_owned);
                self.step = Some((Step::Accept, now));
                self.files = self.files.map(|old| format!("{}\n{}", first(&old), mint.token()));
            }
            Some((step, since)) if now.duration_since(since).unsigned_abs() >= STEP => {
                (self.step, self.files) = match step {
                    Step::Accept => (Some((Step::Show, now)), self.files.map(|file| swapped(&file))),
                    Step::Show => (None, self.files.map(|file| first(&file).to_owned())),
                };
            }
            None | Some(_) => {}
        }
        self
    }

    /// What the operator shows.
    pub(crate) fn admin(&self) -> &str {
        first(&self.files[1])
    }

    /// What the Secret holds: the files, and the worker's token alone for programs that take a file as a whole.
    pub(crate) fn data(&self) -> [(&'static str, String); 3] {
        let [worker, admin] = &self.files;
        [(KEYS[0], worker.clone()), (KEYS[1], admin.clone()), (SHOWN_TOKEN, first(worker).to_owned())]
    }

    /// What the Secret says of them.
    pub(crate) fn annotations(&self) -> Option<BTreeMap<String, String>> {
        let rotated = self.rotated.clone().map(|request| (ROTATED_ANNOTATION.to_owned(), request));
        let step = self.step.map(|(step, since)| {
            [
                (ROTATION_STEP_ANNOTATION, step.as_str().to_owned()),
                (ROTATION_SINCE_ANNOTATION, since.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
        });
        let all: BTreeMap<String, String> = rotated.into_iter().chain(step.into_iter().flatten()).collect();
        (!all.is_empty()).then_some(all)
    }
}

/// What the operator shows by a Secret that is there.
pub(crate) fn shown(existing: Option<&Secret>) -> Option<String> {
    text(existing, KEYS[1]).map(|file| first(&file).to_owned())
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Show => "show",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Accept, Self::Show].into_iter().find(|step| step.as_str() == text)
    }
}

fn first(file: &str) -> &str {
    file.lines().next().unwrap_or_default()
}

fn swapped(file: &str) -> String {
    let mut lines: Vec<&str> = file.lines().collect();
    lines.rotate_left(1);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::ByteString;

    use super::*;

    /// A clock that is moved by hand, and tokens that are numbered.
    struct Counting(AtomicUsize, Timestamp);

    impl Mint for Counting {
        fn now(&self) -> Timestamp {
            self.1
        }

        fn token(&self) -> String {
            format!("token-{}", self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    fn stored(tokens: &Tokens) -> Secret {
        let data = tokens.data().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        secret.metadata.annotations = tokens.annotations();
        secret
    }

    #[test]
    fn whoever_has_the_last_secret_or_the_one_before_is_let_in_at_every_step() {
        let mut mint = Counting(AtomicUsize::new(0), "2026-01-01T00:00:00Z".parse().unwrap());
        let mut states = vec![Tokens::of(None, None, &mint)];
        for (request, minutes) in [(None, 1), (Some("a"), 1), (Some("a"), 4), (Some("b"), 1), (Some("a"), 5)]
        {
            mint.1 += Duration::from_secs(minutes * 60);
            states.push(Tokens::of(Some(&stored(states.last().unwrap())), request, &mint));
        }
        let workers: Vec<&str> = states.iter().map(|tokens| tokens.files[0].as_str()).collect();
        let steps =
            ["token-0", "token-0", "token-0\ntoken-2", "token-0\ntoken-2", "token-2\ntoken-0", "token-2"];
        assert_eq!(workers, steps);
        for pair in states.windows(2) {
            // A pod may have either Secret: what one shows, the other lets in.
            for (shown, let_in) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                for (shown, let_in) in shown.files.iter().zip(&let_in.files) {
                    assert!(let_in.lines().any(|line| line == first(shown)), "{shown:?} at {let_in:?}");
                }
            }
        }
        assert_eq!(states[5].admin(), "token-3");
        let again = Tokens::of(Some(&stored(&states[5])), Some("a"), &mint);
        assert_eq!(again, states[5], "asked for once, done once");
        let next = Tokens::of(Some(&stored(&states[5])), Some("c"), &mint);
        assert_eq!(next.files[0], "token-2\ntoken-4");
    }
}
