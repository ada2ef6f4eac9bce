//! `Capabilities.GetCapabilities`.

use grid_core::DigestFunction;
use grid_proto::reapi::{GetCapabilitiesRequest, ServerCapabilities, compressor::Value as Compressor};
use tonic::Code;

use crate::grid::{Grid, MAIN, READ_ONLY, TIGHT, TIGHT_BATCH, TIGHT_BLOB, UNNAMED, refused};
use crate::rule::{Rule, accepts, refuses};

async fn get(grid: &Grid, instance: &str) -> ServerCapabilities {
    let request = GetCapabilitiesRequest { instance_name: instance.into() };
    grid.capabilities().get_capabilities(request).await.unwrap().into_inner()
}

pub(crate) fn rules() -> Vec<Rule> {
    const SOURCE: &str = "REAPI Capabilities";
    vec![
        accepts(SOURCE, "the API versions are 2.0 to 2.13", |grid| async move {
            let answer = get(&grid, MAIN).await;
            let (low, high) = (answer.low_api_version.unwrap(), answer.high_api_version.unwrap());
            assert_eq!((low.major, low.minor, high.major, high.minor), (2, 0, 2, 13));
        }),
        accepts(SOURCE, "every digest function that the instance takes is advertised", |grid| async move {
            let functions = get(&grid, MAIN).await.cache_capabilities.unwrap().digest_functions;
            assert_eq!(functions, DigestFunction::ALL.map(DigestFunction::to_wire));
            let functions = get(&grid, TIGHT).await.cache_capabilities.unwrap().digest_functions;
            assert_eq!(functions, [DigestFunction::Sha256.to_wire()]);
        }),
        accepts(SOURCE, "zstd is advertised for streams and for batches", |grid| async move {
            let cache = get(&grid, MAIN).await.cache_capabilities.unwrap();
            assert_eq!(cache.supported_compressors, [Compressor::Zstd as i32]);
            assert_eq!(cache.supported_batch_update_compressors, [Compressor::Zstd as i32]);
        }),
        accepts(SOURCE, "limits are those of the instance", |grid| async move {
            let cache = get(&grid, TIGHT).await.cache_capabilities.unwrap();
            assert_eq!(cache.max_batch_total_size_bytes, TIGHT_BATCH as i64);
            assert_eq!(cache.max_cas_blob_size_bytes, TIGHT_BLOB as i64);
            let cache = get(&grid, MAIN).await.cache_capabilities.unwrap();
            assert!((1 << 20..4 << 20).contains(&cache.max_batch_total_size_bytes));
            assert_eq!(cache.max_cas_blob_size_bytes, 0);
        }),
        accepts(SOURCE, "chunking is advertised where it is done, with its parameters", |grid| async move {
            let cache = get(&grid, MAIN).await.cache_capabilities.unwrap();
            assert!(cache.split_blob_support && cache.splice_blob_support);
            assert_eq!(cache.fast_cdc_2020_params.unwrap().avg_chunk_size_bytes, 16 << 10);
            let cache = get(&grid, TIGHT).await.cache_capabilities.unwrap();
            assert!(!cache.split_blob_support && cache.fast_cdc_2020_params.is_none());
        }),
        accepts(SOURCE, "updates of the action cache are advertised truly", |grid| async move {
            for (instance, expected) in [(MAIN, true), (READ_ONLY, false)] {
                let cache = get(&grid, instance).await.cache_capabilities.unwrap();
                assert_eq!(cache.action_cache_update_capabilities.unwrap().update_enabled, expected);
            }
        }),
        accepts(
            "REAPI PriorityCapabilities",
            "a range of cache priorities is advertised",
            |grid| async move {
                let cache = get(&grid, MAIN).await.cache_capabilities.unwrap();
                let range = &cache.cache_priority_capabilities.unwrap().priorities[0];
                assert!(range.min_priority <= -100 && range.max_priority >= 100);
            },
        ),
        accepts(
            "REAPI ExecutionCapabilities",
            "execution is advertised with priorities and functions",
            |grid| async move {
                let execution = get(&grid, MAIN).await.execution_capabilities.unwrap();
                assert!(execution.exec_enabled);
                assert_eq!(execution.digest_function, DigestFunction::Sha256.to_wire());
                assert_eq!(execution.digest_functions.len(), DigestFunction::ALL.len());
                let range = &execution.execution_priority_capabilities.unwrap().priorities[0];
                assert_eq!((range.min_priority, range.max_priority), (-100, 100));
            },
        ),
        refuses(SOURCE, "an instance without execution advertises none", |grid| async move {
            assert!(get(&grid, TIGHT).await.execution_capabilities.is_none());
        }),
        accepts(SOURCE, "the unnamed instance is an instance", |grid| async move {
            assert!(get(&grid, UNNAMED).await.cache_capabilities.is_some());
        }),
        refuses(SOURCE, "an instance that does not exist is refused", |grid| async move {
            for name in ["nope", "main/", "main/x", "MAIN"] {
                let request = GetCapabilitiesRequest { instance_name: name.into() };
                let status =
                    refused(grid.capabilities().get_capabilities(request).await, Code::InvalidArgument);
                assert!(status.message().contains(name), "{status:?}");
                assert!(!status.message().contains(TIGHT), "other instances stay hidden");
            }
        }),
    ]
}
