//! What clients told of their requests, by value.

use grid_core::{ErrorCode, Timestamp};
use grid_scheduler::metadata::{MetadataField, Summary, SummaryQuery, ValuesQuery};
use grid_scheduler::operation::{Operation, RequestMetadata};
use grid_scheduler::transition;

use crate::{LATE, Stores, begin, insert, linux, on_all, operation, session};

on_all!(values_are_told_once_and_in_pages, operations_with_a_value_are_counted);

/// Three jobs, of which the first runs and the second is over, and who asked for them.
async fn told(stores: &Stores) -> Vec<Operation> {
    let (mut running, mut over, waiting) = (linux(1), linux(2), linux(3));
    (over.state.queued_at, running.state.queued_at) = (Timestamp(500), Timestamp(700));
    let jobs = [running.clone(), over.clone(), waiting.clone()];
    insert(stores, &jobs).await;
    transition::assign(&mut running, &session(4, "b", LATE), "", Timestamp(3_000)).unwrap();
    transition::fail(&mut over, ErrorCode::Cancelled, "x", Timestamp(9_000));
    let asked = |number, job, invocation: &str, target: &str, action: &str| Operation {
        metadata: RequestMetadata {
            tool_name: "Bazel".to_owned(),
            invocation_id: invocation.to_owned(),
            target_id: target.to_owned(),
            action_id: action.to_owned(),
            ..RequestMetadata::default()
        },
        ..operation(number, job)
    };
    let operations = vec![
        asked(11, &running, "One", "//a", "x"),
        asked(12, &over, "one-more", "//a", "y"),
        asked(13, &waiting, "One", "//a", "z"),
        asked(14, &waiting, "two", "", ""),
        Operation { instance: "other".to_owned(), ..asked(15, &waiting, "one-elsewhere", "//a", "") },
    ];
    let mut tx = begin(stores).await;
    tx.save_jobs(&[running, over]).await.unwrap();
    tx.insert_operations(&operations).await.unwrap();
    tx.commit().await.unwrap();
    operations
}

fn query(field: MetadataField, part: &str) -> ValuesQuery {
    ValuesQuery { instance: "main".to_owned(), field, part: part.to_owned(), skip: 0, limit: 10 }
}

async fn values_are_told_once_and_in_pages(stores: Stores) {
    told(&stores).await;
    let found = async |query: ValuesQuery| {
        let mut found = stores.other.metadata_values(&query).await.unwrap();
        // The order of small letters and large ones is the database's own.
        found.values.sort();
        (found.total, found.values)
    };
    let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
    let ids = MetadataField::InvocationId;
    assert_eq!(found(query(ids, "")).await, (3, values(&["One", "one-more", "two"])));
    assert_eq!(found(query(ids, "oNE")).await, (2, values(&["One", "one-more"])));
    assert_eq!(found(query(ids, "%")).await, (0, values(&[])), "a part is no pattern");
    let page = |skip| ValuesQuery { skip, limit: 2, ..query(MetadataField::InvocationId, "") };
    assert_eq!(found(page(2)).await, (3, values(&["two"])));
    assert_eq!(found(page(4)).await, (3, values(&[])), "past the end there are as many");
    assert_eq!(found(query(MetadataField::TargetId, "")).await, (1, values(&["//a"])), "none is no value");
    let elsewhere = ValuesQuery { instance: "other".to_owned(), ..query(ids, "") };
    assert_eq!(found(elsewhere).await, (1, values(&["one-elsewhere"])));
}

async fn operations_with_a_value_are_counted(stores: Stores) {
    let operations = told(&stores).await;
    let of = |field, value: &str| SummaryQuery {
        instance: "main".to_owned(),
        field,
        value: value.to_owned(),
        limit: 10,
    };
    let all = stores.store.metadata_summary(&of(MetadataField::ToolName, "Bazel")).await.unwrap();
    assert_eq!((all.queued, all.executing, all.completed), (2, 1, 1));
    assert_eq!((all.first_queued, all.last_completed), (Some(Timestamp(500)), Some(Timestamp(9_000))));
    assert_eq!(all.metadata.len(), 3, "actions alone make no difference");
    let one = stores.store.metadata_summary(&of(MetadataField::InvocationId, "One")).await.unwrap();
    let expected = RequestMetadata { action_id: String::new(), ..operations[0].metadata.clone() };
    assert_eq!(one.metadata, [expected]);
    assert_eq!((one.queued, one.executing, one.completed, one.last_completed), (1, 1, 0, None));
    let few = SummaryQuery { limit: 1, ..of(MetadataField::ToolName, "Bazel") };
    assert_eq!(stores.store.metadata_summary(&few).await.unwrap().metadata.len(), 1);
    for (field, value) in [
        (MetadataField::InvocationId, "one"),
        (MetadataField::TargetId, ""),
        (MetadataField::InvocationId, "one-elsewhere"),
    ] {
        let none = stores.store.metadata_summary(&of(field, value)).await.unwrap();
        assert_eq!(none, Summary::default(), "{value}");
    }
}
