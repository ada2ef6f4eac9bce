//! What KEDA is told of a pool that a ScaledObject scales.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use grid_operator_controllers::fleet::Scaler;
use grid_proto::externalscaler::external_scaler_server::ExternalScaler;
use grid_proto::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use tonic::{Code, Request};

use crate::scaling::World;

/// A ScaledObject of that namespace whose trigger says this.
fn object(namespace: &str, trigger: &[(&str, &str)]) -> ScaledObjectRef {
    let scaler_metadata: HashMap<String, String> =
        trigger.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ScaledObjectRef { name: "gcc".to_owned(), namespace: namespace.to_owned(), scaler_metadata }
}

const TRIGGER: [(&str, &str); 2] = [("grid", "demo"), ("pool", "gcc")];

async fn metric(scaler: &Scaler, object: ScaledObjectRef) -> Result<i64, Code> {
    let request = GetMetricsRequest { scaled_object_ref: Some(object), ..GetMetricsRequest::default() };
    let answer = scaler.get_metrics(Request::new(request)).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().metric_values[0].metric_value)
}

#[tokio::test]
async fn the_demand_of_a_pool_is_told_and_when_it_begins_and_ends() {
    let mut world = World::new();
    world.pass().await;
    world.grid.needs(0);
    world.heard().await;
    let scaler = Scaler::new(Arc::clone(&world.context.fleets));
    let own = || object("default", &TRIGGER);
    let spec = scaler.get_metric_spec(Request::new(own())).await.unwrap().into_inner();
    assert_eq!(spec.metric_specs[0].target_size, 2, "slots of one worker");
    let mut activity = scaler.stream_is_active(Request::new(own())).await.unwrap().into_inner();
    assert!(!activity.next().await.unwrap().unwrap().result);
    for (slots, is_active) in [(8, true), (0, false)] {
        world.grid.needs(slots);
        while activity.next().await.unwrap().unwrap().result != is_active {}
        assert_eq!(metric(&scaler, own()).await, Ok(i64::try_from(slots).unwrap()));
        let now = scaler.is_active(Request::new(own())).await.unwrap().into_inner();
        assert_eq!(now.result, is_active);
    }
}

/// KEDA holds what it has where it gets no answer.
#[tokio::test]
async fn nothing_is_made_up_of_pools_that_are_not_known_or_of_another_namespace() {
    let mut world = World::new();
    world.pass().await;
    let scaler = Scaler::new(Arc::clone(&world.context.fleets));
    assert_eq!(
        metric(&scaler, object("default", &TRIGGER)).await,
        Err(Code::Unavailable),
        "nothing was heard yet"
    );
    world.grid.needs(8);
    world.heard().await;
    assert_eq!(metric(&scaler, object("default", &TRIGGER)).await, Ok(8));
    assert_eq!(metric(&scaler, object("other", &TRIGGER)).await, Err(Code::Unavailable));
    assert_eq!(metric(&scaler, object("default", &TRIGGER[..1])).await, Err(Code::InvalidArgument));
    let unknown = scaler.get_metric_spec(Request::new(object("other", &TRIGGER))).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}
