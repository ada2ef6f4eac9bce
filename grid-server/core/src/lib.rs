//! The vocabulary of the grid: [`Digest`], [`InstanceName`], [`ErrorCode`], [`Clock`], [`ServedCall`].
//!
//! Every other crate depends on this one, and it depends on none of them. It refuses to know gRPC, SQL or
//! Kubernetes: what a value means on a wire or in a table is decided at the edge that owns that wire or table.

pub mod call;
pub mod clock;
pub mod digest;
pub mod digest_function;
pub mod error;
pub mod hasher;
pub mod instance;
pub mod trace;

pub use call::{CallEvent, CallObserver, ServedCall, Step, Stopwatch};
pub use clock::{Clock, SystemClock, Timestamp};
pub use digest::{Digest, DigestError};
pub use digest_function::DigestFunction;
pub use error::{Coded, ErrorCode, Violation};
pub use hasher::Hasher;
pub use instance::{CallInstance, InstanceName, InstanceNameError};
pub use trace::{CallTrace, TraceParent, TracedStage};
