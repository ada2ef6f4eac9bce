//! QueueStore on PostgreSQL and SQLite.
