//! The one place where a failure becomes a gRPC status.
//!
//! Every error of the core crates implements [`Coded`]; here its code, text and details take the form that
//! clients read: `google.rpc.PreconditionFailure` for what must be supplied first (REAPI, `Execute`),
//! `BadRequest` for fields, `QuotaFailure` for limits, `RetryInfo` where trying again can help. No other file
//! builds a status.

use bytes::Bytes;
use grid_core::{Coded, ErrorCode, Violation};
use grid_proto::any;
use grid_proto::rpc::bad_request::FieldViolation;
use grid_proto::rpc::{BadRequest, PreconditionFailure, QuotaFailure, RetryInfo};
use grid_proto::rpc::{precondition_failure, quota_failure};
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

/// The gRPC code of a kind of failure.
#[must_use]
pub const fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::FailedPrecondition => Code::FailedPrecondition,
        ErrorCode::Aborted => Code::Aborted,
        ErrorCode::OutOfRange => Code::OutOfRange,
        ErrorCode::Unimplemented => Code::Unimplemented,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::DataLoss => Code::DataLoss,
        ErrorCode::Internal => Code::Internal,
    }
}

/// The kind of failure that a status tells of, where it does.
pub(crate) fn code_of(status: &Status) -> Option<ErrorCode> {
    use ErrorCode as E;
    let known = [
        E::InvalidArgument,
        E::NotFound,
        E::AlreadyExists,
        E::PermissionDenied,
        E::Unauthenticated,
        E::ResourceExhausted,
        E::FailedPrecondition,
        E::Aborted,
        E::OutOfRange,
        E::Unimplemented,
        E::Unavailable,
        E::DeadlineExceeded,
        E::Cancelled,
        E::DataLoss,
    ];
    let told = known.into_iter().find(|code| grpc_code(*code) == status.code());
    told.or_else(|| (status.code() != Code::Ok).then_some(E::Internal))
}

/// The status of a failed call. An error that only an operator can mend is logged here, once.
#[must_use]
pub fn to_status<E: Coded + ?Sized>(error: &E) -> Status {
    log(error);
    let rpc = status_message(error);
    let code = grpc_code(error.code());
    if rpc.details.is_empty() {
        return Status::new(code, rpc.message);
    }
    let details = Bytes::from(rpc.encode_to_vec());
    Status::with_details(code, rpc.message, details)
}

/// As [`to_status`], for `map_err`.
#[allow(clippy::needless_pass_by_value, reason = "map_err passes its error by value")]
#[must_use]
pub fn status<E: Coded>(error: E) -> Status {
    to_status(&error)
}

/// The status of one item of a batch, as answers carry it.
#[must_use]
pub fn to_rpc_status<E: Coded + ?Sized>(error: &E) -> grid_proto::rpc::Status {
    log(error);
    status_message(error)
}

/// The status of an item of a batch that went well.
#[must_use]
pub fn ok_status() -> grid_proto::rpc::Status {
    grid_proto::rpc::Status::default()
}

fn status_message<E: Coded + ?Sized>(error: &E) -> grid_proto::rpc::Status {
    let code = grpc_code(error.code());
    grid_proto::rpc::Status { code: code as i32, message: error.client_message(), details: details(error) }
}

fn log<E: Coded + ?Sized>(error: &E) {
    match error.code() {
        ErrorCode::Internal | ErrorCode::DataLoss => tracing::error!(%error, "call failed"),
        ErrorCode::Unavailable | ErrorCode::ResourceExhausted => tracing::warn!(%error, "call refused"),
        _ => tracing::debug!(%error, "call refused"),
    }
}

fn details<E: Coded + ?Sized>(error: &E) -> Vec<Any> {
    let mut details = Vec::new();
    let violations = error.violations();
    if !violations.is_empty() {
        match error.code() {
            ErrorCode::FailedPrecondition => details.push(any::pack(&precondition_failure(violations))),
            ErrorCode::InvalidArgument => details.push(any::pack(&bad_request(violations))),
            ErrorCode::ResourceExhausted => details.push(any::pack(&quota_failure(violations))),
            _ => {}
        }
    }
    if let Some(delay) = error.retry_after() {
        let retry_delay = prost_types::Duration::try_from(delay).ok();
        details.push(any::pack(&RetryInfo { retry_delay }));
    }
    details
}

