//! The persistent worker protocol of Bazel: what is asked of a process that stays, and what it answers.
//!
//! The messages are `WorkRequest` and `WorkResponse` of Bazel's `worker_protocol.proto`, one at a time (`request_id` 0),
//! in one of two forms: protobuf with the length before each message, or the JSON of protobuf. Neighbours:
//! `execute::persistent` makes requests, `runner::reside` carries them and reads the answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The form of the messages.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Protobuf, each message after its length as a varint.
    #[default]
    Proto,
    /// JSON, one message a line.
    Json,
}

/// An input of a request.
#[derive(Clone, PartialEq, Message)]
pub struct Input {
    /// Where it is, below the process's working directory.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What tells its content from another: here its hash in hexadecimal digits.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
}

/// What is asked.
#[derive(Clone, PartialEq, Message)]
pub struct WorkRequest {
    /// The arguments of this piece of work.
    #[prost(string, repeated, tag = "1")]
    pub arguments: Vec<String>,
    /// All files that there are.
    #[prost(message, repeated, tag = "2")]
    pub inputs: Vec<Input>,
    /// 0: no other request is under way.
    #[prost(int32, tag = "3")]
    pub request_id: i32,
}

/// What is answered.
#[derive(Clone, Deserialize, PartialEq, Message)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkResponse {
    /// The exit code of this piece of work.
    #[prost(int32, tag = "1")]
    #[serde(alias = "exit_code")]
    pub exit_code: i32,
    /// What the user is to see.
    #[prost(string, tag = "2")]
    pub output: String,
    /// That of the request.
    #[prost(int32, tag = "3")]
    #[serde(alias = "request_id")]
    pub request_id: i32,
    /// Whether it was given up, which nobody asked for.
    #[prost(bool, tag = "4")]
    #[serde(alias = "was_cancelled")]
    pub was_cancelled: bool,
}

/// An answer that breaks the protocol.
#[derive(Debug, Error, PartialEq)]
pub enum BadAnswer {
    /// It is longer than is taken.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// It is no message.
    #[error("its answer can't be read: {0}")]
    Unreadable(String),
    /// There is something after it.
    #[error("it said more than the answer to what it was asked")]
    More,
    /// It is none to what was asked.
    #[error("its answer is to request {0}, and request 0 was made")]
    ToAnother(i32),
}

impl Form {
    /// The form of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "proto" => Some(Self::Proto),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proto => "proto",
            Self::Json => "json",
        }
    }

    /// A request as the process reads it.
    #[must_use]
    pub fn write(self, request: &WorkRequest) -> Vec<u8> {
        match self {
            Self::Proto => request.encode_length_delimited_to_vec(),
            Self::Json => {
                let inputs = request.inputs.iter().map(
                    |input| serde_json::json!({"path": input.path, "digest": STANDARD.encode(&input.digest)}),
                );
                let message = serde_json::json!({
                    "arguments": request.arguments,
                    "inputs": inputs.collect::<Vec<_>>(),
                    "requestId": request.request_id,
                });
                format!("{message}\n").into_bytes()
            }
        }
    }

    /// The answer that `said` is, where it is whole: all that the process has said since it was asked.
    ///
    /// # Errors
    /// [`BadAnswer`].
    pub fn read(self, said: &[u8], most: usize) -> Result<Option<WorkResponse>, BadAnswer> {
        let answer = match self {
            Self::Proto => read_proto(said, most)?,
            Self::Json => read_json(said)?,
        };
        match answer {
            None if said.len() > most => Err(BadAnswer::TooLong(most)),
            Some((_, rest)) if rest.iter().any(|byte| !byte.is_ascii_whitespace()) => Err(BadAnswer::More),
            Some((answer, _)) if answer.was_cancelled || answer.request_id != 0 => {
                Err(BadAnswer::ToAnother(answer.request_id))
            }
            answer => Ok(answer.map(|(answer, _)| answer)),
        }
    }
}

/// An answer and what comes after it.
type Parsed<'a> = Option<(WorkResponse, &'a [u8])>;

