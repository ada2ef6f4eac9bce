//! [`Assignment`]: what a lease asks for, read and checked.
//!
//! BuildGrid puts the Action itself into the lease; a digest of it is understood too. The digest function is
//! the one that the server names in the lease's metadata, else what the hashes' length tells.

use std::time::Duration;

use grid_core::{Digest, DigestFunction};
use grid_proto::any;
use grid_proto::reapi::{self, Action, ExecuteOperationMetadata};
use prost_types::Any;

use super::demands::Demands;
use super::duration;
use crate::cas::Cas;
use crate::cas::client::from_wire;
use crate::error::WorkerError;

/// An action to execute.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The action's digest.
    pub action_digest: Digest,
    /// Its command's.
    pub command_digest: Digest,
    /// Its input root's.
    pub input_root_digest: Digest,
    /// How long the command may run.
    pub timeout: Option<Duration>,
    /// What its platform properties ask of the worker; `None` where only its command has some.
    pub demands: Option<Demands>,
    /// ByteStream name to write standard output to while it runs.
    pub stdout_stream: Option<String>,
    /// ByteStream name to write standard error to while it runs.
    pub stderr_stream: Option<String>,
}

impl Assignment {
    /// Reads a lease's payload; `metadata` is what the server sent about its running leases.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] where the payload is neither an Action nor a digest of one, and the errors of
    /// fetching it.
    pub async fn read(
        payload: &Any,
        metadata: &[ExecuteOperationMetadata],
        cas: &Cas,
    ) -> Result<Self, WorkerError> {
        let invalid = |error: any::UnpackError| WorkerError::Invalid(error.to_string());
        let of_32 = cas.capabilities().await?.function_of_32;
        let (action, digest): (Action, Option<reapi::Digest>) = if any::is::<reapi::Digest>(payload) {
            let digest: reapi::Digest = any::unpack(payload).map_err(invalid)?;
            let function = function_of(&digest, of_32)?;
            (cas.read_message("action", &from_wire(function, &digest)?).await?, Some(digest))
        } else {
            (any::unpack(payload).map_err(invalid)?, None)
        };
        let command = action.command_digest.clone().unwrap_or_default();
        let by_length = function_of(&command, of_32)?;
        let of_payload = |function| Digest::of(function, &payload.value);
        let about = metadata.iter().find(|m| {
            m.action_digest.as_ref().is_some_and(|d| match &digest {
                Some(digest) => d == digest,
                None => DigestFunction::from_wire(m.digest_function)
                    .into_iter()
                    .chain([by_length])
                    .any(|f| of_payload(f).hash_hex() == d.hash),
            })
        });
        let function = about.and_then(|m| DigestFunction::from_wire(m.digest_function)).unwrap_or(by_length);
        let action_digest = match &digest {
            Some(digest) => from_wire(function, digest)?,
            None => of_payload(function),
        };
        let stream = |name: Option<&String>| name.filter(|n| !n.is_empty()).cloned();
        Ok(Self {
            action_digest,
            command_digest: from_wire(function, &command)?,
            input_root_digest: from_wire(function, &action.input_root_digest.clone().unwrap_or_default())?,
            timeout: duration(action.timeout.as_ref()),
            demands: action.platform.as_ref().map(|p| Demands::new(Some(p), function)).transpose()?,
            stdout_stream: stream(about.map(|m| &m.stdout_stream_name)),
            stderr_stream: stream(about.map(|m| &m.stderr_stream_name)),
        })
    }
}

fn function_of(digest: &reapi::Digest, of_32: DigestFunction) -> Result<DigestFunction, WorkerError> {
    match DigestFunction::from_hash_len(digest.hash.len() / 2) {
        Some(DigestFunction::Sha256) => Ok(of_32),
        Some(function) => Ok(function),
        None => Err(WorkerError::Invalid(format!("hash {:?} is none of a supported function", digest.hash))),
    }
}
