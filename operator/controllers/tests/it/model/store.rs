//! The objects, and what happens to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::apply;
use super::faults::{Fault, Faults};
use super::gate::Gate;
use super::rules::{check_immutable, default, group_version, item, plural};

/// Group, plural, namespace, name.
pub(crate) type Key = (String, String, String, String);

/// An answer that isn't an object.
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// What each manager applied to each object.
    applied: HashMap<(Key, String), Value>,
    /// Each object as lists have it, where it was in one since it changed.
    items: HashMap<Key, String>,
    version: u64,
    writes: Vec<String>,
    /// Plural and name of what was asked for by its name.
    reads: BTreeSet<(String, String)>,
    /// Writes that are still carried out; after the last one every request fails, as if the process had died.
    budget: Option<usize>,
    /// API groups that nobody has installed.
    lacking: Vec<String>,
    /// What goes wrong.
    faults: Option<Faults>,
    /// The write that is held on its way.
    gate: Option<Gate>,
}

/// The API server.
#[derive(Clone, Default)]
pub(crate) struct Model {
    state: Arc<Mutex<State>>,
}

impl Model {
    /// The writes so far, as `VERB plural/name`.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.clone()
    }

    /// Plural and name of everything that was asked for by its name.
    pub(crate) fn reads(&self) -> BTreeSet<(String, String)> {
        self.state.lock().unwrap().reads.clone()
    }

    /// Forgets the writes so far.
    pub(crate) fn forget_writes(&self) {
        self.state.lock().unwrap().writes.clear();
    }

    /// Lets `writes` more writes succeed, then nothing any more; `None` ends that.
    pub(crate) fn crash_after(&self, writes: Option<usize>) {
        self.state.lock().unwrap().budget = writes;
    }

    /// From now on requests fail at random, and others write in between; `None` ends that.
    pub(crate) fn faults(&self, faults: Option<Faults>) {
        self.state.lock().unwrap().faults = faults;
    }

    /// Holds one write on its way, after so many others.
    pub(crate) fn hold(&self, after: usize) -> Gate {
        let gate = Gate::new(after);
        self.state.lock().unwrap().gate = Some(gate.clone());
        gate
    }

    /// Holds a write that has come to the gate; all others go by.
    pub(super) async fn pass_gate(&self) {
        let gate = {
            let mut state = self.state.lock().unwrap();
            if state.gate.as_mut().is_some_and(Gate::lets_by) { None } else { state.gate.take() }
        };
        if let Some(gate) = gate {
            gate.hold().await;
        }
    }

    /// What goes wrong with the next request.
    pub(super) fn next_fault(&self) -> Option<Fault> {
        self.state.lock().unwrap().faults.as_mut().and_then(Faults::next)
    }

    /// Someone else changes an object, if it exists.
    pub(super) fn touch(&self, key: &Key) {
        let mut state = self.state.lock().unwrap();
        if let Some(old) = state.objects.get(key).cloned() {
            let mut new = old.clone();
            let version = state.version.to_string();
            new["metadata"]["annotations"]["example.org/touched"] = json!(version);
            state.store(key.clone(), Some(&old), new);
        }
    }

    /// No kind of that API group exists.
    pub(crate) fn lacks(&self, group: &str) {
        self.state.lock().unwrap().lacking.push(group.to_owned());
    }

    pub(super) fn check_group(&self, group: &str) -> Result<(), Refusal> {
        if self.state.lock().unwrap().lacking.iter().any(|lacking| lacking == group) {
            return Err(Refusal::new(404, "NotFound", "the server could not find the requested resource"));
        }
        Ok(())
    }

    /// All objects, by key.
    pub(crate) fn objects(&self) -> BTreeMap<Key, Value> {
        self.state.lock().unwrap().objects.clone()
    }

    /// The names of all objects of that plural.
    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.objects.keys().filter(|key| key.1 == plural).map(|key| key.3.clone()).collect()
    }

    /// The only object of that plural and name.
    pub(crate) fn object(&self, plural: &str, name: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        state.objects.iter().find(|(k, _)| k.1 == plural && k.3 == name).map(|(_, v)| v.clone())
    }

    /// The same, where namespaces have objects of one name.
    pub(crate) fn object_in(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        let is_meant = |key: &Key| key.1 == plural && key.2 == namespace && key.3 == name;
        state.objects.iter().find(|(key, _)| is_meant(key)).map(|(_, object)| object.clone())
    }

    /// Puts an object there as a user would.
    pub(crate) fn put(&self, object: Value) {
        let (group, _) = group_version(object["apiVersion"].as_str().unwrap());
        let plural = plural(object["kind"].as_str().unwrap());
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        let key = (group, plural, namespace, name);
        let old = state.objects.get(&key).cloned();
        state.store(key, old.as_ref(), object);
    }

    /// Changes an object as someone else would.
    pub(crate) fn edit(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock().unwrap();
        let (key, old) = state
            .objects
            .iter()
            .find(|(k, _)| k.1 == plural && k.3 == name)
            .map(|(k, v)| (k.clone(), v.clone()))
            .unwrap();
        let mut new = old.clone();
        change(&mut new);
        state.store(key, Some(&old), new);
    }

    /// Removes an object as a user would, with all that it owns.
    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.objects.retain(|k, _| !(k.1 == plural && k.3 == name));
        state.collect_garbage();
    }

    /// Does what the controllers of workloads and Jobs would: everything starts, and is ready at once.
    pub(crate) fn settle(&self) {
        let mut state = self.state.lock().unwrap();
        let started = |key: &Key| matches!(key.1.as_str(), "deployments" | "statefulsets" | "jobs");
        let workloads: Vec<Key> = state.objects.keys().filter(|key| started(key)).cloned().collect();
        for key in workloads {
            let old = state.objects[&key].clone();
            let mut new = old.clone();
            let replicas = old["spec"]["replicas"].as_i64().unwrap_or(1);
            let generation = &old["metadata"]["generation"];
            new["status"] = match key.1.as_str() {
                "deployments" => json!({"observedGeneration": generation, "replicas": replicas,
                    "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas}),
                "statefulsets" => json!({"observedGeneration": generation, "replicas": replicas,
                    "updatedReplicas": replicas, "readyReplicas": replicas, "currentRevision": "r", "updateRevision": "r"}),
                "jobs" => json!({"conditions": [{"type": "Complete", "status": "True"}]}),
                _ => continue,
            };
            state.store(key, Some(&old), new);
        }
    }

    pub(super) fn admit(&self) -> Result<(), Refusal> {
        match self.state.lock().unwrap().budget {
            Some(0) => Err(Refusal::new(500, "InternalError", "the process is gone")),
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Result<Value, Refusal> {
        let mut state = self.state.lock().unwrap();
        state.reads.insert((key.1.clone(), key.3.clone()));
        state
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| Refusal::new(404, "NotFound", format!("{} {:?} not found", key.1, key.3)))
    }

    /// The list as its JSON text: what doesn't change between two lists is written once.
    pub(super) fn list(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        selector: &[(String, String)],
    ) -> String {
        let mut state = self.state.lock().unwrap();
        let State { objects, items, .. } = &mut *state;
        let matches = |object: &Value| selector.iter().all(|(k, v)| object["metadata"]["labels"][k] == **v);
        let kind = |key: &Key| key.0 == group && key.1 == plural && key.2 == namespace;
        let first = (group.to_owned(), plural.to_owned(), namespace.to_owned(), String::new());
        let of_kind = objects.range(first..).take_while(|(key, _)| kind(key));
        let mut text =
            String::from(r#"{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"1"},"items":["#);
        let empty = text.len();
        for (key, object) in of_kind.filter(|(_, object)| matches(object)) {
            if text.len() > empty {
                text.push(',');
            }
            text.push_str(items.entry(key.clone()).or_insert_with(|| item(object)));
        }
        text.push_str("]}");
        text
    }

    pub(super) fn create(&self, key: Key, object: Value) -> Result<Value, Refusal> {
        let mut state = self.state.lock().unwrap();
        if state.objects.contains_key(&key) {
            return Err(Refusal::new(409, "AlreadyExists", format!("{} exists", key.3)));
        }
        state.wrote("POST", &key);
        Ok(state.store(key, None, object))
    }

    pub(super) fn apply(&self, key: Key, manager: &str, config: Value) -> Result<Value, Refusal> {
        let mut state = self.state.lock().unwrap();
        let old = state.objects.get(&key).cloned();
        check_version(old.as_ref(), &config)?;
        let slot = (key.clone(), manager.to_owned());
        let before = state.applied.get(&slot).cloned().unwrap_or(Value::Null);
        check_immutable(&key, old.as_ref(), &config)?;
        let mut config = config;
        if let Some(metadata) = config["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let mut new = old.clone().unwrap_or_else(|| json!({"metadata": {"namespace": key.2}}));
        apply::remove_dropped(&mut new, &before, &config);
        apply::merge(&mut new, &config);
        state.applied.insert(slot, config);
        state.wrote("APPLY", &key);
        Ok(state.store(key, old.as_ref(), new))
    }

    pub(super) fn merge_patch(&self, key: Key, patch: &Value) -> Result<Value, Refusal> {
        let mut state = self.state.lock().unwrap();
        let old = state.objects.get(&key).cloned();
        let Some(current) = &old else { return Err(Refusal::new(404, "NotFound", key.3)) };
        check_version(Some(current), patch)?;
        let mut new = current.clone();
        apply::json_merge(&mut new, patch);
        state.wrote("PATCH", &key);
        Ok(state.store(key, old.as_ref(), new))
    }

    pub(super) fn replace_status(&self, key: Key, object: &Value) -> Result<Value, Refusal> {
        let mut state = self.state.lock().unwrap();
        let old = state.objects.get(&key).cloned();
        let Some(current) = &old else { return Err(Refusal::new(404, "NotFound", key.3)) };
        check_version(Some(current), object)?;
        let mut new = current.clone();
        new["status"] = object["status"].clone();
        state.wrote("STATUS", &key);
        Ok(state.store(key, old.as_ref(), new))
    }

    pub(super) fn remove(&self, key: &Key, options: &Value) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap();
        let Some(current) = state.objects.get(key) else {
            return Err(Refusal::new(404, "NotFound", key.3.clone()));
        };
        let wanted = &options["preconditions"];
        for field in ["uid", "resourceVersion"] {
            if !wanted[field].is_null() && wanted[field] != current["metadata"][field] {
                return Err(Refusal::new(409, "Conflict", format!("{field} differs")));
            }
        }
        state.objects.remove(key);
        state.wrote("DELETE", key);
        state.collect_garbage();
        Ok(())
    }
}

impl State {
    fn wrote(&mut self, verb: &str, key: &Key) {
        self.writes.push(format!("{verb} {}/{}", key.1, key.3));
        if let Some(budget) = &mut self.budget {
            *budget -= 1;
        }
    }

    /// Stores an object, with defaults and bookkeeping; a write that changes nothing changes no version.
    fn store(&mut self, key: Key, old: Option<&Value>, mut new: Value) -> Value {
        default(&key.1, &mut new);
        let metadata = &mut new["metadata"];
        metadata["namespace"] = json!(key.2);
        match old {
            None => {
                self.version += 1;
                metadata["uid"] = json!(format!("uid-{}", self.version));
                metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                metadata["generation"] = json!(1);
                metadata["resourceVersion"] = json!(self.version.to_string());
            }
            Some(old) => {
                for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
                    metadata[field] = old["metadata"][field].clone();
                }
                if new == *old {
                    return new;
                }
                self.version += 1;
                if new["spec"] != old["spec"] {
                    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                    new["metadata"]["generation"] = json!(generation);
                }
                new["metadata"]["resourceVersion"] = json!(self.version.to_string());
            }
        }
        self.items.remove(&key);
        self.objects.insert(key, new.clone());
        new
    }

    fn collect_garbage(&mut self) {
        loop {
            let uids: Vec<Value> = self.objects.values().map(|o| o["metadata"]["uid"].clone()).collect();
            let before = self.objects.len();
            self.objects.retain(|_, object| {
                let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                owners.is_empty() || owners.iter().any(|owner| uids.contains(&owner["uid"]))
            });
            if self.objects.len() == before {
                return;
            }
        }
    }
}

fn check_version(current: Option<&Value>, object: &Value) -> Result<(), Refusal> {
    let wanted = &object["metadata"]["resourceVersion"];
    let is = current.map(|c| &c["metadata"]["resourceVersion"]);
    if wanted.is_null() || is == Some(wanted) {
        return Ok(());
    }
    Err(Refusal::new(409, "Conflict", "the object has been modified"))
}
