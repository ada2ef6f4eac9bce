//! [`Fault`]: what an S3 service's answer means to us. The codes are those of the S3 API's list of error responses.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::StoreError;

/// Why a request was not done.
#[derive(Clone, Debug)]
pub enum Fault {
    /// There is no such object, version or upload.
    Absent,
    /// There is one already (answer to a conditional write).
    Exists,
    /// Trouble.
    Store(StoreError),
}

impl Fault {
    /// The error where neither absence nor presence makes sense as an answer.
    #[must_use]
    pub fn into_store_error(self, name: &Arc<str>) -> StoreError {
        let unexpected =
            |message: &str| StoreError::Internal { backend: Arc::clone(name), message: message.into() };
        match self {
            Self::Store(error) => error,
            Self::Absent => unexpected("the service says that something does not exist which it just had"),
            Self::Exists => unexpected("the service says that something exists, and was not asked"),
        }
    }
}

/// What a failed request means.
pub(super) fn meaning<E>(name: &Arc<str>, error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let backend = Arc::clone(name);
    match error {
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let retry_after = raw.headers().get("retry-after").and_then(|value| value.parse().ok());
            let status = Some(raw.status().as_u16());
            of_code(name, status, error.code(), error.message(), retry_after.map(Duration::from_secs))
        }
        // Credentials that can't be had, a request that can't be built.
        SdkError::ConstructionFailure(_) => {
            Fault::Store(StoreError::Refused { backend, message: chain(error) })
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            Fault::Store(StoreError::Refused { backend, message: chain(error) })
        }
        _ => Fault::Store(StoreError::Unavailable { backend, message: chain(error), retry_after: None }),
    }
}

/// What a code means, by itself (in batches) or with the status of its answer.
pub(super) fn of_code(
    name: &Arc<str>,
    status: Option<u16>,
    code: Option<&str>,
    message: Option<&str>,
    retry_after: Option<Duration>,
) -> Fault {
    let backend = Arc::clone(name);
    let said = match (code, status) {
        (Some(code), _) => format!("{code}: {}", message.unwrap_or("no message")),
        (None, Some(status)) => format!("HTTP status {status}"),
        (None, None) => "an error without a code".to_owned(),
    };
    let refused = |hint: &str| StoreError::Refused {
        backend: Arc::clone(name),
        message: if hint.is_empty() { said.clone() } else { format!("{said}; {hint}") },
    };
    let error = match (code.unwrap_or_default(), status.unwrap_or_default()) {
        ("NoSuchKey" | "NoSuchVersion" | "NoSuchUpload", _) => return Fault::Absent,
        // Two at once, and it is not said which of them won, or whether one did.
        ("ConditionalRequestConflict" | "OperationAborted", _) => {
            StoreError::Unavailable { backend, message: said, retry_after }
        }
        ("PreconditionFailed", _) | (_, 412) => return Fault::Exists,
        ("NoSuchBucket", _) => refused("create the bucket or correct `bucket`"),
        ("RequestTimeTooSkewed", _) => refused("set this machine's clock"),
        ("XMinioStorageFull" | "QuotaExceeded" | "QuotaExceededException", _) | (_, 507) => {
            StoreError::Full { backend, message: said }
        }
        ("SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" | "Throttling", _)
        | (_, 408 | 429 | 500 | 502..=504 | 506..) => {
            StoreError::Unavailable { backend, message: said, retry_after }
        }
        (_, 404) => return Fault::Absent,
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) | (_, 401) => {
            refused("correct `access-key` and `secret-key`")
        }
        ("AccessDenied", _) | (_, 403) => {
            refused("allow these keys to list, get, put and delete the bucket's objects")
        }
        _ => refused(""),
    };
    Fault::Store(error)
}

/// An error and its causes, as each puts itself: never in debugging form, which shows requests.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use grid_core::{Coded, ErrorCode};

    use super::*;

    fn code(status: u16, code: Option<&str>) -> Option<ErrorCode> {
        match of_code(&"s3".into(), Some(status), code, None, None) {
            Fault::Store(error) => Some(error.code()),
            Fault::Absent | Fault::Exists => None,
        }
    }

    #[test]
    fn a_retry_is_offered_exactly_where_it_can_help() {
        for (status, name) in [(503, Some("SlowDown")), (500, None), (429, None), (408, None), (502, None)] {
            assert_eq!(code(status, name), Some(ErrorCode::Unavailable), "{status} {name:?}");
        }
        for (status, name) in
            [(403, None), (403, Some("InvalidAccessKeyId")), (404, Some("NoSuchBucket")), (400, None)]
        {
            assert_eq!(code(status, name), Some(ErrorCode::Internal), "{status} {name:?}");
        }
        for (status, name) in [(501, Some("NotImplemented")), (505, None)] {
            assert_eq!(code(status, name), Some(ErrorCode::Internal), "{status}: it will say so for ever");
        }
        let conflict = code(409, Some("ConditionalRequestConflict"));
        assert_eq!(conflict, Some(ErrorCode::Unavailable), "nothing may be stored yet");
        assert_eq!(code(507, None), Some(ErrorCode::ResourceExhausted));
        assert_eq!(code(403, Some("QuotaExceededException")), Some(ErrorCode::ResourceExhausted));
        assert_eq!((code(404, None), code(412, None)), (None, None));
    }

    #[test]
    fn the_reason_says_what_to_do() {
        let Fault::Store(error) =
            of_code(&"s3".into(), Some(403), Some("RequestTimeTooSkewed"), Some("m"), None)
        else {
            panic!("a fault")
        };
        assert_eq!(error.to_string(), "s3 refuses: RequestTimeTooSkewed: m; set this machine's clock");
    }
}
