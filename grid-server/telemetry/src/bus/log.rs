//! [`LogRecords`]: lines of the log, with what the spans around them say, for the bus.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::{LOGS, Record};

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogLine {
    pub(super) domain: String,
    pub(super) level: tracing::Level,
    pub(super) message: String,
    pub(super) fields: BTreeMap<String, String>,
}

/// Publishes what is logged, where there is a bus for it.
#[derive(Debug)]
pub(crate) struct LogRecords;

impl<S> Layer<S> for LogRecords
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(bus) = LOGS.get() else { return };
        bus.push(Record::Log(SystemTime::now(), line(event, &context)));
    }
}

/// An event with the fields of the spans that it is within; what stands further in counts.
fn line<S>(event: &Event<'_>, context: &Context<'_, S>) -> LogLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let mut fields = Fields::default();
    for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
        if let Some(of_span) = span.extensions().get::<Fields>() {
            fields.0.extend(of_span.0.clone());
        }
    }
    event.record(&mut fields);
    let metadata = event.metadata();
    let message = fields.0.remove("message").unwrap_or_default();
    LogLine { domain: metadata.target().to_owned(), level: *metadata.level(), message, fields: fields.0 }
}

/// The fields of a span, or of an event.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<LogLine>>>);

    impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Heard {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            self.0.lock().push(line(event, &context));
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_spans_around_it() {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::registry().with(LogRecords).with(heard.clone());
        tracing::subscriber::with_default(subscriber, || {
            let outer =
                tracing::info_span!("call", invocation = "i", operation = tracing::field::Empty, who = 1);
            let _outer = outer.enter();
            outer.record("operation", "o");
            let _inner = tracing::info_span!("part", who = 2).entered();
            tracing::info!(bytes = 3, "done");
        });
        let line = heard.0.lock().pop().unwrap();
        let fields = [("bytes", "3"), ("invocation", "i"), ("operation", "o"), ("who", "2")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((line.message.as_str(), line.fields), ("done", fields.into()));
    }
}
