//! Tagged objects: found by their tag, made once, shared by their aliases.

use std::sync::Arc;

use super::decoder::{Decoder, Tagged, identity};
use super::{Fields, check};
use crate::diagnostics::{Severity, suggestion};
use crate::model::{Item, Place, Shared};
use crate::table::{Kind, Section, Status, tagged, tags_of};
use crate::yaml::{Child, Value};

/// The object that a node is, made now or when its node was first met.
pub(super) fn shared<T: Tagged>(child: &Child, decoder: &mut Decoder<'_>) -> Option<Shared<T>> {
    if let Some(known) = T::memo(decoder).get(&identity(child)) {
        return known.clone();
    }
    let made = make(child, decoder);
    T::memo(decoder).insert(identity(child), made.clone());
    made
}

fn make<T: Tagged>(child: &Child, decoder: &mut Decoder<'_>) -> Option<Shared<T>> {
    if let Some(tag) = child.node.tag.as_deref()
        && let Some(stand_in) = T::stand_in(child, tag, decoder)
    {
        return stand_in;
    }
    let section = section(child, &[T::KIND], decoder)?;
    if matches!(section.status, Status::Refused(_)) {
        check::keys(child, section, decoder);
        return None;
    }
    let place = place(child, section, decoder);
    let tag = section.name.trim_start_matches('!');
    let mut fields = Fields::new(child, section, decoder)?;
    let value = T::read(tag, &mut fields)?;
    Some(Arc::new(Item { place, value }))
}

/// Where an object is written out.
pub(super) fn place(child: &Child, section: &'static Section, decoder: &Decoder<'_>) -> Place {
    Place {
        path: decoder.path(),
        tag: section.name,
        anchor: child.node.anchor.as_deref().map(str::to_owned),
        mark: child.node.mark,
    }
}

/// The section of a node's tag, where the tag is of one of these kinds; reports what the table says of the tag.
pub(super) fn section(child: &Child, kinds: &[Kind], decoder: &mut Decoder<'_>) -> Option<&'static Section> {
    let what = kinds.iter().map(|kind| kind.describe()).collect::<Vec<_>>().join(" or ");
    let all = || tags_of(kinds).collect::<Vec<_>>().join(", ");
    let Some(tag) = child.node.tag.as_deref() else {
        let forgotten = child.node.scalar().is_some_and(|scalar| scalar.value == Value::Text);
        let hint = if forgotten { "; an alias of an anchor is written with a `*`" } else { "" };
        let message = format!("expected {what} ({}), found {}{hint}", all(), child.node.describe());
        decoder.error(child.mark, message);
        return None;
    };
    let Some(section) = tagged(tag) else {
        let written = format!("!{tag}");
        let near = suggestion(&written, tags_of(kinds), "");
        decoder.error(child.node.mark, format!("unknown tag {written}; expected {what} ({}){near}", all()));
        return None;
    };
    if !section.kind.is_some_and(|kind| kinds.contains(&kind)) {
        let is = section.kind.map_or("nothing of the sort", Kind::describe);
        let message = format!("expected {what} ({}), found {}, which is {is}", all(), section.name);
        decoder.error(child.mark, message);
        return None;
    }
    match section.status {
        Status::Done | Status::Mapped(_) => {}
        Status::Warned(why) => {
            decoder.report(
                Severity::Warning,
                child.node.mark,
                format!("{} has no effect: {why}", section.name),
            );
        }
        Status::Refused(why) => {
            decoder.error(child.node.mark, format!("{} is not supported: {why}", section.name));
        }
    }
    Some(section)
}
