//! Input trees: from a root digest to files on disk.
//!
//! [`listing`] checks what a `Directory` message says (pure), [`trees`] fetches and keeps them, [`layout`]
//! makes the directories, links and files. The module refuses to fetch file contents: `cache` has done that
//! when a tree is laid out.

pub mod layout;
pub mod listing;
pub mod trees;

pub use layout::lay_out;
pub use trees::{InputTree, Trees};
