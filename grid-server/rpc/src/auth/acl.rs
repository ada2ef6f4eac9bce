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
//! `actor` and `subject` are compared whole unless they hold a pattern's signs, `workflow` is a pattern; each pattern
//! must match from the start of the text, as BuildGrid's do. An instance that the file does not name is closed.

use std::collections::HashMap;

use regex::Regex;
use serde::Deserialize;
use thiserror::Error;

use super::Identity;

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
        let instances = file.into_iter().map(|(name, instance)| {
            let allow = allow(&name, instance.allow)?;
            Ok((name, allow))
        });
        Ok(Self { instances: instances.collect::<Result<_, AclError>>()? })
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
