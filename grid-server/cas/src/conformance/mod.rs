//! One conformance suite for every [`BlobStore`](crate::BlobStore): backends, decorators over them, and stores behind
//! gRPC. A crate that has a store to check enables the feature `conformance` in its dev-dependencies and writes
//!
//! ```ignore
//! grid_cas::blob_store_conformance!(lru, Subject::new(my_store()));
//! ```
//!
//! which makes one test of each rule. The rules know no backend; what only some stores promise is asked of
//! [`Subject`]'s fields. Beside the suite: [`faulty`], a store that fails when told to, and [`model`], a property test
//! against a map.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is its verdict"
)]

mod batches;
mod deletes;
pub mod faulty;
pub mod model;
mod reads;
mod subject;
mod writes;

pub use batches::*;
pub use deletes::*;
pub use reads::*;
pub use subject::{Subject, blob, blob_of, pieces};
pub use writes::*;

/// Makes a module of tests, one for each rule, on what the expression gives; it is evaluated (and may await) once a test.
#[macro_export]
macro_rules! blob_store_conformance {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;

            $crate::blob_store_conformance!(@each tests ($subject));
        }
    };
    (@each $kind:ident $subject:tt) => {
        $crate::blob_store_conformance! {
            @$kind $subject
            a_blob_comes_back_as_it_went_in,
            the_empty_blob_is_always_there,
            an_absent_blob_is_not_found,
            a_large_blob_streams_in_pieces,
            ranges_give_their_part,
            an_offset_past_the_end_is_out_of_range,
            digests_of_different_functions_never_meet,
            a_dropped_reader_harms_nobody,
            short_content_is_refused,
            long_content_is_refused,
            wrong_content_is_refused,
            a_sender_that_fails_leaves_nothing,
            a_cancelled_write_leaves_nothing,
            writing_again_succeeds,
            concurrent_writers_of_one_blob_all_succeed,
            a_failing_writer_does_not_harm_another,
            what_is_missing_comes_in_order_and_once,
            many_digests_are_answered_in_one_call,
            a_batch_answers_each_in_order,
            a_batch_write_fails_blob_by_blob,
            an_empty_batch_is_no_trouble,
            a_deleted_blob_is_gone_and_can_return,
            deleting_what_is_absent_succeeds,
            a_reader_survives_a_delete,
            the_store_answers_a_probe,
            random_calls_agree_with_a_map
        }
    };
    (@tests ($subject:expr) $($rule:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let subject = $subject;
                if subject.is_held_to(stringify!($rule)) {
                    $crate::conformance::$rule(&subject).await;
                }
            }
        )*
    };
    (@names () $($rule:ident),*) => { &[$(stringify!($rule)),*] };
}

/// The names of all rules.
pub const RULES: &[&str] = blob_store_conformance!(@each names ());

pub use model::random_calls_agree_with_a_map;

/// The store says that it answers.
pub async fn the_store_answers_a_probe(subject: &Subject) {
    subject.store.probe().await.unwrap();
}
