//! The YAML that grid-server reads, with BuildGrid's tags, anchors and aliases.
//!
//! `yaml` writes it, `storage` turns a CasStorage's list of storages into it, `connections` what both storages and caches
//! of results open. Which services a server has is
//! decided in `buildgrid` and `casstorage`.

pub(crate) mod connections;
pub(crate) mod storage;
pub(crate) mod yaml;
