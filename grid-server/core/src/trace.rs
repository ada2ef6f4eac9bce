//! Traces that clients begin: [`TraceParent`], and [`CallTrace`], what a traced call tells of its stages.
//!
//! What is made of them, and where it is sent, is for those who trace; nothing here knows headers or exporters.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Where a call stands in its client's trace: `traceparent` of W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace: u128,
    /// The client's span; never 0.
    pub span: u64,
    /// Whether the client records it.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the header's text: version, trace, span and flags in hexadecimal digits, with dashes between them. A later
    /// version may say more behind that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace, span, flags] = [2, 32, 16, 2].map(|digits| {
            let part = parts.next()?;
            let is_hex = part.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
            (part.len() == digits && is_hex).then_some(part)
        });
        let trace = u128::from_str_radix(trace?, 16).ok()?;
        let span = u64::from_str_radix(span?, 16).ok()?;
        let flags = u8::from_str_radix(flags?, 16).ok()?;
        let is_known = match version? {
            "ff" => false,
            "00" => parts.next().is_none(),
            _ => true,
        };
        (is_known && trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// A part of what a call waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedStage {
    /// What was done.
    pub name: &'static str,
    /// Who did it; empty where it was nobody.
    pub worker: String,
    /// When it began.
    pub start: SystemTime,
    /// When it was over.
    pub end: SystemTime,
}

/// What a traced call tells of its stages. Requests carry it among their extensions; those that are not traced carry none.
#[derive(Clone, Debug, Default)]
pub struct CallTrace(Arc<Mutex<Vec<TracedStage>>>);

impl CallTrace {
    /// Tells of a stage.
    pub fn note(&self, stage: TracedStage) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
    }

    /// What was told.
    #[must_use]
    pub fn take(&self) -> Vec<TracedStage> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_is_read() {
        let read = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(
            (format!("{:032x}", read.trace), format!("{:016x}", read.span)),
            (TRACE.into(), SPAN.into())
        );
        assert!(read.sampled);
        assert!(!TraceParent::parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap().sampled);
        assert!(
            TraceParent::parse(&format!("01-{TRACE}-{SPAN}-01-more")).is_some(),
            "a later version says more"
        );
    }

    #[test]
    fn what_is_no_parent_is_not_taken_for_one() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for text in [
            String::new(),
            "00".to_owned(),
            TRACE.to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        ] {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
    }
}
