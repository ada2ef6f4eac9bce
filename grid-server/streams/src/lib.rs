//! Uploads, log streams, build events and assets: durable, shared by replicas.
