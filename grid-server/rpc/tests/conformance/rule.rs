//! [`Rule`]: one demand of a protocol.

use std::fmt::Write as _;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt;

use crate::grid::Grid;
use crate::peers::{Marks, PEERS};

type Check = Box<dyn Fn(Grid) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// One demand, and how to find out whether it is met.
pub(crate) struct Rule {
    /// Which part of the protocols it belongs to.
    pub(crate) area: &'static str,
    /// What is demanded, in one sentence.
    pub(crate) name: &'static str,
    /// Where the protocol demands it.
    pub(crate) source: &'static str,
    /// Whether it is about refusing something.
    pub(crate) negative: bool,
    check: Check,
}

/// A rule about what works.
pub(crate) fn accepts<F>(source: &'static str, name: &'static str, check: fn(Grid) -> F) -> Rule
where
    F: Future<Output = ()> + Send + 'static,
{
    Rule { area: "", name, source, negative: false, check: Box::new(move |grid| Box::pin(check(grid))) }
}

/// A rule about what is refused, and how.
pub(crate) fn refuses<F>(source: &'static str, name: &'static str, check: fn(Grid) -> F) -> Rule
where
    F: Future<Output = ()> + Send + 'static,
{
    Rule { negative: true, ..accepts(source, name, check) }
}

impl Rule {
    /// What tells it from all others.
    pub(crate) fn key(&self) -> String {
        [self.area, self.source, self.name].join("\t")
    }

    /// The same rule in this part of the protocols.
    pub(crate) fn within(self, area: &'static str) -> Self {
        Self { area, ..self }
    }
}

/// What came of a rule on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Holds,
    Fails,
    /// The server has no such service or method.
    NotServed,
}

/// How long a server may take for a rule.
const LIMIT: Duration = Duration::from_secs(60);
/// The same for a server that may leave a call unanswered.
const SHORT_LIMIT: Duration = Duration::from_secs(15);

/// Whether a rule holds on a server that is not ours.
pub(crate) async fn judge(grid: &Grid, rule: &Rule) -> Outcome {
    let check = AssertUnwindSafe((rule.check)(grid.clone())).catch_unwind();
    match tokio::time::timeout(SHORT_LIMIT, check).await {
        Ok(Ok(())) => Outcome::Holds,
        Ok(Err(said)) if said.downcast_ref::<String>().is_some_and(|said| said.contains("Unimplemented")) => {
            Outcome::NotServed
        }
        Ok(Err(_)) | Err(_) => Outcome::Fails,
    }
}

/// Checks every rule, and fails with a list of those that don't hold.
pub(crate) async fn run(grid: &Grid, rules: Vec<Rule>) {
    let mut failed = String::new();
    let total = rules.len();
    for rule in rules {
        let check = AssertUnwindSafe((rule.check)(grid.clone())).catch_unwind();
        let held = matches!(tokio::time::timeout(LIMIT, check).await, Ok(Ok(())));
        if !held {
            writeln!(failed, "- {}: {} ({})", rule.area, rule.name, rule.source).unwrap();
        }
    }
    assert!(failed.is_empty(), "of {total} rules these fail:\n{failed}");
    eprintln!("{total} rules hold");
}

const HEAD: &str = "\
# Conformance

Every rule of the protocols that the conformance suite checks, each with its source. The suite runs with every change, \
against a server on loopback over a store in memory and over one on disk, and passes only where every rule holds: `yes`. \
Rules marked with a minus are about what is refused, and how.

Beside it is what the same suite finds at other servers: `yes` where a rule holds there, `no` where it doesn't, `–` where the \
server has no such service. They are set up with the same instances; what can't be said in their configuration (limits of one \
instance, a second replica over the same state) is found wanting all the same, and rules about our own decisions (what a \
cache may fetch, how an origin in trouble is asked again) are theirs to decide otherwise.

Written by the suite: `GRID_BLESS=1 cargo test -p grid-rpc --test conformance documentation` writes it anew, \
`cargo xtask conformance` looks at the other servers first.
";

/// The rules as a document.
pub(crate) fn document(rules: &[Rule], marks: &Marks) -> String {
    let negative = rules.iter().filter(|rule| rule.negative).count();
    let mut text = format!("{HEAD}\n{} rules, {negative} of them about refusals.\n", rules.len());
    let mut area = "";
    for rule in rules {
        if rule.area != area {
            area = rule.area;
            let peers = PEERS.join(" | ");
            write!(text, "\n## {area}\n\n| | rule | source | ours | {peers} |\n|---|---|---|---|").unwrap();
            writeln!(text, "{}", "---|".repeat(PEERS.len())).unwrap();
        }
        let sign = if rule.negative { "−" } else { "+" };
        write!(text, "| {sign} | {} | {} | yes |", rule.name, rule.source).unwrap();
        let marks = marks.get(&rule.key());
        for peer in 0..PEERS.len() {
            let cell = match marks.and_then(|marks| marks.get(peer)) {
                Some('+') => "yes",
                Some('-') => "no",
                Some(_) => "–",
                None => "?",
            };
            write!(text, " {cell} |").unwrap();
        }
        text.push('\n');
    }
    text
}
