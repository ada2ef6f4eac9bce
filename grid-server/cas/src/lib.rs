//! BlobStore, its backends and decorators.
