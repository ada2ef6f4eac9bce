//! A YAML document with tags, anchors and aliases, written the same way each time.
//!
//! serde's writers know neither anchors nor local tags, and the server's configuration lives by them: an aliased
//! node is one shared object there.

use std::fmt::Write;

/// A node of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// Text, written in double quotes.
    Text(String),
    /// A number or flag, written as it is.
    Plain(String),
    /// A mapping, in its order.
    Map(Vec<(&'static str, Node)>),
    /// A sequence.
    List(Vec<Node>),
    /// A node with a tag and perhaps an anchor.
    Tagged { tag: &'static str, anchor: Option<String>, value: Box<Node> },
    /// The node of that anchor.
    Alias(String),
}

impl Node {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn flag(value: bool) -> Self {
        Self::Plain(value.to_string())
    }

    pub(crate) fn number(value: impl Into<i128>) -> Self {
        Self::Plain(value.into().to_string())
    }

    pub(crate) fn alias(anchor: impl Into<String>) -> Self {
        Self::Alias(anchor.into())
    }

    /// A tagged mapping.
    pub(crate) fn tagged(tag: &'static str, map: Vec<(&'static str, Node)>) -> Self {
        Self::Tagged { tag, anchor: None, value: Box::new(Self::Map(map)) }
    }

    /// A tagged mapping that others refer to.
    pub(crate) fn anchored(
        tag: &'static str,
        anchor: impl Into<String>,
        map: Vec<(&'static str, Node)>,
    ) -> Self {
        Self::Tagged { tag, anchor: Some(anchor.into()), value: Box::new(Self::Map(map)) }
    }

    /// The content of a file, read by the server when it starts.
    pub(crate) fn read_file(path: impl Into<String>) -> Self {
        Self::Tagged { tag: "!read-file", anchor: None, value: Box::new(Self::text(path)) }
    }

    /// The document as text.
    pub(crate) fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn is_block(&self) -> bool {
        match self {
            Self::Map(entries) => !entries.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Text(_) | Self::Plain(_) | Self::Tagged { .. } | Self::Alias(_) => false,
        }
    }

    /// Writes the node where a block may start: at the beginning of a line, `indent` deep.
    fn write(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        pad(out, indent);
                    }
                    let _ = write!(out, "{key}:");
                    value.write_after_key(out, indent);
                }
            }
            Self::List(items) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        pad(out, indent);
                    }
                    out.push('-');
                    if item.is_block() {
                        out.push(' ');
                        item.write(out, indent + 2);
                    } else {
                        item.write_after_key(out, indent);
                    }
                }
            }
            other => other.write_after_key(out, indent),
        }
    }

    /// Writes the node after `key:` or `-`, up to the end of its last line.
    fn write_after_key(&self, out: &mut String, indent: usize) {
        match self {
            Self::Text(text) => {
                let _ = writeln!(out, " {}", quote(text));
            }
            Self::Plain(text) => {
                let _ = writeln!(out, " {text}");
            }
            Self::Alias(anchor) => {
                let _ = writeln!(out, " *{anchor}");
            }
            Self::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(_) | Self::List(_) => {
                out.push('\n');
                pad(out, indent + 2);
                self.write(out, indent + 2);
            }
            Self::Tagged { tag, anchor, value } => {
                let _ = write!(out, " {tag}");
                if let Some(anchor) = anchor {
                    let _ = write!(out, " &{anchor}");
                }
                value.write_after_key(out, indent);
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A double-quoted scalar: JSON's escapes are YAML's.
fn quote(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn writes_what_a_person_would() {
        let document = Node::Map(vec![
            (
                "server",
                Node::List(vec![Node::tagged(
                    "!channel",
                    vec![("address", Node::text("[::]:50051")), ("insecure-mode", Node::flag(true))],
                )]),
            ),
            (
                "instances",
                Node::List(vec![Node::Map(vec![
                    ("name", Node::text("")),
                    (
                        "storages",
                        Node::List(vec![Node::anchored(
                            "!lru-storage",
                            "cas",
                            vec![("size", Node::number(5))],
                        )]),
                    ),
                    (
                        "services",
                        Node::List(vec![Node::tagged("!cas", vec![("storage", Node::alias("cas"))])]),
                    ),
                    ("clients", Node::List(vec![])),
                ])]),
            ),
            ("secret", Node::read_file("/a b/\"c\"")),
        ]);
        assert_eq!(
            document.to_yaml(),
            r#"server:
  - !channel
    address: "[::]:50051"
    insecure-mode: true
instances:
  - name: ""
    storages:
      - !lru-storage &cas
        size: 5
    services:
      - !cas
        storage: *cas
    clients: []
secret: !read-file "/a b/\"c\""
"#
        );
    }
}
