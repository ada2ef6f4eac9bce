//! [`ListQuery`]: which operations to list, in which order, from where. The text form of its filter is parsed
//! in [`parse`].

mod parse;

pub use parse::{FIELDS, FilterError, STAGES, parse};

use crate::job::Stage;

/// What an operation can be filtered and sorted by (BuildGrid's `ListOperations` grammar).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the grammar's parameter of the same name")]
pub enum Field {
    Name,
    Stage,
    Command,
    Platform,
    ActionDigest,
    InvocationId,
    CorrelatedInvocationsId,
    ToolName,
    ToolVersion,
    ActionMnemonic,
    TargetId,
    ConfigurationId,
    QueuedTime,
    StartTime,
    CompletedTime,
    ClientWorkflow,
    ClientActor,
    ClientSubject,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the comparisons' own names")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, compared byte by byte.
    Text(String),
    /// A number: a stage's, or a time in microseconds since the Unix epoch.
    Number(i64),
    /// A platform property.
    Property {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
}

/// One condition; an operation listed meets all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: Value,
}

/// One key of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The field; never `Platform`.
    pub field: Field,
    /// Greatest first.
    pub descending: bool,
}

/// A parsed filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// All of these hold.
    pub conditions: Vec<Condition>,
    /// The order; ties are broken by name.
    pub order: Vec<SortKey>,
}

impl Default for Filter {
    /// Operations that are not over, oldest first.
    fn default() -> Self {
        let condition = Condition {
            field: Field::Stage,
            comparison: Comparison::NotEqual,
            value: Value::Number(Stage::Completed.number().into()),
        };
        Self {
            conditions: vec![condition],
            order: vec![SortKey { field: Field::QueuedTime, descending: false }],
        }
    }
}

/// A page of operations to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// The instance whose operations are listed.
    pub instance: String,
    /// Which of them, in which order.
    pub filter: Filter,
    /// The sort keys of the last row of the page before, its name last; empty for the first page.
    pub after: Vec<Value>,
    /// How many at most.
    pub limit: u32,
}
