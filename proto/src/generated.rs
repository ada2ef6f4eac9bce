//! The module tree that build.rs writes, one module a protobuf package.
//!
//! Not public: the crate's root gives each package its one stable path.

// Field comments exist only where a name and its type leave a question open.
#![allow(missing_docs)]
// The generators' style is theirs.
#![allow(clippy::all, clippy::pedantic, unused_qualifications, unreachable_pub)]

include!(concat!(env!("OUT_DIR"), "/modules.rs"));
