//! The node tree to the model.
//!
//! Names, types, bounds and defaults come from the table; what is written here is which key feeds which field, and the
//! rules between keys. Decoding never stops at an error: a part that is wrong becomes `None`, and everything beside it is
//! still looked at.

mod assigners;
mod authorization;
mod caches;
mod channels;
mod check;
mod connections;
mod decoder;
mod edges;
mod fields;
mod inline;
mod objects;
mod options;
mod pod;
mod rules;
mod scalars;
mod scheduler;
mod server;
mod services;
mod storages;

use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::model::ServerConfig;
use crate::yaml::{Child, Node};

pub(crate) use decoder::Decoder;
pub(crate) use fields::Fields;

/// Reads all the fields of a record before it gives up on any, so that one pass finds every error.
macro_rules! record {
    ($fields:ident => $name:ident { $($field:ident : $how:ident ( $($argument:expr),* )),* $(,)? }) => {{
        $(let $field = $fields.$how($($argument),*);)*
        Some($name { $($field: $field?),* })
    }};
}
pub(crate) use record;

/// The model of a document; `None` where it has an error, and then the diagnostics say which.
pub(crate) fn decode(root: &Arc<Node>, diagnostics: &mut Diagnostics) -> Option<ServerConfig> {
    let child = Child { mark: root.mark, node: Arc::clone(root) };
    let config = server::document(&child, &mut Decoder::new(diagnostics));
    config.filter(|_| !diagnostics.has_errors())
}
