//! Messages, clients and servers of every protocol that the grid speaks, generated at build time
//! from the `.proto` files beside this crate's sources, which follow the published specifications
//! number by number.
//!
//! Each protocol has one stable path here; nothing else should name the generated module tree.
//! The crate holds no behaviour: parsing, validation and error mapping belong to `grid-rpc`, and
//! the storage and scheduling cores never see these types.

pub mod any;
pub mod directories;
mod generated;

#[doc(inline)]
pub use generated::build::bazel::remote::asset::v1 as asset;
#[doc(inline)]
pub use generated::build::bazel::remote::execution::v2 as reapi;
#[doc(inline)]
pub use generated::build::bazel::remote::logstream::v1 as logstream;
#[doc(inline)]
pub use generated::build::bazel::semver;
#[doc(inline)]
pub use generated::build::{buildbox, buildgrid};
#[doc(inline)]
pub use generated::buildbarn::{resourceusage, runner};
#[doc(inline)]
pub use generated::externalscaler;
#[doc(inline)]
pub use generated::google::devtools::build::v1 as buildevents;
#[doc(inline)]
pub use generated::google::devtools::remoteworkers::v1test2 as rwapi;
#[doc(inline)]
pub use generated::google::{bytestream, longrunning, rpc};
#[doc(inline)]
pub use generated::grid::fleet::v1alpha1 as fleet;

/// All files of this crate and what they import, as a serialized `google.protobuf.FileDescriptorSet`
/// for server reflection. Comments are left out.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
