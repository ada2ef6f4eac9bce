//! [`Fields`]: the keys of one mapping, sorted out by its section of the table.

use std::collections::HashMap;
use std::sync::Arc;

use super::check;
use super::decoder::{Decode, Decoder};
use crate::diagnostics::{Severity, nearest};
use crate::table::{Key, Need, Section, Status, UNGIVEN};
use crate::yaml::{Child, Content, Entry, Mark, Node, Scalar, Value};

pub(crate) struct Fields<'d, 'a> {
    pub(super) decoder: &'d mut Decoder<'a>,
    pub(super) section: &'static Section,
    pub(super) mark: Mark,
    found: HashMap<&'static str, Found>,
    /// Keys that an unknown key stands near to: where they are missing, that was said already.
    misspelt: Vec<&'static str>,
}

struct Found {
    written: Box<str>,
    mark: Mark,
    value: Child,
}

impl<'d, 'a> Fields<'d, 'a> {
    /// Takes a mapping apart; reports unknown keys and what the table says of the known ones.
    pub(super) fn new(
        child: &Child,
        section: &'static Section,
        decoder: &'d mut Decoder<'a>,
    ) -> Option<Self> {
        let entries: &[Entry] = match &child.node.content {
            Content::Map(entries) => entries,
            Content::Scalar(scalar) if scalar.is_null() => &[],
            Content::Scalar(_) | Content::List(_) => {
                decoder.error(
                    child.mark,
                    format!("expected the keys of {}, found something else", section.name),
                );
                return None;
            }
        };
        let mut fields =
            Self { decoder, section, mark: child.node.mark, found: HashMap::new(), misspelt: Vec::new() };
        for entry in entries {
            fields.take(entry);
        }
        Some(fields)
    }

    fn take(&mut self, entry: &Entry) {
        let Some(key) = self.known(entry) else { return };
        match key.status {
            Status::Done | Status::Mapped(_) => {}
            Status::Warned(why) => {
                let message = format!("`{}` has no effect: {why}", key.name);
                self.decoder.at_key(key.name, |decoder| {
                    decoder.report(Severity::Warning, entry.mark, message);
                    check::value(&entry.value, key.ty, decoder);
                });
                return;
            }
            Status::Refused(why) => {
                let message = format!("`{}` is not supported: {why}", key.name);
                self.decoder.at_key(key.name, |decoder| decoder.error(entry.mark, message));
                return;
            }
        }
        if is_ungiven(key, &entry.value) {
            return;
        }
        let found = Found { written: entry.key.clone(), mark: entry.mark, value: entry.value.clone() };
        let name = key.target.unwrap_or(key.name);
        if let Some(other) = self.found.insert(name, found) {
            let message = format!("`{}` and `{}` say the same thing; keep one", other.written, entry.key);
            self.decoder.error(entry.mark, message);
        }
    }

