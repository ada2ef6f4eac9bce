//! BuildGrid's ACL file: for each instance everyone, or a list of who may call what.
//!
//! ```yaml
//! main:
//!   allow: all
//! release:
//!   allow:
//!     - actor: ci
//!       subject: release-.*
//!       requests: [GetActionResult, UpdateActionResult]
//! ```
//! All three are patterns, which must match from the start of the text, as BuildGrid's do. Those of `actor` and `subject`
//! must match to its end, too: BuildGrid lets `ci` stand for `ci2` as well, and an ACL that is read more strictly than it was
//! meant shuts somebody out, where the other way would let somebody in. What BuildGrid would match beyond is warned about
//! ([`Acl::narrowed`]). An instance that the file does not name is closed.

use std::collections::{BTreeSet, HashMap};

use regex::Regex;
use serde::Deserialize;
use thiserror::Error;

use super::Identity;

/// How patterns end that mean the same whether or not more may follow.
const CLOSED: [&str; 3] = ["$", ".*", ".+"];

/// Why a file is no ACL.
#[derive(Debug, Error)]
pub enum AclError {
    /// It is not of the form.
    #[error(
        "ACL file: {0}; expected INSTANCE: {{allow: all}} or a list of {{actor, subject, workflow, requests}}"
    )]
    Form(#[from] serde_yaml::Error),
    /// `allow` is text other than `all`.
    #[error("ACL file: instance {0:?}: allow is {1:?}; expected `all` or a list")]
    Word(String, String),
    /// A pattern is none.
    #[error("ACL file: instance {0:?}: {1}")]
    Pattern(String, regex::Error),
}

/// Who may call what in which instance.
#[derive(Debug)]
pub struct Acl {
    instances: HashMap<String, Allow>,
    narrowed: BTreeSet<String>,
}

#[derive(Debug)]
enum Allow {
    All,
    Some(Vec<Grant>),
}

