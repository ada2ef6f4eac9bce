//! [`Usage`]: how much of each resource somebody used, and [`Thresholds`]: how much they may before they are throttled. Both in
//! BuildGrid's JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

/// The resources that BuildGrid counts, each with its kind: those of `getrusage(2)` with times in milliseconds and memory
/// in KiB, bytes of the storage, calls.
const RESOURCES: [Resource; 8] = [
    ("computing", "utime"),
    ("computing", "stime"),
    ("computing", "maxrss"),
    ("computing", "inblock"),
    ("computing", "oublock"),
    ("cas", "read_bytes"),
    ("cas", "write_bytes"),
    ("rpc", "execute"),
];
/// What the levels of a tree of thresholds may be called.
const PARTS: [&str; 5] = ["root", "instance", "workflow", "actor", "subject"];

/// A resource: its kind and its name.
pub(crate) type Resource = (&'static str, &'static str);

/// The calls of Execute.
pub(crate) const EXECUTE: Resource = ("rpc", "execute");

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage(BTreeMap<Resource, u64>);

impl Usage {
    /// Amounts of some resources.
    pub(crate) fn of(amounts: impl IntoIterator<Item = (Resource, u64)>) -> Self {
        Self(amounts.into_iter().filter(|(_, amount)| *amount > 0).collect())
    }

    /// The resources of which more was used than `threshold` says, where it says something.
    pub(crate) fn above(&self, threshold: &Self) -> Vec<Resource> {
        let used = |resource| self.0.get(resource).copied().unwrap_or_default();
        let above = threshold.0.iter().filter(|(resource, limit)| used(*resource) > **limit);
        above.map(|(resource, _)| *resource).collect()
    }

    /// Reads BuildGrid's form: kinds, in each of them resources, each a whole number.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        let mut amounts = BTreeMap::new();
        for (kind, of_kind) in object(value, "usage")? {
            for (name, amount) in object(of_kind, kind)? {
                let resource = RESOURCES.iter().find(|known| known.0 == kind && known.1 == name);
                let resource = resource.ok_or_else(|| {
                    let known = RESOURCES.map(|(kind, name)| format!("{kind}.{name}")).join(", ");
                    format!("{kind}.{name} is none of the resources that are counted: {known}")
                })?;
                let amount =
                    whole(amount).ok_or_else(|| format!("{kind}.{name} is not a number from 0 on"))?;
                amounts.insert(*resource, amount);
            }
        }
        Ok(Self(amounts))
    }

    /// BuildGrid's form.
    pub(crate) fn to_json(&self) -> Value {
        let mut kinds = Map::new();
        for ((kind, name), amount) in &self.0 {
            let of_kind = kinds.entry(*kind).or_insert_with(|| Value::Object(Map::new()));
            of_kind[*name] = Value::from(*amount);
        }
        Value::Object(kinds)
    }
}

/// A whole number from 0 on. Redis adds in floating point: a large sum comes back as `1e+15`.
fn whole(number: &Value) -> Option<u64> {
    number.as_u64().or_else(|| format!("{:.0}", number.as_f64()?).parse().ok())
}

fn object<'v>(value: &'v Value, what: &str) -> Result<&'v Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is not a mapping"))
}

/// How much may be used before throttling: by instance, then workflow, actor and subject, as far as they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    default: Usage,
    next: BTreeMap<String, Thresholds>,
}

impl Thresholds {
    /// Reads a file as BuildGrid's `throttling-config-path` names it.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        let value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        Self::read(&value)
    }

    fn read(value: &Value) -> Result<Self, String> {
        let mut read = Self::default();
        for (key, value) in object(value, "a level of thresholds")? {
            match key.as_str() {
                "part" if value.as_str().is_some_and(|part| PARTS.contains(&part)) => {}
                "part" => return Err(format!("part: expected one of {}", PARTS.join(", "))),
                "default" => {
                    read.default = Usage::read(value).map_err(|error| format!("default: {error}"))?;
                }
                "next" if value.is_null() => {}
                "next" => {
                    for (name, level) in object(value, "next")? {
                        let level = Self::read(level).map_err(|error| format!("next.{name}: {error}"))?;
                        read.next.insert(name.clone(), level);
                    }
                }
                other => return Err(format!("{other}: expected part, default or next")),
            }
        }
        Ok(read)
    }

    /// The thresholds of somebody: those of the furthest level that names them.
    pub(crate) fn of(&self, parts: [&str; 4]) -> &Usage {
        let level = parts.into_iter().fold(self, |level, part| level.next.get(part).unwrap_or(level));
        &level.default
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thresholds_are_those_of_the_furthest_level_that_names_somebody() {
        let tree = json!({
            "part": "root", "default": {"rpc": {"execute": 10}},
            "next": {"main": {
                "part": "instance", "default": {"rpc": {"execute": 100}, "computing": {"utime": 5}},
                "next": {"alice": {"part": "workflow", "default": {}, "next": null}},
            }},
        });
        let tree = Thresholds::read(&tree).unwrap();
        let used = Usage::of([(EXECUTE, 11), (("computing", "utime"), 6)]);
        let above = |parts| used.above(tree.of(parts));
        assert_eq!(above(["other", "", "", ""]), [EXECUTE]);
        assert_eq!(above(["main", "ci", "", "bob"]), [("computing", "utime")]);
        // A part that no level names is passed over, as BuildGrid does.
        assert_eq!(above(["main", "ci", "alice", ""]), []);
        assert_eq!(Usage::default().above(tree.of([""; 4])), []);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_place() {
        let read = |value: Value| Thresholds::read(&value).unwrap_err();
        let deep = json!({"next": {"main": {"default": {"rpc": {"exec": 1}}}}});
        assert!(read(deep).starts_with("next.main: default: rpc.exec is none of"));
        assert!(read(json!({"default": {"rpc": {"execute": -1}}})).contains("from 0 on"));
        assert!(read(json!({"defualt": {}})).starts_with("defualt: expected"));
        assert!(read(json!({"part": "team"})).contains("workflow"));
        assert!(read(json!([])).contains("not a mapping"));
    }

    #[test]
    fn amounts_are_written_as_they_are_read() {
        let usage = Usage::of([(EXECUTE, 2), (("computing", "maxrss"), 1 << 40), (("cas", "read_bytes"), 0)]);
        assert_eq!(usage.to_json(), json!({"computing": {"maxrss": 1_u64 << 40}, "rpc": {"execute": 2}}));
        assert_eq!(Usage::read(&usage.to_json()), Ok(usage));
        let large = Usage::read(&json!({"rpc": {"execute": 1e15}})).unwrap();
        assert_eq!(large, Usage::of([(EXECUTE, 1_000_000_000_000_000)]));
    }
}