    /// The table's key for what is written, with `_` for `-` where need be.
    fn known(&mut self, entry: &Entry) -> Option<&'static Key> {
        if let Some(key) = self.section.key(&entry.key) {
            return Some(key);
        }
        if let Some(key) = self.section.key(&entry.key.replace('_', "-")) {
            let message = format!("`{}` is written `{}`", entry.key, key.name);
            self.decoder
                .at_key(key.name, |decoder| decoder.report(Severity::Deprecated, entry.mark, message));
            return Some(key);
        }
        let written = entry.key.replace('_', "-");
        let hint = match nearest(&written, self.section.keys.iter().map(|key| key.name)) {
            Some(near) => {
                self.misspelt.extend(self.section.key(near).map(|key| key.name));
                format!("; did you mean `{near}`?")
            }
            None => self.known_keys(),
        };
        let message = format!("unknown key `{}` of {}{hint}", entry.key, self.section.name);
        self.decoder.error(entry.mark, message);
        None
    }

    fn known_keys(&self) -> String {
        let names: Vec<_> = self
            .section
            .keys
            .iter()
            .filter(|key| key.status == Status::Done)
            .map(|key| format!("`{}`", key.name))
            .collect();
        if names.is_empty() { "; it has none".to_owned() } else { format!("; it has {}", names.join(", ")) }
    }

    /// Whether the document gives this key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    /// The value of a key that must be there.
    pub(super) fn req<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        if !self.has(name) {
            self.missing(name);
            return None;
        }
        self.opt(name)?
    }

    /// Says that a key is missing and what it is for.
    pub(super) fn missing(&mut self, name: &str) {
        if self.misspelt.contains(&name) {
            return;
        }
        let doc = self.section.key(name).map_or("", |key| key.doc).trim_end_matches('.');
        let mut letters = doc.chars();
        let doc: String =
            letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect();
        self.error(format!("`{name}` is missing from {}: {doc}", self.section.name));
    }

    /// The value of a key that may be there.
    #[allow(clippy::option_option, reason = "absent is not wrong")]
    pub(super) fn opt<T: Decode>(&mut self, name: &'static str) -> Option<Option<T>> {
        let Some(key) = self.section.key(name) else {
            let child = Child { mark: self.mark, node: Arc::new(text_node("", self.mark)) };
            self.decoder.defect(&child, name);
            return None;
        };
        let Some(found) = self.found.get(name) else { return Some(None) };
        let value = found.value.clone();
        self.decoder.at_key(name, |decoder| T::decode(&value, key.ty, decoder)).map(Some)
    }

    /// The value of a key, or the default of the table.
    pub(super) fn or<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        self.or_of(self.section, name)
    }

    /// The value of a key, or the default that another section's key of this name has.
    pub(super) fn or_of<T: Decode>(&mut self, section: &'static Section, name: &'static str) -> Option<T> {
        if let Some(value) = self.opt(name)? {
            return Some(value);
        }
        let default = section.key(name).map(|key| (key.need, key.ty));
        let Some((Need::Default(default), ty)) = default else {
            let child = Child { mark: self.mark, node: Arc::new(text_node("", self.mark)) };
            self.decoder.defect(&child, "a default");
            return None;
        };
        let child = default_node(default, self.mark);
        self.decoder.at_key(name, |decoder| T::decode(&child, ty, decoder))
    }

    /// Says that something is wrong with the value of a key, or with the mapping where the key isn't given.
    pub(super) fn error_at(&mut self, name: &str, message: String) {
        let mark = self.found.get(name).map_or(self.mark, |found| found.value.mark);
        self.decoder.at_key(name, |decoder| decoder.error(mark, message));
    }

    /// Says that something is wrong with the mapping.
    pub(super) fn error(&mut self, message: String) {
        self.decoder.error(self.mark, message);
    }

    /// Warns that a key that is given changes nothing here.
    pub(super) fn no_effect(&mut self, name: &str, why: &str) {
        self.warn_at(name, format!("`{name}` has no effect: {why}"));
    }

    /// Warns of a key that is given.
    pub(super) fn warn_at(&mut self, name: &str, message: String) {
        if let Some(found) = self.found.get(name) {
            let mark = found.mark;
            self.decoder.at_key(name, |decoder| decoder.report(Severity::Warning, mark, message));
        }
    }

    /// Looks at all values without using them.
    pub(super) fn look_at_all(&mut self) {
        for key in self.section.keys {
            self.look(key.name);
        }
    }

    /// Looks at the value of a key without using it: what it holds is warned about or refused by its tag.
    pub(super) fn look(&mut self, name: &str) {
        if let (Some(key), Some(found)) = (self.section.key(name), self.found.get(name)) {
            let value = found.value.clone();
            self.decoder.at_key(key.name, |decoder| check::value(&value, key.ty, decoder));
        }
    }
}

fn text_node(text: &str, mark: Mark) -> Node {
    let content = Content::Scalar(Scalar::text(text.to_owned()));
    Node { mark, tag: None, anchor: None, content, expanded: 1 }
}

/// The node of a default: a scalar, an empty collection, or a mapping of one key to a scalar.
fn default_node(text: &str, mark: Mark) -> Child {
    let content = match text {
        "[]" => Content::List(Vec::new()),
        "{}" => Content::Map(Vec::new()),
        _ => match text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .and_then(|pair| pair.split_once(": "))
        {
            Some((key, value)) => {
                Content::Map(vec![Entry { key: key.into(), mark, value: default_node(value, mark) }])
            }
            None if text.is_empty() => Content::Scalar(Scalar::text(String::new())),
            None => Content::Scalar(Scalar::plain(text.to_owned())),
        },
    };
    Child { mark, node: Arc::new(Node { mark, tag: None, anchor: None, content, expanded: 1 }) }
}

/// Whether a key is written as though it weren't.
fn is_ungiven(key: &Key, value: &Child) -> bool {
    let is_minus_one = || value.node.scalar().is_some_and(|scalar| scalar.value == Value::Whole(-1));
    value.node.is_null() || (UNGIVEN.contains(&key.name) && is_minus_one())
}
