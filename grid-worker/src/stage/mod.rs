//! Input trees: from a root digest to files on disk.
//!
//! [`listing`] checks what a `Directory` message says (pure), [`trees`] fetches and keeps them, [`layout`]
//! makes the directories, links and files, [`spare`] keeps what was laid out for the next action. The module
//! refuses to fetch file contents: `cache` has done that when a tree is laid out.

mod entries;
mod laid;
pub mod layout;
pub mod listing;
pub mod spare;
pub mod trees;

pub use laid::Layout;
pub use layout::lay_out;
pub use spare::{SpareTree, SpareTrees};
pub use trees::{InputTree, Trees};
