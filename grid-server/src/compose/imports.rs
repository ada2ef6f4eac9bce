//! What a configuration has that BuildGrid may have kept before: indexes and storages in PostgreSQL.

use std::collections::HashSet;
use std::sync::Arc;

use grid_cas::SharedStore;
use grid_cas::buildgrid::BuildGrid;
use grid_cas::sql::SqlPool;
use grid_config::ServerConfig;
use grid_config::model::{Place, Storage};
use grid_core::InstanceName;
use grid_telemetry::Metrics;
use sqlx::PgPool;

use super::databases::pool;
use super::indexes::leaves;
use super::{ComposeError, Composer};

/// One thing that can be taken over.
pub(crate) struct Import {
    /// Where it is.
    pub(crate) place: Place,
    /// The storage, or the index with what is behind it.
    pub(crate) store: SharedStore,
    /// What it is taken over from.
    pub(crate) source: Source,
}

/// What of BuildGrid's something is taken over from.
pub(crate) enum Source {
    /// The table of `!sql-storage`.
    Blobs(PgPool),
    /// Those of `!sql-index`.
    Index(BuildGrid),
}

/// Everything in a configuration that can be taken over: storages, then the indexes over them. Databases are brought to this
/// version's schema where `migrates` says so. Must be called within a runtime.
pub(crate) async fn imports(config: &ServerConfig, migrates: bool) -> Result<Vec<Import>, ComposeError> {
    let composer = Composer::new(config, &Metrics::default(), None);
    let mut composer = Composer { beside: true, migrates, ..composer };
    let mut imports = composer.sql_storages().await?;
    for found in composer.all_indexed().await? {
        let Some(buildgrid) = found.buildgrid else { continue };
        let source = Source::Index(buildgrid);
        imports.push(Import { place: found.place, store: found.store, source });
    }
    Ok(imports)
}

impl Composer<'_> {
    /// The storages in PostgreSQL.
    async fn sql_storages(&mut self) -> Result<Vec<Import>, ComposeError> {
        let config = self.config;
        let cleaned = config.cleanup.iter().map(|cleanup| &cleanup.index);
        let (mut imports, mut seen) = (Vec::new(), HashSet::new());
        for leaf in config.storages.iter().chain(cleaned).flat_map(leaves) {
            let Storage::Sql(sql) = &leaf.value else { continue };
            if !seen.insert(Arc::as_ptr(leaf)) {
                continue;
            }
            let SqlPool::Postgres(pool) = pool(self.sql(&sql.sql).await?) else { continue };
            let store = self.storage(leaf, &InstanceName::default()).await?;
            imports.push(Import { place: leaf.place.clone(), store, source: Source::Blobs(pool) });
        }
        Ok(imports)
    }
}
