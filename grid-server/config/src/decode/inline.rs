//! Connections in their older form: the connection's keys among those of the object that uses it.

use std::sync::Arc;

use super::Fields;
use super::connections::check_scheme;
use crate::model::{Item, Place, RedisConnection, Shared, SqlConnection};
use crate::table::tagged;

/// What a connection string may start with: SQLAlchemy's spellings of the two databases.
pub(super) const DATABASE_SCHEMES: [&str; 5] =
    ["postgresql://", "postgresql+psycopg2://", "postgresql+psycopg://", "postgres://", "sqlite://"];

const POOL_KEYS: [&str; 7] = [
    "connection-timeout",
    "lock-timeout",
    "pool-size",
    "max-overflow",
    "pool-timeout",
    "pool-recycle",
    "automigrate",
];

/// The database of an object: `sql`, or `connection-string` and its companions, or neither.
#[allow(clippy::option_option, reason = "absent is not wrong")]
pub(super) fn sql(f: &mut Fields<'_, '_>) -> Option<Option<Shared<SqlConnection>>> {
    let named = f.opt::<Shared<SqlConnection>>("sql")?;
    let inline = f.has("connection-string");
    if named.is_some() || !inline {
        let why = if named.is_some() { "`sql` says it" } else { "the embedded database has no use for it" };
        if named.is_some() && inline {
            f.error_at(
                "connection-string",
                "`sql` and `connection-string` both name a database; keep one".to_owned(),
            );
        }
        for key in POOL_KEYS {
            if key != "automigrate" || named.is_some() {
                f.no_effect(key, why);
            }
        }
        return Some(named);
    }
    read_sql(f).map(Some)
}

fn read_sql(f: &mut Fields<'_, '_>) -> Option<Shared<SqlConnection>> {
    let section = tagged("sql-connection")?;
    let connection_string = f.req("connection-string");
    let connection_timeout = f.or_of(section, "connection-timeout");
    let lock_timeout = f.or_of(section, "lock-timeout");
    let pool_size = f.or_of(section, "pool-size");
    let max_overflow = f.or_of(section, "max-overflow");
    let pool_timeout = f.or_of(section, "pool-timeout");
    let pool_recycle = f.opt("pool-recycle");
    let automigrate = f.or_of(section, "automigrate");
    let connection = SqlConnection {
        connection_string: connection_string?,
        connection_timeout: connection_timeout?,
        lock_timeout: lock_timeout?,
        pool_size: pool_size?,
        max_overflow: max_overflow?,
        pool_timeout: pool_timeout?,
        pool_recycle: pool_recycle?,
        automigrate: automigrate?,
        name: "sql-provider".to_owned(),
    };
    check_scheme(f, &connection).then(|| Arc::new(Item { place: place(f), value: connection }))
}

/// The Redis connection of an object: `redis`, or `host` and its companions.
pub(super) fn redis(f: &mut Fields<'_, '_>) -> Option<Shared<RedisConnection>> {
    if !f.has("host") && !f.has("port") {
        for key in ["password", "db"] {
            f.no_effect(key, "`redis` says it");
        }
        return f.req("redis");
    }
    if f.has("redis") {
        f.error_at("host", "`redis` and `host` both name a server; keep one".to_owned());
        return None;
    }
    let section = tagged("redis-connection")?;
    let host = f.req("host");
    let port = f.req("port");
    let password = f.opt("password");
    let db = f.or_of(section, "db");
    let value = RedisConnection {
        host: host?,
        port: port?,
        password: password?,
        db: db?,
        sentinel_master: None,
        retries: 3,
        protocol: None,
    };
    Some(Arc::new(Item { place: place(f), value }))
}

fn place(f: &Fields<'_, '_>) -> Place {
    Place { path: f.decoder.path(), tag: f.section.name, anchor: None, mark: f.mark }
}
