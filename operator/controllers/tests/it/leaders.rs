//! A leader that is stopped past its lease, wherever in its work: nothing that it writes late takes effect.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grid_operator_apply::{Election, Leadership, LeaseStore, Term};
use serde_json::{Value, json};

use crate::model::{Key, Model, context_at, noon};
use crate::passes::{assert_same, converge, new_world, pass_of, shape};

/// A lease that nobody else wants.
#[derive(Clone, Default)]
struct Lease(Arc<Mutex<Option<Term>>>);

impl LeaseStore for Lease {
    type Error = Infallible;

    async fn get(&self) -> Result<Option<Term>, Infallible> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn put(&self, term: &Term, _: Duration) -> Result<String, Infallible> {
        *self.0.lock().unwrap() = Some(Term { version: "1".to_owned(), ..term.clone() });
        Ok("1".to_owned())
    }
}

const LEASE: Duration = Duration::from_secs(15);

fn edit(model: &Model, instances: &[&str], replicas: i32) {
    model.edit("buildgrids", "demo", |grid| grid["spec"]["instances"] = json!(instances));
    model.edit("workerpools", "gcc", |pool| pool["spec"]["replicas"] = json!(replicas));
}

fn but_events(model: &Model) -> BTreeMap<Key, Value> {
    model.objects().into_iter().filter(|(_, object)| object["kind"] != "Event").collect()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_wakes_up_after_its_lease_changes_nothing() {
    let wanted = {
        let model = new_world();
        edit(&model, &["", "late"], 7);
        converge(&model).await;
        shape(&model)
    };
    let mut stopped = 0;
    for after in 0.. {
        let model = new_world();
        converge(&model).await;
        edit(&model, &["", "early"], 5);
        let leadership = Leadership::none();
        let mut election = Election::new(Lease::default(), "old".to_owned(), leadership.clone(), LEASE);
        assert!(election.step().await);
        let gate = model.hold(after);
        let (world, context) = (model.clone(), context_at(&model, noon(), leadership.clone()));
        let old = tokio::spawn(async move { pass_of(&world, &context).await });
        tokio::select! {
            () = gate.reached() => {}
            () = async { while !old.is_finished() { tokio::task::yield_now().await } } => break,
        }
        stopped += 1;
        tokio::time::advance(LEASE).await;
        assert!(!leadership.is_held());
        edit(&model, &["", "late"], 7);
        converge(&model).await;
        let before = but_events(&model);
        gate.open();
        old.await.unwrap();
        let now = but_events(&model);
        for (key, object) in &before {
            assert_eq!(now.get(key), Some(object), "stopped before write {after}");
        }
        assert!(now.len() <= before.len() + 1, "only the one write on its way may make something new");
        converge(&model).await;
        assert_same(&shape(&model), &wanted, &format!("stopped before write {after}"));
    }
    assert!(stopped >= 5, "only {stopped} writes were stopped");
}
