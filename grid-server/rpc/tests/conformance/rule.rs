//! [`Rule`]: one demand of a protocol.

use std::fmt::Write as _;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::FutureExt;

use crate::grid::Grid;

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
    /// The same rule in this part of the protocols.
    pub(crate) fn within(self, area: &'static str) -> Self {
        Self { area, ..self }
    }
}

/// Checks every rule, and fails with a list of those that don't hold.
pub(crate) async fn run(grid: &Grid, rules: Vec<Rule>) {
    let mut failed = String::new();
    let total = rules.len();
    for rule in rules {
        let check = AssertUnwindSafe((rule.check)(grid.clone())).catch_unwind();
        let held =
            matches!(tokio::time::timeout(std::time::Duration::from_secs(60), check).await, Ok(Ok(())));
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
against a server on loopback over a store in memory and over one on disk, and passes only where every rule holds. Rules \
marked with a minus are about what is refused, and how.

Written by the suite: `GRID_BLESS=1 cargo test -p grid-rpc --test conformance documentation` writes it anew.
";

/// The rules as a document.
pub(crate) fn document(rules: &[Rule]) -> String {
    let negative = rules.iter().filter(|rule| rule.negative).count();
    let mut text = format!("{HEAD}\n{} rules, {negative} of them about refusals.\n", rules.len());
    let mut area = "";
    for rule in rules {
        if rule.area != area {
            area = rule.area;
            write!(text, "\n## {area}\n\n| | rule | source |\n|---|---|---|\n").unwrap();
        }
        let sign = if rule.negative { "−" } else { "+" };
        writeln!(text, "| {sign} | {} | {} |", rule.name, rule.source).unwrap();
    }
    text
}