fn precondition_failure(violations: Vec<Violation>) -> PreconditionFailure {
    let violation = |v: Violation| precondition_failure::Violation {
        r#type: v.kind,
        subject: v.subject,
        description: v.description,
    };
    PreconditionFailure { violations: violations.into_iter().map(violation).collect() }
}

fn bad_request(violations: Vec<Violation>) -> BadRequest {
    let violation = |v: Violation| FieldViolation {
        field: v.subject,
        description: v.description,
        ..FieldViolation::default()
    };
    BadRequest { field_violations: violations.into_iter().map(violation).collect() }
}

fn quota_failure(violations: Vec<Violation>) -> QuotaFailure {
    let violation = |v: Violation| quota_failure::Violation {
        subject: v.subject,
        description: v.description,
        ..quota_failure::Violation::default()
    };
    QuotaFailure { violations: violations.into_iter().map(violation).collect() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grid_cache::CacheError;
    use grid_cas::StoreError;
    use grid_core::{Digest, DigestError, DigestFunction, InstanceName};
    use grid_scheduler::SchedulerError;
    use grid_scheduler::ids::{OperationId, SessionId};
    use grid_streams::StreamsError;

    use super::*;
    use crate::RpcError;

    fn decode(status: &Status) -> grid_proto::rpc::Status {
        grid_proto::rpc::Status::decode(status.details()).unwrap()
    }

    #[test]
    fn missing_inputs_carry_what_makes_clients_upload_again() {
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        let violations = vec![grid_cas::error::missing(&digest)];
        let status = to_status(&RpcError::Missing { message: "no input".into(), violations });
        assert_eq!(status.code(), Code::FailedPrecondition);
        let inner = decode(&status);
        let failure: PreconditionFailure = any::unpack(&inner.details[0]).unwrap();
        assert_eq!(failure.violations[0].r#type, "MISSING");
        assert_eq!(failure.violations[0].subject, format!("blobs/{}/1", digest.hash_hex()));
        assert_eq!(inner.code, Code::FailedPrecondition as i32);
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = to_status(&RpcError::field("page_size", "is negative"));
        let request: BadRequest = any::unpack(&decode(&status).details[0]).unwrap();
        assert_eq!(request.field_violations[0].field, "page_size");
        assert_eq!(status.code(), Code::InvalidArgument);
    }

    #[test]
    fn trouble_of_a_backend_tells_when_to_retry_and_hides_the_backend() {
        let error = StoreError::Unavailable {
            backend: "s3 (https://internal.example)".into(),
            message: "refused".into(),
            retry_after: Some(Duration::from_secs(7)),
        };
        let status = to_status(&error);
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!status.message().contains("internal.example"));
        let retry: RetryInfo = any::unpack(&decode(&status).details[0]).unwrap();
        assert_eq!(retry.retry_delay.unwrap().seconds, 7);
    }

    #[test]
    fn a_limit_carries_whose_it_is() {
        let error = RpcError::Limit {
            message: "100 streams at most".into(),
            subject: "subject:ci".into(),
            retry_after: None,
        };
        let failure: QuotaFailure = any::unpack(&decode(&to_status(&error)).details[0]).unwrap();
        assert_eq!(failure.violations[0].subject, "subject:ci");
    }

    fn of_storage() -> Vec<StoreError> {
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        let (backend, message) = (|| "b".into(), || "m".to_owned());
        vec![
            StoreError::NotFound(digest),
            StoreError::DigestMismatch { expected: digest, actual: digest },
            StoreError::SizeMismatch { expected: digest, actual: 2 },
            StoreError::OutOfRange { digest, offset: 2 },
            StoreError::TooLarge { digest, limit: 0, backend: backend() },
            StoreError::ReadOnly,
            StoreError::Interrupted("i".into()),
            StoreError::Malformed("m".into()),
            StoreError::Unavailable { backend: backend(), message: message(), retry_after: None },
            StoreError::Refused { backend: backend(), message: message() },
            StoreError::Full { backend: backend(), message: message() },
            StoreError::Corrupt { digest, backend: backend() },
            StoreError::Internal { backend: backend(), message: message() },
        ]
    }

    fn of_streams() -> Vec<StreamsError> {
        vec![
            StreamsError::NotFound("s".into()),
            StreamsError::Exists("s".into()),
            StreamsError::WrongToken("s".into()),
            StreamsError::Offset { given: 1, committed: 0 },
            StreamsError::Finished("s".into()),
            StreamsError::Full { name: "s".into(), limit: 1 },
            StreamsError::TooMany("too many".into()),
            StreamsError::Pattern("no pattern".into()),
        ]
    }

    fn of_the_scheduler() -> Vec<SchedulerError> {
        let text = || "t".to_owned();
        let (session, job) = (SessionId(uuid::Uuid::nil()), grid_scheduler::ids::JobId(uuid::Uuid::nil()));
        vec![
            SchedulerError::OperationNotFound(OperationId(uuid::Uuid::nil())),
            SchedulerError::SessionNotFound(session),
            SchedulerError::SessionMismatch { session, bot_id: text() },
            SchedulerError::Invalid { field: text(), message: text() },
            SchedulerError::InvalidFields(vec![(text(), text())]),
            SchedulerError::Taken(text()),
            SchedulerError::Stale(text()),
            SchedulerError::NotFound(text()),
            SchedulerError::Unsatisfiable { message: text(), property: text() },
            SchedulerError::QueueFull { label: text(), limit: 1 },
            SchedulerError::Unavailable(text()),
            SchedulerError::Conflict(text()),
            SchedulerError::Corrupt { job, message: text() },
            SchedulerError::Schema(text()),
            SchedulerError::Stopped,
            SchedulerError::Internal(text()),
        ]
    }

    fn of_requests() -> Vec<RpcError> {
        let text = || "t".to_owned();
        vec![
            RpcError::field("f", "p"),
            RpcError::Digest { field: "f", source: DigestError::Form(text()) },
            RpcError::InstanceName(InstanceName::new("a//b").unwrap_err()),
            RpcError::UnknownInstance { name: text(), service: "S" },
            RpcError::NotFound(text()),
            RpcError::AlreadyExists(text()),
            RpcError::Precondition(text()),
            RpcError::OutOfRange(text()),
            RpcError::Limit { message: text(), subject: text(), retry_after: None },
            RpcError::PermissionDenied(text()),
            RpcError::Unauthenticated(text()),
            RpcError::Unimplemented(text()),
            RpcError::Cancelled(text()),
            RpcError::Unavailable(text()),
            RpcError::Deadline(text()),
            RpcError::DataLoss(text()),
            RpcError::Internal(text()),
        ]
    }

    /// What clients act upon stands in the details: which field, whose limit, when to come again.
    #[test]
    fn refusals_carry_the_details_of_their_code() {
        let mut errors: Vec<Box<dyn Coded>> = Vec::new();
        errors.extend(of_storage().into_iter().map(|error| Box::new(error) as _));
        errors.extend(of_storage().into_iter().map(|error| Box::new(CacheError::from(error)) as _));
        errors.extend(of_streams().into_iter().map(|error| Box::new(error) as _));
        errors.extend(of_the_scheduler().into_iter().map(|error| Box::new(error) as _));
        errors.extend(of_requests().into_iter().map(|error| Box::new(error) as _));
        for error in errors {
            let status = to_status(&*error);
            let details = if status.details().is_empty() { Vec::new() } else { decode(&status).details };
            let has = |name: &str| details.iter().any(|detail| detail.type_url.ends_with(name));
            assert_eq!(has("/google.rpc.BadRequest"), status.code() == Code::InvalidArgument, "{error:?}");
            assert_eq!(
                has("/google.rpc.QuotaFailure"),
                status.code() == Code::ResourceExhausted,
                "{error:?}"
            );
            assert!(has("/google.rpc.RetryInfo") || status.code() != Code::Unavailable, "{error:?}");
        }
    }

    #[test]
    fn our_own_defects_tell_clients_nothing() {
        let status = to_status(&RpcError::Internal("secret detail".into()));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
    }
}
