//! [`Decoder`]: where we are in the document, and the objects made so far.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::diagnostics::{Diagnostics, Severity};
use crate::model::{
    ActionCache, Metering, RedisConnection, Scheduler, ServerService, Service, Shared, SqlConnection, Storage,
};
use crate::table::Ty;
use crate::yaml::{Child, Content, Mark, Node};

/// The objects of one kind by the node that they are written out in; `None` for one with an error.
pub(crate) type Memo<T> = HashMap<*const Node, Option<Shared<T>>>;

pub(crate) struct Decoder<'a> {
    diagnostics: &'a mut Diagnostics,
    path: Vec<Step>,
    pub(super) sql: Memo<SqlConnection>,
    pub(super) redis: Memo<RedisConnection>,
    pub(super) metering: Memo<Metering>,
    pub(super) storages: Memo<Storage>,
    pub(super) caches: Memo<ActionCache>,
    pub(super) schedulers: Memo<Scheduler>,
    pub(super) services: Memo<Service>,
    pub(super) server_services: Memo<ServerService>,
}

enum Step {
    Key(Box<str>),
    Index(usize),
}

/// A value that a node can be read as.
pub(crate) trait Decode: Sized {
    /// The value; `None` where the node is none such, and then that is reported.
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self>;
}

/// An object with a tag, which aliases share.
pub(crate) trait Tagged: Sized {
    const KIND: crate::table::Kind;

    fn memo<'d>(decoder: &'d mut Decoder<'_>) -> &'d mut Memo<Self>;

    fn read(tag: &str, fields: &mut super::Fields<'_, '_>) -> Option<Self>;

    /// An object of another kind that stands for one of this kind; `None` where this isn't one.
    fn stand_in(_child: &Child, _tag: &str, _decoder: &mut Decoder<'_>) -> Option<Option<Shared<Self>>> {
        None
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            diagnostics,
            path: Vec::new(),
            sql: Memo::new(),
            redis: Memo::new(),
            metering: Memo::new(),
            storages: Memo::new(),
            caches: Memo::new(),
            schedulers: Memo::new(),
            services: Memo::new(),
            server_services: Memo::new(),
        }
    }

    pub(super) fn path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            let _ = match step {
                Step::Key(key) if out.is_empty() => write!(out, "{key}"),
                Step::Key(key) => write!(out, ".{key}"),
                Step::Index(index) => write!(out, "[{index}]"),
            };
        }
        out
    }

    /// Does something one key further in.
    pub(super) fn at_key<T>(&mut self, key: &str, action: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Step::Key(key.into()));
        let result = action(self);
        self.path.pop();
        result
    }

    /// Does something one list element further in.
    pub(super) fn at_index<T>(&mut self, index: usize, action: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Step::Index(index));
        let result = action(self);
        self.path.pop();
        result
    }

    pub(super) fn error(&mut self, mark: Mark, message: String) {
        self.report(Severity::Error, mark, message);
    }

    pub(super) fn report(&mut self, severity: Severity, mark: Mark, message: String) {
        let path = self.path();
        self.diagnostics.push(severity, mark, &path, message);
    }

    /// Says that a value was expected and something else is there.
    pub(super) fn expected(&mut self, child: &Child, what: &str) {
        let message = format!("expected {what}, found {}", child.node.describe());
        self.error(child.mark, message);
    }

    /// Says that the table and the decoder disagree, which no document can be blamed for.
    pub(super) fn defect(&mut self, child: &Child, what: &str) {
        self.error(
            child.mark,
            format!("a defect of grid-server: its table doesn't say {what} here; please report it"),
        );
    }
}

/// The elements of a list that could be read; those that couldn't were reported.
pub(super) struct Sound<T>(pub(super) Vec<T>);

impl<T: Decode> Decode for Sound<T> {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        elements(child, ty, decoder).map(|elements| Self(elements.into_iter().flatten().collect()))
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        elements(child, ty, decoder)?.into_iter().collect()
    }
}

fn elements<T: Decode>(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Vec<Option<T>>> {
    let Ty::List(item) = ty else {
        decoder.defect(child, "a list");
        return None;
    };
    let Content::List(children) = &child.node.content else {
        decoder.expected(child, "a list");
        return None;
    };
    let decode = |(index, child): (usize, &Child), decoder: &mut Decoder<'_>| {
        decoder.at_index(index, |decoder| T::decode(child, *item, decoder))
    };
    Some(children.iter().enumerate().map(|entry| decode(entry, decoder)).collect())
}

impl<T: Tagged> Decode for Shared<T> {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        super::objects::shared(child, decoder)
    }
}

/// The address that tells one written-out node from another.
pub(super) fn identity(child: &Child) -> *const Node {
    Arc::as_ptr(&child.node)
}
