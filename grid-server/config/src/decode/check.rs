//! Looks at what has no effect, without making anything of it: names and types must be right there too.

use super::decoder::{Decode, Decoder};
use super::{Fields, objects, options};
use crate::table::{Section, Ty};
use crate::yaml::{Child, Content};

/// The keys of a mapping, by its section.
pub(super) fn keys(child: &Child, section: &'static Section, decoder: &mut Decoder<'_>) {
    if let Some(mut fields) = Fields::new(child, section, decoder) {
        fields.look_at_all();
    }
}

/// A value, by its type.
pub(super) fn value(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) {
    match ty {
        Ty::Text | Ty::OneOf(_) => drop(String::decode(child, ty, decoder)),
        Ty::Secret => drop(crate::model::Secret::decode(child, ty, decoder)),
        Ty::Path => drop(std::path::PathBuf::decode(child, ty, decoder)),
        Ty::Flag => drop(bool::decode(child, ty, decoder)),
        Ty::Whole(..) | Ty::Size => drop(u64::decode(child, ty, decoder)),
        Ty::Number(..) => drop(f64::decode(child, ty, decoder)),
        Ty::Seconds(_) | Ty::Period => drop(std::time::Duration::decode(child, ty, decoder)),
        Ty::Names => drop(super::scalars::Names::decode(child, ty, decoder)),
        Ty::TextMap => drop(super::scalars::TextMap::decode(child, ty, decoder)),
        Ty::ChannelOptions(side) => drop(options::read(child, side, decoder)),
        Ty::List(item) => list(child, *item, decoder),
        Ty::Object(kind) => object(child, &[kind], decoder),
        Ty::AnyOf(kinds) => object(child, kinds, decoder),
        Ty::Record(section) => keys(child, section, decoder),
    }
}

fn list(child: &Child, item: Ty, decoder: &mut Decoder<'_>) {
    let Content::List(children) = &child.node.content else {
        decoder.expected(child, "a list");
        return;
    };
    for (index, child) in children.iter().enumerate() {
        decoder.at_index(index, |decoder| value(child, item, decoder));
    }
}

fn object(child: &Child, kinds: &[crate::table::Kind], decoder: &mut Decoder<'_>) {
    if let Some(section) = objects::section(child, kinds, decoder) {
        keys(child, section, decoder);
    }
}
