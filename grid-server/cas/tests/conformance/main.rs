//! The matrix: every backend and every decorator over each sensible backend, against every rule of the suite.

use std::sync::Arc;

use grid_cas::conformance::Subject;
use grid_cas::{SharedStore, blob_store_conformance};

mod lru;

/// Room enough that nothing is evicted unless a test wants it.
const ROOM: u64 = 1 << 30;

fn lru(size: u64) -> SharedStore {
    Arc::new(grid_cas::backends::lru::Lru::new(grid_cas::backends::lru::LruOptions {
        size,
        name: "lru".into(),
    }))
}

fn verified(store: SharedStore) -> SharedStore {
    Arc::new(grid_cas::decorators::verify::Verify::new(store))
}

blob_store_conformance!(lru_storage, Subject::new(lru(ROOM)));
blob_store_conformance!(verify_over_lru, Subject::new(verified(lru(ROOM))).verifying());
