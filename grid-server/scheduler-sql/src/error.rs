//! From sqlx's errors to the scheduler's: what passes by itself, what another transaction won, what is a defect.

use grid_scheduler::SchedulerError;

/// What a failed statement means to the scheduler.
#[allow(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub(crate) fn map(error: sqlx::Error) -> SchedulerError {
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            by_code(&code, error.to_string())
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => SchedulerError::Unavailable(error.to_string()),
        _ => SchedulerError::Internal(error.to_string()),
    }
}

/// PostgreSQL's SQLSTATE, or SQLite's extended result code in decimal.
fn by_code(code: &str, text: String) -> SchedulerError {
    match code {
        // Serialization failure, deadlock, lock timeout; SQLite busy and locked.
        "40001" | "40P01" | "55P03" | "5" | "6" | "261" | "517" => SchedulerError::Conflict(text),
        // Undefined table, column or schema; read-only transaction is a fail-over in progress.
        "42P01" | "42703" | "3F000" => SchedulerError::Schema(text),
        "25006" => SchedulerError::Unavailable(text),
        _ => match code.get(..2) {
            // Connection trouble, resources, operator intervention, system error.
            Some("08" | "53" | "57" | "58") => SchedulerError::Unavailable(text),
            _ => SchedulerError::Internal(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_passes_is_told_from_defects() {
        assert!(matches!(by_code("57P01", String::new()), SchedulerError::Unavailable(_)));
        assert!(matches!(by_code("40P01", String::new()), SchedulerError::Conflict(_)));
        assert!(
            matches!(by_code("55P03", String::new()), SchedulerError::Conflict(_)),
            "a lock timeout passes"
        );
        assert!(matches!(by_code("42P01", String::new()), SchedulerError::Schema(_)));
        assert!(matches!(by_code("23505", String::new()), SchedulerError::Internal(_)));
        assert!(matches!(by_code("5", String::new()), SchedulerError::Conflict(_)));
    }
}
