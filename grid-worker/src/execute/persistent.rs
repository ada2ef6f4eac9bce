//! [`Plan`]: whether a persistent worker may do an action's work, which one, and what it is asked. Pure.
//!
//! Bazel leaves a command as it is for a process of its own, and says by `persistentWorkerKey` that a process which stays
//! may do it instead: started with the arguments that name no flag file, and asked for what the flag files say. The key is
//! the client's; so everything that makes the process what it is counts besides. What can't be done exactly so is run as
//! any other command. Neighbours: `residents` has the processes, [`crate::work_protocol`] the messages.

use std::collections::HashMap;
use std::path::Path;

use grid_core::{Digest, DigestFunction, Hasher};
use grid_proto::reapi::Command;

use super::demands::Demands;
use crate::runner::isolation::POINTS;
use crate::stage::InputTree;
use crate::stage::listing::Listing;
use crate::work_protocol::{Form, Input, WorkRequest};

/// The argument that makes a tool stay.
const STAY: &str = "--persistent_worker";
/// The most inputs of one request.
const MOST_INPUTS: u64 = 100_000;
/// The most flag files in each other.
const DEEPEST: usize = 16;
/// The most bytes of all arguments of one request.
const MOST_ARGUMENTS: usize = 16 << 20;

/// Work for a persistent worker.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tells processes apart that may not stand in for each other.
    pub(super) key: Digest,
    /// The process's own arguments.
    pub(super) startup: Vec<String>,
    /// The arguments that name flag files.
    flags: Vec<String>,
    pub(super) form: Form,
    inputs: Vec<Input>,
}