fn read_proto(said: &[u8], most: usize) -> Result<Parsed<'_>, BadAnswer> {
    /// The most bytes of a varint.
    const VARINT: usize = 10;
    let mut rest = said;
    let length = match prost::decode_length_delimiter(&mut rest) {
        Ok(length) => length,
        Err(_) if said.len() < VARINT => return Ok(None),
        Err(error) => return Err(BadAnswer::Unreadable(error.to_string())),
    };
    if length > most {
        return Err(BadAnswer::TooLong(most));
    }
    let Some((message, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let answer = WorkResponse::decode(message).map_err(|error| BadAnswer::Unreadable(error.to_string()))?;
    Ok(Some((answer, rest)))
}

fn read_json(said: &[u8]) -> Result<Parsed<'_>, BadAnswer> {
    let mut answers = serde_json::Deserializer::from_slice(said).into_iter::<WorkResponse>();
    match answers.next() {
        None => Ok(None),
        Some(Ok(answer)) => Ok(Some((answer, said.get(answers.byte_offset()..).unwrap_or_default()))),
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(error)) => Err(BadAnswer::Unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 1_000;

    fn answer(exit_code: i32, output: &str) -> WorkResponse {
        WorkResponse { exit_code, output: output.to_owned(), ..WorkResponse::default() }
    }

    proptest! {
        #[test]
        fn an_answer_is_read_when_it_is_whole_and_not_before(exit_code: i32, output in "[a-z\"\\\\é\n]{0,100}") {
            let wanted = answer(exit_code, &output);
            let json = serde_json::json!({"exitCode": exit_code, "output": output}).to_string().into_bytes();
            for (form, whole) in [(Form::Proto, wanted.encode_length_delimited_to_vec()), (Form::Json, json)] {
                for cut in 0..whole.len() {
                    prop_assert_eq!(form.read(&whole[..cut], MOST), Ok(None));
                }
                prop_assert_eq!(form.read(&whole, MOST), Ok(Some(wanted.clone())));
            }
        }

        #[test]
        fn nonsense_is_never_more_than_an_error(said in proptest::collection::vec(any::<u8>(), 0..200)) {
            for form in [Form::Proto, Form::Json] {
                let _ = form.read(&said, MOST);
            }
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_apart() {
        let proto = |answer: &WorkResponse| answer.encode_length_delimited_to_vec();
        let twice = [proto(&answer(1, "")), proto(&answer(2, ""))].concat();
        assert_eq!(Form::Proto.read(&twice, MOST), Err(BadAnswer::More));
        let other = WorkResponse { request_id: 7, ..WorkResponse::default() };
        assert_eq!(Form::Proto.read(&proto(&other), MOST), Err(BadAnswer::ToAnother(7)));
        let long = answer(0, &"x".repeat(MOST));
        assert_eq!(Form::Proto.read(&proto(&long)[..5], MOST), Err(BadAnswer::TooLong(MOST)));
        let endless = [b"{\"output\": \"".to_vec(), vec![b'x'; MOST]].concat();
        assert_eq!(Form::Json.read(&endless, MOST), Err(BadAnswer::TooLong(MOST)));
        assert!(matches!(Form::Json.read(b"hello", MOST), Err(BadAnswer::Unreadable(_))));
        let snake = Form::Json.read(b"{\"exit_code\": 3, \"request_id\": 0}\n", MOST);
        assert_eq!(snake, Ok(Some(answer(3, ""))));
    }

    #[test]
    fn requests_are_what_bazel_writes() {
        let request = WorkRequest {
            arguments: vec!["--out".to_owned()],
            inputs: vec![Input { path: "a/b".to_owned(), digest: b"00ff".to_vec() }],
            request_id: 0,
        };
        let json: serde_json::Value = serde_json::from_slice(&Form::Json.write(&request)).unwrap();
        assert_eq!(json["inputs"][0]["digest"], "MDBmZg==");
        assert_eq!(json["arguments"][0], "--out");
        assert_eq!(Form::Proto.write(&request), b"\x14\x0a\x05--out\x12\x0b\x0a\x03a/b\x12\x0400ff");
    }
}