#[derive(Debug)]
struct Grant {
    actor: Option<Regex>,
    subject: Option<Regex>,
    workflow: Option<Regex>,
    requests: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceFile {
    allow: AllowFile,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AllowFile {
    Word(String),
    List(Vec<GrantFile>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFile {
    actor: Option<String>,
    subject: Option<String>,
    workflow: Option<String>,
    requests: Option<Vec<String>>,
}

impl Acl {
    /// Reads the text of an ACL file.
    ///
    /// # Errors
    /// [`AclError`].
    pub fn parse(text: &str) -> Result<Self, AclError> {
        let file: HashMap<String, InstanceFile> = serde_yaml::from_str(text)?;
        let narrowed = file.values().flat_map(|instance| instance.allow.narrowed()).cloned().collect();
        let instances = file.into_iter().map(|(name, instance)| {
            let allow = allow(&name, instance.allow)?;
            Ok((name, allow))
        });
        Ok(Self { instances: instances.collect::<Result<_, AclError>>()?, narrowed })
    }

    /// The patterns by which BuildGrid grants calls to more callers than are granted here, in a line for an operator.
    #[must_use]
    pub fn narrowed(&self) -> Option<String> {
        let first = self.narrowed.first()?;
        let all: Vec<_> = self.narrowed.iter().map(|pattern| format!("`{pattern}`")).collect();
        Some(format!(
            "ACL file: {} must match a whole actor or subject here; BuildGrid matches a prefix: write `{first}.*` where that \
             is meant, and `{first}$` where it is not",
            all.join(", ")
        ))
    }

    /// Whether `identity` may call `method` in `instance`.
    #[must_use]
    pub fn permits(&self, instance: &str, method: &str, identity: &Identity) -> bool {
        match self.instances.get(instance) {
            None => false,
            Some(Allow::All) => true,
            Some(Allow::Some(grants)) => grants.iter().any(|grant| grant.permits(method, identity)),
        }
    }
}

impl AllowFile {
    /// The patterns of actors and subjects that leave open what may follow.
    fn narrowed(&self) -> impl Iterator<Item = &String> {
        let grants = match self {
            Self::Word(_) => &[][..],
            Self::List(grants) => grants,
        };
        let patterns = grants.iter().flat_map(|grant| grant.actor.iter().chain(&grant.subject));
        patterns.filter(|pattern| !CLOSED.iter().any(|end| pattern.ends_with(end)))
    }
}

fn allow(instance: &str, file: AllowFile) -> Result<Allow, AclError> {
    match file {
        AllowFile::Word(word) if word == "all" => Ok(Allow::All),
        AllowFile::Word(word) => Err(AclError::Word(instance.into(), word)),
        AllowFile::List(grants) => {
            let grants = grants.into_iter().map(|grant| Grant::new(instance, grant));
            Ok(Allow::Some(grants.collect::<Result<_, _>>()?))
        }
    }
}

impl Grant {
    fn new(instance: &str, file: GrantFile) -> Result<Self, AclError> {
        let compile = |pattern: Option<String>, whole: bool| {
            let end = if whole { "$" } else { "" };
            let regex = pattern.map(|p| Regex::new(&format!("^(?:{p}){end}")));
            regex.transpose().map_err(|error| AclError::Pattern(instance.into(), error))
        };
        Ok(Self {
            actor: compile(file.actor, true)?,
            subject: compile(file.subject, true)?,
            workflow: compile(file.workflow, false)?,
            requests: file.requests,
        })
    }

    fn permits(&self, method: &str, identity: &Identity) -> bool {
        let fits = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|p| p.is_match(text));
        fits(&self.actor, &identity.actor)
            && fits(&self.subject, &identity.subject)
            && fits(&self.workflow, &identity.workflow)
            && self.requests.as_ref().is_none_or(|requests| requests.iter().any(|r| r == method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(actor: &str, subject: &str, workflow: &str) -> Identity {
        Identity { actor: actor.into(), subject: subject.into(), workflow: workflow.into() }
    }

    #[test]
    fn grants_need_all_that_they_name() {
        let acl = Acl::parse(
            "open: {allow: all}\nrelease: {allow: [{actor: ci, subject: 'release-.*', requests: [Execute]}, \
             {workflow: nightly}]}\nclosed: {allow: []}",
        )
        .unwrap();
        assert!(acl.permits("open", "Anything", &who("", "", "")));
        assert!(acl.permits("release", "Execute", &who("ci", "release-7", "")));
        assert!(!acl.permits("release", "UpdateActionResult", &who("ci", "release-7", "")));
        assert!(!acl.permits("release", "Execute", &who("ci2", "release-7", "")));
        assert!(!acl.permits("release", "Execute", &who("ci", "my-release-7", "")));
        assert!(acl.permits("release", "Anything", &who("x", "y", "nightly-2")));
        assert!(!acl.permits("closed", "Execute", &who("ci", "release-7", "nightly")));
        assert!(!acl.permits("unnamed", "Execute", &who("ci", "release-7", "nightly")));
    }

    #[test]
    fn patterns_that_buildgrid_matches_further_are_told() {
        let told = |text: &str| Acl::parse(text).unwrap().narrowed();
        let prefix = told("main: {allow: [{subject: release-}, {actor: ci, subject: 'dev-.*'}]}").unwrap();
        assert!(
            prefix.contains("`release-`") && prefix.contains("`ci`") && prefix.contains("prefix"),
            "{prefix}"
        );
        assert!(prefix.contains("write `ci.*`") && !prefix.contains("dev-"), "{prefix}");
        let same =
            "main: {allow: [{subject: 'release-.*', actor: ci$, workflow: nightly}]}\nopen: {allow: all}";
        assert_eq!(told(same), None, "these mean what they mean there");
        let acl = Acl::parse("main: {allow: [{subject: release-}, {subject: ci$}]}").unwrap();
        assert!(!acl.permits("main", "Execute", &who("", "release-7", "")), "and are read strictly");
        assert!(acl.permits("main", "Execute", &who("", "ci", "")));
    }

    #[test]
    fn files_that_are_no_acl_say_what_is_wrong() {
        for text in [
            "main: {allow: some}",
            "main: {deny: all}",
            "main: {allow: [{user: x}]}",
            "- x",
            "main: {allow: [{actor: '('}]}",
        ] {
            assert!(Acl::parse(text).unwrap_err().to_string().starts_with("ACL file"), "{text}");
        }
    }
}
