//! The string tags: `!expand-path`, `!expand-vars`, `!read-file`.
//!
//! They are evaluated while the tree is built, so that nothing further in knows of them.

use std::path::PathBuf;

use crate::surroundings::Surroundings;

/// What a string tag made of its text.
pub(super) struct Expanded {
    pub(super) text: String,
    /// Variables that the text names and the environment doesn't have.
    pub(super) unset: Vec<String>,
}

/// Evaluates a string tag; `None` where the tag is none.
pub(super) fn evaluate(tag: &str, text: &str, around: &dyn Surroundings) -> Option<Result<Expanded, String>> {
    match tag {
        "expand-path" => Some(Ok(expand(&expand_home(text, around), around))),
        "expand-vars" => Some(Ok(expand(text, around))),
        "read-file" => Some(read_file(text, around)),
        _ => None,
    }
}

fn read_file(text: &str, around: &dyn Surroundings) -> Result<Expanded, String> {
    let Expanded { text: path, unset } = expand(&expand_home(text, around), around);
    match around.read(&PathBuf::from(&path)) {
        Ok(content) => Ok(Expanded { text: content.trim().to_owned(), unset }),
        Err(error) => Err(format!("!read-file can't read {path}: {error}")),
    }
}

/// `~` and `~/…` from `HOME`; `~user` stays as it is, for the user database is not consulted.
fn expand_home(text: &str, around: &dyn Surroundings) -> String {
    let rest = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => return text.to_owned(),
    };
    around
        .variable("HOME")
        .map_or_else(|| text.to_owned(), |home| format!("{}{rest}", home.trim_end_matches('/')))
}

/// `$NAME` and `${NAME}`. A variable that isn't set stays as written, as BuildGrid leaves it, and is reported.
fn expand(text: &str, around: &dyn Surroundings) -> Expanded {
    let mut out = String::with_capacity(text.len());
    let mut unset = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let (whole, name) = variable(&rest[at..]);
        match (name.is_empty(), around.variable(name)) {
            (false, Some(value)) => out.push_str(&value),
            (false, None) => {
                unset.push(name.to_owned());
                out.push_str(whole);
            }
            (true, _) => out.push_str(whole),
        }
        rest = &rest[at + whole.len()..];
    }
    out.push_str(rest);
    Expanded { text: out, unset }
}

/// The reference at the start of `text`, which starts with `$`: all of it, and the name in it.
fn variable(text: &str) -> (&str, &str) {
    let after = &text[1..];
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.find('}') {
            Some(end) => (&text[..end + 3], &braced[..end]),
            None => (&text[..1], ""),
        };
    }
    let length = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    (&text[..=length], &after[..length])
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    struct Fixed;

    impl Surroundings for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "HOME" => Some("/home/ada/".to_owned()),
                "BUCKET" => Some("blobs".to_owned()),
                _ => None,
            }
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            if path == Path::new("/home/ada/secret") {
                Ok(" s3cr3t\n".to_owned())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }

    fn done(tag: &str, text: &str) -> String {
        evaluate(tag, text, &Fixed).unwrap().map_or_else(|e| e, |e| e.text)
    }

    #[test]
    fn paths_and_variables_expand() {
        assert_eq!(done("expand-path", "~/cas"), "/home/ada/cas");
        assert_eq!(done("expand-path", "~root/cas"), "~root/cas");
        assert_eq!(done("expand-vars", "a-${BUCKET}-$BUCKET!"), "a-blobs-blobs!");
        assert_eq!(done("expand-vars", "cost: 5$, ${open"), "cost: 5$, ${open");
        assert_eq!(done("read-file", "~/secret"), "s3cr3t");
        assert!(done("read-file", "/none").contains("can't read /none"));
        assert!(evaluate("lru-storage", "", &Fixed).is_none());
    }

    #[test]
    fn a_variable_that_is_not_set_is_reported_and_left() {
        let expanded = expand("$NOPE/x", &Fixed);
        assert_eq!(expanded.text, "$NOPE/x");
        assert_eq!(expanded.unset, ["NOPE"]);
    }
}