impl Plan {
    /// The plan for a command; `None` where no persistent worker can do it.
    pub(super) fn new(
        command: &Command,
        environment: &HashMap<String, String>,
        demands: &Demands,
        tree: &InputTree,
    ) -> Option<Self> {
        let client = demands.persistent.as_ref()?;
        let root = tree.directories.get(&tree.root)?;
        // What lies at these names is the process's own while it stays.
        let in_the_way = POINTS.iter().any(|point| root.names().any(|name| name == *point));
        let layered = demands.uid.is_some() || demands.chroot.is_some();
        let elsewhere = !command.working_directory.is_empty();
        if in_the_way || layered || elsewhere || tree.entries > MOST_INPUTS {
            return None;
        }
        let (flags, mut startup): (Vec<_>, Vec<_>) =
            command.arguments.iter().cloned().partition(|argument| names_flags(argument));
        if flags.is_empty() || startup.is_empty() {
            return None;
        }
        startup.push(STAY.to_owned());
        let (mut inputs, mut tools) = (Vec::new(), Vec::new());
        walk(tree, &mut |path, listing, name, digest| {
            if listing.tools.iter().any(|tool| **tool == *name) {
                tools.push(format!("{path} {digest}"));
            }
            inputs.push(Input { path, digest: digest.hash_hex().into_bytes() });
        });
        tools.sort_unstable();
        let mut variables: Vec<_> =
            environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        variables.sort_unstable();
        let mut hasher = Hasher::new(DigestFunction::Sha256);
        let own = vec![client.clone(), demands.work_form.name().to_owned(), demands.network.to_string()];
        let gid = vec![demands.gid.map(|gid| gid.to_string()).unwrap_or_default()];
        for part in [&own, &gid, &startup, &variables, &tools] {
            hasher.update(&part.len().to_le_bytes());
            for text in part {
                hasher.update(&text.len().to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        Some(Self { key: hasher.finish(), startup, flags, form: demands.work_form, inputs })
    }

    /// The request as the process reads it; `read` gives a file of the input root. `None` where a flag file can't be
    /// read: the command itself says best what is wrong then.
    pub(super) fn request(self, read: &dyn Fn(&Path) -> Option<String>) -> Option<Vec<u8>> {
        let mut expansion = Expansion { read, arguments: Vec::new(), bytes: 0 };
        for flag in self.flags {
            expansion.add(flag, 0)?;
        }
        let request = WorkRequest { arguments: expansion.arguments, inputs: self.inputs, request_id: 0 };
        Some(self.form.write(&request))
    }
}

/// Whether an argument names a file with the arguments of this piece of work.
fn names_flags(argument: &str) -> bool {
    let prefixes = ["@", "--flagfile=", "-flagfile="];
    prefixes.iter().any(|prefix| argument.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
}

/// Calls with each file of a tree: its path, its directory, its name there, its digest.
fn walk(tree: &InputTree, each: &mut dyn FnMut(String, &Listing, &str, &Digest)) {
    let mut open = vec![(String::new(), tree.root)];
    while let Some((above, digest)) = open.pop() {
        let Some(listing) = tree.directories.get(&digest) else { continue };
        for (name, key) in &listing.files {
            each(format!("{above}{name}"), listing, name, &key.digest);
        }
        open.extend(listing.directories.iter().map(|(name, below)| (format!("{above}{name}/"), *below)));
    }
}

/// Flag files that become arguments.
struct Expansion<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    arguments: Vec<String>,
    bytes: usize,
}

impl Expansion<'_> {
    fn add(&mut self, argument: String, depth: usize) -> Option<()> {
        self.bytes += argument.len() + size_of::<String>();
        if depth > DEEPEST || self.bytes > MOST_ARGUMENTS {
            return None;
        }
        match argument.strip_prefix('@') {
            // A label of another repository, or an argument that begins with the sign itself.
            Some(rest) if !rest.starts_with('@') && !rest.contains("//") => {
                let text = (self.read)(Path::new(rest))?;
                self.bytes += text.len();
                text.lines().try_for_each(|line| self.add(line.to_owned(), depth + 1))
            }
            _ => {
                self.arguments.push(argument);
                Some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use grid_proto::reapi::{Directory, FileNode, NodeProperties, NodeProperty};

    use super::*;
    use crate::cas::client::to_wire;

    fn tree(files: &[(&str, &str, bool)]) -> InputTree {
        let file = |(name, content, tool): &(&str, &str, bool)| FileNode {
            name: (*name).to_owned(),
            digest: Some(to_wire(&Digest::of(DigestFunction::Sha256, content.as_bytes()))),
            node_properties: tool.then(|| NodeProperties {
                properties: vec![NodeProperty { name: "bazel_tool_input".to_owned(), value: String::new() }],
                ..NodeProperties::default()
            }),
            ..FileNode::default()
        };
        let root = Digest::of(DigestFunction::Sha256, b"root");
        let message = Directory { files: files.iter().map(file).collect(), ..Directory::default() };
        let listing = Arc::new(Listing::new(&root, message).unwrap());
        InputTree { root, directories: HashMap::from([(root, listing)]), entries: files.len() as u64 }
    }

    fn plan(arguments: &[&str], files: &[(&str, &str, bool)]) -> Option<Plan> {
        let command =
            Command { arguments: arguments.iter().map(|a| (*a).to_owned()).collect(), ..Command::default() };
        let demands = Demands { persistent: Some("key".to_owned()), ..Demands::default() };
        Plan::new(&command, &HashMap::new(), &demands, &tree(files))
    }

    #[test]
    fn arguments_are_parted_and_a_tool_is_told_to_stay() {
        let plan = plan(&["tool", "@a", "-v", "--flagfile=b", "@"], &[("tool", "1", true)]).unwrap();
        assert_eq!(plan.startup, ["tool", "-v", "@", "--persistent_worker"]);
        assert_eq!(plan.flags, ["@a", "--flagfile=b"]);
        assert_eq!(plan.inputs.len(), 1);
    }

    #[test]
    fn only_what_makes_the_process_tells_processes_apart() {
        let key = |arguments: &[&str], files: &[(&str, &str, bool)]| plan(arguments, files).unwrap().key;
        let base = key(&["tool", "@a"], &[("tool", "1", true), ("in", "x", false)]);
        assert_eq!(
            base,
            key(&["tool", "@b"], &[("tool", "1", true), ("in", "y", false), ("more", "", false)])
        );
        assert_ne!(base, key(&["tool", "@a"], &[("tool", "2", true), ("in", "x", false)]));
        assert_ne!(base, key(&["tool", "@a"], &[("tool", "1", true), ("in", "x", true)]));
        assert_ne!(base, key(&["tool", "-x", "@a"], &[("tool", "1", true), ("in", "x", false)]));
        assert_ne!(key(&["a", "bc", "@x"], &[]), key(&["ab", "c", "@x"], &[]));
    }

    #[test]
    fn what_cannot_be_done_exactly_is_not_done() {
        for arguments in [&["tool"][..], &["@flags"], &["tool", "@"]] {
            assert!(plan(arguments, &[]).is_none(), "{arguments:?}");
        }
        assert!(plan(&["tool", "@a"], &[("tmp", "", false)]).is_none(), "in the way");
    }

    #[test]
    fn flag_files_are_read_in_each_other_and_not_for_ever() {
        let read = |path: &Path| match path.to_str().unwrap() {
            "a" => Some("one\r\n@b\n@@three\n@repo//label\n--flagfile=c\n".to_owned()),
            "b" => Some("two".to_owned()),
            "loop" => Some("@loop".to_owned()),
            "bomb" => Some("@bomb\n@bomb".to_owned()),
            _ => None,
        };
        let arguments = |flag: &str| {
            let frame = plan(&["tool", flag], &[])?.request(&read)?;
            let request: WorkRequest = prost::Message::decode_length_delimited(&*frame).unwrap();
            Some(request.arguments)
        };
        let expected = ["one", "two", "@@three", "@repo//label", "--flagfile=c"];
        assert_eq!(arguments("@a").unwrap(), expected);
        assert_eq!(arguments("--flagfile=a").unwrap(), ["--flagfile=a"]);
        for bad in ["@loop", "@bomb", "@missing"] {
            assert_eq!(arguments(bad), None, "{bad}");
        }
    }
}
