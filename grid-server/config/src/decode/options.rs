//! gRPC channel options, by their table.

use std::collections::HashMap;
use std::time::Duration;

use super::decoder::{Decode, Decoder};
use crate::diagnostics::{Severity, suggestion};
use crate::model::{ClientOptions, LoadBalancing, ServerOptions};
use crate::table::{Effect, Side, Ty, channel_option, channel_options};
use crate::yaml::{Child, Content, Entry, Value};

/// The options that have an effect, by their gRPC names.
#[derive(Default)]
pub(super) struct Options {
    numbers: HashMap<&'static str, u32>,
    flags: HashMap<&'static str, bool>,
    texts: HashMap<&'static str, String>,
}

/// Reads a mapping of options; `None` where it is none.
pub(super) fn read(child: &Child, side: Side, decoder: &mut Decoder<'_>) -> Option<Options> {
    let Content::Map(entries) = &child.node.content else {
        decoder.expected(child, "a mapping of channel options");
        return None;
    };
    let mut options = Options::default();
    let mut sound = true;
    for entry in entries {
        sound &= decoder.at_key(&entry.key, |decoder| take(entry, side, &mut options, decoder)).is_some();
    }
    sound.then_some(options)
}

fn take(entry: &Entry, side: Side, options: &mut Options, decoder: &mut Decoder<'_>) -> Option<()> {
    let Some(option) = channel_option(&entry.key) else {
        let names: Vec<String> = channel_options().map(|option| option.spelling(side)).collect();
        let near = suggestion(&entry.key, names.iter().map(String::as_str), "`");
        decoder.error(entry.mark, format!("unknown channel option `{}`{near}", entry.key));
        return None;
    };
    match option.effect(side) {
        Effect::Number => {
            if let Some(number) = limit(&entry.value, decoder)? {
                options.numbers.insert(option.name, number);
            }
        }
        Effect::Flag => {
            options.flags.insert(option.name, flag(&entry.value, decoder)?);
        }
        Effect::Text => {
            options.texts.insert(option.name, String::decode(&entry.value, Ty::Text, decoder)?);
        }
        Effect::Warned(why) => {
            let message = format!("`{}` has no effect: {why}", entry.key);
            decoder.report(Severity::Warning, entry.mark, message);
        }
        Effect::Refused(why) => {
            decoder.error(entry.mark, format!("`{}` is not supported: {why}", entry.key));
            return None;
        }
    }
    Some(())
}

/// gRPC's integers: -1 and the largest mean "no limit", which is what leaving an option out means with us.
#[allow(clippy::option_option, reason = "no limit is not wrong")]
fn limit(child: &Child, decoder: &mut Decoder<'_>) -> Option<Option<u32>> {
    const LARGEST: i128 = i32::MAX as i128;
    match child.node.scalar().map(|scalar| scalar.value) {
        Some(Value::Whole(-1 | LARGEST)) => Some(None),
        Some(Value::Whole(number)) if (0..LARGEST).contains(&number) => Some(u32::try_from(number).ok()),
        _ => {
            decoder.expected(child, "a whole number from 0 to 2147483647, or -1 for no limit");
            None
        }
    }
}

fn flag(child: &Child, decoder: &mut Decoder<'_>) -> Option<bool> {
    match child.node.scalar().map(|scalar| scalar.value) {
        Some(Value::Whole(number @ (0 | 1))) => Some(number == 1),
        Some(Value::Flag(flag)) => Some(flag),
        _ => {
            decoder.expected(child, "0 or 1");
            None
        }
    }
}

impl Options {
    fn millis(&self, name: &str) -> Option<Duration> {
        self.numbers.get(name).map(|millis| Duration::from_millis(u64::from(*millis)))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn bytes(&self, name: &str) -> Option<usize> {
        self.number(name).and_then(|bytes| usize::try_from(bytes).ok())
    }
}

impl Decode for ClientOptions {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut options = read(child, Side::Client, decoder)?;
        let load_balancing = match options.texts.get("grpc.lb_policy_name").map(String::as_str) {
            None | Some("round_robin") => LoadBalancing::RoundRobin,
            Some("pick_first") => LoadBalancing::PickFirst,
            Some(other) => {
                let message = format!("expected pick_first or round_robin, found `{other}`");
                decoder.at_key("lb-policy-name", |decoder| decoder.error(child.mark, message));
                return None;
            }
        };
        Some(Self {
            keepalive_time: options.millis("grpc.keepalive_time_ms"),
            keepalive_timeout: options.millis("grpc.keepalive_timeout_ms"),
            keepalive_without_calls: options.flags.get("grpc.keepalive_permit_without_calls") == Some(&true),
            max_receive_message: options.bytes("grpc.max_receive_message_length"),
            max_send_message: options.bytes("grpc.max_send_message_length"),
            stream_window: options.number("grpc.http2.lookahead_bytes"),
            adaptive_window: options.flags.get("grpc.http2.bdp_probe").copied(),
            load_balancing,
            authority: options.texts.remove("grpc.default_authority"),
            tls_name: options.texts.remove("grpc.ssl_target_name_override"),
            user_agent: options.texts.remove("grpc.primary_user_agent"),
        })
    }
}

impl Decode for ServerOptions {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let options = read(child, Side::Server, decoder)?;
        Some(Self {
            keepalive_time: options.millis("grpc.keepalive_time_ms"),
            keepalive_timeout: options.millis("grpc.keepalive_timeout_ms"),
            max_connection_age: options.millis("grpc.max_connection_age_ms"),
            max_connection_age_grace: options.millis("grpc.max_connection_age_grace_ms"),
            handshake_timeout: options.millis("grpc.server_handshake_timeout_ms"),
            max_concurrent_streams: options.number("grpc.max_concurrent_streams"),
            max_receive_message: options.bytes("grpc.max_receive_message_length"),
            max_send_message: options.bytes("grpc.max_send_message_length"),
            stream_window: options.number("grpc.http2.lookahead_bytes"),
            adaptive_window: options.flags.get("grpc.http2.bdp_probe").copied(),
            max_frame_size: options.number("grpc.http2.max_frame_size"),
            max_header_size: options.number("grpc.max_metadata_size"),
        })
    }
}
