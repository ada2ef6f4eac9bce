//! Rules between parts of a document.

use std::collections::BTreeMap;
use std::mem::discriminant;

use super::Fields;
use crate::diagnostics::Severity;
use crate::model::{Cleanup, Instance, Service, Shared, Storage};

/// A document serves something or cleans something.
pub(super) fn required(f: &mut Fields<'_, '_>) {
    let serves = f.has("server") && (f.has("instances") || f.has("services"));
    if serves || f.has("cleanup") {
        return;
    }
    let missing = match (f.has("server"), f.has("instances") || f.has("services")) {
        (true, _) => "`instances` is missing: the instances to serve",
        (false, true) => "`server` is missing: the addresses to listen on, as a list of !channel",
        (false, false) => {
            "`server` and `instances` are missing: a configuration serves something, or has `cleanup`"
        }
    };
    f.error(missing.to_owned());
}

/// Each name is one instance's.
pub(super) fn instances(f: &mut Fields<'_, '_>, instances: &[Instance]) {
    let mut seen = BTreeMap::new();
    for (index, instance) in instances.iter().enumerate() {
        for name in &instance.names {
            if let Some(first) = seen.insert(name.as_str().to_owned(), index) {
                let message = format!(
                    "the instance name '{name}' is taken twice: by instances[{first}] and instances[{index}]"
                );
                f.error_at("instances", message);
            }
        }
    }
}

/// An instance has each service once, and what a CAS needs.
pub(super) fn services(f: &mut Fields<'_, '_>, services: &[Shared<Service>]) {
    for (index, service) in services.iter().enumerate() {
        let kind = discriminant(&service.value);
        if let Some(first) = services[..index].iter().find(|other| discriminant(&other.value) == kind) {
            let message = format!(
                "{} is here twice; the first is on line {}: an instance has each service once",
                service.place.tag, first.place.mark.line
            );
            let mark = service.place.mark;
            f.decoder.at_key("services", |decoder| decoder.error(mark, message));
        }
    }
    bots_twice(f, services);
    no_storage(f, services);
    let has = |wanted: fn(&Service) -> bool| services.iter().find(|service| wanted(&service.value));
    let cas = has(|service| matches!(service, Service::Cas(_)));
    if let Some(cas) = cas
        && has(|service| matches!(service, Service::ByteStream(stream) if stream.storage.is_some())).is_none()
    {
        let mark = cas.place.mark;
        let message =
            "without !bytestream beside !cas, blobs above 4 MiB can't be read or written".to_owned();
        f.decoder.at_key("services", |decoder| decoder.report(Severity::Warning, mark, message));
    }
}

/// `!bytestream` without storage has nothing to serve but log streams.
fn no_storage(f: &mut Fields<'_, '_>, services: &[Shared<Service>]) {
    if services.iter().any(|service| matches!(service.value, Service::LogStream(_))) {
        return;
    }
    for service in services {
        if let Service::ByteStream(stream) = &service.value
            && stream.storage.is_none()
        {
            let mark = service.place.mark;
            let message = "!bytestream needs `storage`, unless !logstream is beside it".to_owned();
            f.decoder.at_key("services", |decoder| decoder.error(mark, message));
        }
    }
}

/// `!bots` beside an `!execution` that serves Bots too.
fn bots_twice(f: &mut Fields<'_, '_>, services: &[Shared<Service>]) {
    let bots = services.iter().find(|service| matches!(service.value, Service::Bots(_)));
    let operations = services.iter().find(|service| matches!(service.value, Service::Operations(_)));
    for service in services {
        let Service::Execution(execution) = &service.value else { continue };
        let doubled = [
            (bots, execution.endpoints.bots, "bots"),
            (operations, execution.endpoints.operations, "operations"),
        ];
        for (other, serves, name) in doubled {
            if let Some(other) = other.filter(|_| serves) {
                let message = format!(
                    "!{name} is served by !execution on line {} too; give that `endpoints` without {name}",
                    service.place.mark.line
                );
                let mark = other.place.mark;
                f.decoder.at_key("services", |decoder| decoder.error(mark, message));
            }
        }
    }
}

/// What is cleaned is an index, down to where it stops.
pub(super) fn cleanup(f: &mut Fields<'_, '_>, cleanup: &Cleanup) -> bool {
    let indexed = matches!(cleanup.index.value, Storage::SqlIndex(_) | Storage::RedisIndex(_));
    if !indexed {
        let message =
            format!("expected an index (!sql-index, !redis-index), found {}", cleanup.index.place.tag);
        f.error_at("index", message);
    }
    let ordered = cleanup.low_watermark <= cleanup.high_watermark;
    if !ordered {
        f.error_at("low-watermark", "`low-watermark` is above `high-watermark`".to_owned());
    }
    let counted = cleanup.counts.is_none_or(|counts| counts.low <= counts.high);
    if !counted {
        f.error_at("low-blob-count-watermark", "`low-blob-count-watermark` is above its high one".to_owned());
    }
    indexed && ordered && counted
}
