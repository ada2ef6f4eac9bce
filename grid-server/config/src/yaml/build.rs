//! [`Builder`]: the parser's events to a tree of nodes, with aliases as shared nodes, merge keys (`<<`) merged and string
//! tags evaluated.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, ScalarStyle, Tag};

use super::anchors::{Lines, anchor_at};
use super::strings::evaluate;
use super::{Child, Content, Entry, Mark, Node, Scalar};
use crate::diagnostics::{Diagnostics, Severity};
use crate::surroundings::Surroundings;

/// How deep a document may nest.
const MAX_DEPTH: usize = 64;
/// How many entries the merge keys of a document may look at together.
const MAX_MERGED: usize = 1 << 16;

pub(super) struct Builder<'a> {
    lines: Lines<'a>,
    around: &'a dyn Surroundings,
    diagnostics: &'a mut Diagnostics,
    anchored: HashMap<usize, Arc<Node>>,
    open: Vec<Open>,
    root: Option<Arc<Node>>,
    /// How many entries all merge keys have looked at so far.
    merged: usize,
}

/// A list or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    tag: Option<Box<str>>,
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Child>),
    Map { entries: Vec<Entry>, key: Option<(Box<str>, Mark)>, merges: Vec<Child> },
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str, around: &'a dyn Surroundings, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            lines: Lines::new(text),
            around,
            diagnostics,
            anchored: HashMap::new(),
            open: Vec::new(),
            root: None,
            merged: 0,
        }
    }

    pub(super) fn error(&mut self, mark: Mark, message: String) {
        self.diagnostics.error(mark, "", message);
    }

    /// Takes the next event; `None` where there is no point in going on.
    pub(super) fn event(&mut self, event: Event<'_>, mark: Mark) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.own_tag(tag.as_deref(), mark);
                let plain = style == ScalarStyle::Plain && tag != Some("".into());
                let tag = tag.filter(|tag| !tag.is_empty());
                self.scalar(text.into_owned(), plain, anchor, tag, mark)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(mark, anchor, tag.as_deref(), Collection::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let collection = Collection::Map { entries: Vec::new(), key: None, merges: Vec::new() };
                self.start(mark, anchor, tag.as_deref(), collection)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, mark),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Some(()),
        }
    }

    pub(super) fn finish(self) -> Option<Arc<Node>> {
        let empty = || Node {
            mark: Mark { line: 1, column: 1 },
            tag: None,
            anchor: None,
            content: Content::Scalar(Scalar::plain(String::new())),
            expanded: 1,
        };
        Some(self.root.unwrap_or_else(|| Arc::new(empty())))
    }

    /// The tag without its handle. YAML's own tags add nothing to what we read, but that `!!str` makes text: that is
    /// told by an empty tag.
    fn own_tag(&mut self, tag: Option<&Tag>, mark: Mark) -> Option<Box<str>> {
        let tag = tag?;
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", name) if !name.is_empty() => Some(name.into()),
            ("tag:yaml.org,2002:", "str") | ("" | "!", "" | "!") => Some("".into()),
            ("tag:yaml.org,2002:", "int" | "float" | "bool" | "null" | "map" | "seq") => None,
            _ => {
                let message =
                    format!("unknown tag {tag}; the tags of a configuration start with a single `!`");
                self.error(mark, message);
                None
            }
        }
    }

    fn scalar(
        &mut self,
        text: String,
        plain: bool,
        anchor: usize,
        tag: Option<Box<str>>,
        mark: Mark,
    ) -> Option<()> {
        let evaluated = tag.as_deref().and_then(|tag| evaluate(tag, &text, self.around));
        let (scalar, tag) = match evaluated {
            None if plain => (Scalar::plain(text), tag),
            None => (Scalar::text(text), tag),
            Some(Ok(expanded)) => {
                for name in expanded.unset {
                    let message = format!("the variable {name} is not set, so ${name} stays as it is");
                    self.diagnostics.push(Severity::Warning, mark, "", message);
                }
                (Scalar::text(expanded.text), None)
            }
            Some(Err(message)) => {
                self.error(mark, message);
                (Scalar::text(text), None)
            }
        };
        self.close(mark, anchor, tag, Content::Scalar(scalar))
    }

    fn start(&mut self, mark: Mark, anchor: usize, tag: Option<&Tag>, collection: Collection) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            self.error(mark, format!("nested more than {MAX_DEPTH} levels deep"));
            return None;
        }
        let tag = self.own_tag(tag, mark).filter(|tag| !tag.is_empty());
        self.open.push(Open { mark, tag, anchor, collection });
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        let Open { mark, tag, anchor, collection } = self.open.pop()?;
        let content = match collection {
            Collection::List(items) => Content::List(items),
            Collection::Map { entries, merges, .. } => Content::Map(self.merge(entries, &merges)),
        };
        self.close(mark, anchor, tag, content)
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Option<()> {
        if let Some(node) = self.anchored.get(&anchor) {
            let node = Arc::clone(node);
            return self.place(Child { mark, node });
        }
        self.error(mark, "an alias stands inside the node that it is an alias of".to_owned());
        None
    }

    /// Makes the node, remembers it under its anchor, and puts it where it belongs.
    fn close(&mut self, mark: Mark, anchor: usize, tag: Option<Box<str>>, content: Content) -> Option<()> {
        let name = if anchor > 0 { anchor_at(&self.lines, mark) } else { None };
        let expanded = expanded(&content);
        let node = Arc::new(Node { mark, tag, anchor: name, content, expanded });
        if anchor > 0 {
            self.anchored.insert(anchor, Arc::clone(&node));
        }
        self.place(Child { mark, node })
    }

    fn place(&mut self, child: Child) -> Option<()> {
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.root = Some(child.node),
            Some(Collection::List(items)) => items.push(child),
            Some(Collection::Map { entries, key, merges }) => match key.take() {
                Some((name, _)) if &*name == "<<" => merges.push(child),
                Some((key, mark)) => entries.push(Entry { key, mark, value: child }),
                None => match &child.node.content {
                    Content::Scalar(scalar) => *key = Some((scalar.text.as_str().into(), child.mark)),
                    Content::List(_) | Content::Map(_) => {
                        self.error(child.mark, "a key must be plain text".to_owned());
                        return None;
                    }
                },
            },
        }
        Some(())
    }

    /// A mapping's own entries, then those of the mappings merged into it that it doesn't have itself.
    fn merge(&mut self, mut entries: Vec<Entry>, merges: &[Child]) -> Vec<Entry> {
        let mut keys: HashMap<Box<str>, Mark> = HashMap::new();
        entries.retain(|entry| {
            let first = *keys.entry(entry.key.clone()).or_insert(entry.mark);
            if first != entry.mark {
                let message =
                    format!("the key `{}` is here twice; the first is on line {}", entry.key, first.line);
                self.diagnostics.error(entry.mark, "", message);
            }
            first == entry.mark
        });
        let mut known: HashSet<Box<str>> = keys.into_keys().collect();
        for merge in merges {
            for source in self.merge_sources(merge) {
                if let Content::Map(more) = &source.content {
                    self.merged = self.merged.saturating_add(more.len());
                    if self.merged > MAX_MERGED {
                        self.error(merge.mark, format!("the `<<` keys merge more than {MAX_MERGED} entries"));
                        return entries;
                    }
                    entries.extend(more.iter().filter(|entry| known.insert(entry.key.clone())).cloned());
                }
            }
        }
        entries
    }

    fn merge_sources(&mut self, merge: &Child) -> Vec<Arc<Node>> {
        let sources = match &merge.node.content {
            Content::Map(_) => vec![Arc::clone(&merge.node)],
            Content::List(items) => items.iter().map(|item| Arc::clone(&item.node)).collect(),
            Content::Scalar(_) => Vec::new(),
        };
        if sources.is_empty() || sources.iter().any(|source| !matches!(source.content, Content::Map(_))) {
            self.error(merge.mark, "`<<` takes a mapping or a list of mappings".to_owned());
        }
        sources
    }
}

fn expanded(content: &Content) -> usize {
    let beneath = match content {
        Content::Scalar(_) => 0,
        Content::List(items) => {
            items.iter().fold(0_usize, |sum, item| sum.saturating_add(item.node.expanded))
        }
        Content::Map(entries) => {
            entries.iter().fold(0_usize, |sum, entry| sum.saturating_add(entry.value.node.expanded))
        }
    };
    beneath.saturating_add(1)
}
