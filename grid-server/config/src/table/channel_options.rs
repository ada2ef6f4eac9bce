//! The table of gRPC's channel arguments (`grpc_types.h` of gRPC Core), on either side of a connection.
//!
//! BuildGrid hands such options to gRPC Core. Our connections are made by another implementation: an option is mapped
//! to what that one has, or warned about where it tunes what isn't there, or refused where leaving it out would change
//! what is sent or who is trusted.

use super::Side;

/// What an option does with us on one side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is applied; a whole number of the unit that its name tells.
    Number,
    /// It is applied; 0 or 1.
    Flag,
    /// It is applied; text.
    Text,
    /// It has no effect: why.
    Warned(&'static str),
    /// It is refused: why.
    Refused(&'static str),
}

/// One channel argument.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOption {
    /// Its name in gRPC, such as `grpc.keepalive_time_ms`.
    pub name: &'static str,
    /// Its effect on connections that we make.
    pub client: Effect,
    /// Its effect on connections that we take.
    pub server: Effect,
}

impl ChannelOption {
    /// The effect on one side.
    #[must_use]
    pub const fn effect(&self, side: Side) -> Effect {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    /// The name as a configuration writes it on one side: `channel-options` leave out `grpc.` and write `-` for `_`.
    #[must_use]
    pub fn spelling(&self, side: Side) -> String {
        match side {
            Side::Client => self.name.trim_start_matches("grpc.").replace('_', "-"),
            Side::Server => self.name.to_owned(),
        }
    }
}

/// How the documentation introduces the two spellings.
pub const SIDE_NOTE: &str = "In `channel-options` the name is written without `grpc.` and with `-` for `_`; in `grpc-server-options` as it stands here. Without `lb-policy-name` calls go to all addresses of a name.";

const CORE: Effect = Effect::Warned("it tunes gRPC Core's own machinery, which isn't used here");
const WRONG_SIDE: Effect = Effect::Refused("it is an option of the other side of a connection");
const POINTER: Effect =
    Effect::Refused("its value is an object of a C program, which no configuration can hold");
const NO_PROXY: Effect =
    Effect::Refused("connections go straight to the server: set up a gRPC proxy and give its address");
const NO_XDS: Effect = Effect::Refused("there is no xDS and no grpclb: use `round_robin` over a DNS name");
const SERVICE_CONFIG: Effect =
    Effect::Refused("there are no service configurations: use `retries` and `request-timeout`");
const COMPRESSION: Effect = Effect::Warned(
    "messages are not compressed by gRPC: blobs are, by Zstandard, for clients that ask for `compressed-blobs`",
);
const PINGS: Effect = Effect::Warned("pings are not policed, so no peer is cut off for them");

const fn both(name: &'static str, effect: Effect) -> ChannelOption {
    ChannelOption { name, client: effect, server: effect }
}

const fn client(name: &'static str, client: Effect) -> ChannelOption {
    ChannelOption { name, client, server: WRONG_SIDE }
}

const fn server(name: &'static str, server: Effect) -> ChannelOption {
    ChannelOption { name, client: WRONG_SIDE, server }
}

const OPTIONS: &[ChannelOption] = &[
    // Liveness and age of connections.
    both("grpc.keepalive_time_ms", Effect::Number),
    both("grpc.keepalive_timeout_ms", Effect::Number),
    ChannelOption {
        name: "grpc.keepalive_permit_without_calls",
        client: Effect::Flag,
        server: Effect::Warned("clients may ping without calls"),
    },
    server("grpc.max_connection_age_ms", Effect::Number),
    server("grpc.max_connection_age_grace_ms", Effect::Number),
    server(
        "grpc.max_connection_idle_ms",
        Effect::Warned("an idle connection costs a few kilobytes; `grpc.max_connection_age_ms` ends it"),
    ),
    server("grpc.server_handshake_timeout_ms", Effect::Number),
    client("grpc.client_idle_timeout_ms", Effect::Warned("connections are kept open")),
    client(
        "grpc.initial_reconnect_backoff_ms",
        Effect::Warned(
            "a broken connection is made anew with the next call; `max-backoff` bounds the waits between tries",
        ),
    ),
    client(
        "grpc.min_reconnect_backoff_ms",
        Effect::Warned(
            "a broken connection is made anew with the next call; `max-backoff` bounds the waits between tries",
        ),
    ),
    client(
        "grpc.max_reconnect_backoff_ms",
        Effect::Warned(
            "a broken connection is made anew with the next call; `max-backoff` bounds the waits between tries",
        ),
    ),
    // Flow control and frames.
    server("grpc.max_concurrent_streams", Effect::Number),
    both("grpc.max_receive_message_length", Effect::Number),
    both("grpc.max_send_message_length", Effect::Number),
    both("grpc.http2.lookahead_bytes", Effect::Number),
    both("grpc.http2.bdp_probe", Effect::Flag),
    ChannelOption {
        name: "grpc.http2.max_frame_size",
        client: Effect::Warned("the default suits bulk data"),
        server: Effect::Number,
    },
    ChannelOption {
        name: "grpc.max_metadata_size",
        client: Effect::Warned("the limit of what a server may send is 16 KiB"),
        server: Effect::Number,
    },
    ChannelOption {
        name: "grpc.absolute_max_metadata_size",
        client: Effect::Warned("the limit of what a server may send is 16 KiB"),
        server: Effect::Warned("there is one limit: `grpc.max_metadata_size`"),
    },
    // Who is spoken to, and what is said.
    client("grpc.lb_policy_name", Effect::Text),
    client("grpc.default_authority", Effect::Text),
    client("grpc.ssl_target_name_override", Effect::Text),
    client("grpc.primary_user_agent", Effect::Text),
    client("grpc.secondary_user_agent", Effect::Refused("there is one user agent: use `primary-user-agent`")),
    client("grpc.enable_retries", Effect::Warned("`retries` says how often a call is tried again")),
    // Machinery of gRPC Core without a counterpart.
    both("grpc.http2.min_time_between_pings_ms", PINGS),
    both("grpc.http2.min_ping_interval_without_data_ms", PINGS),
    both("grpc.http2.max_pings_without_data", PINGS),
    both("grpc.http2.max_ping_strikes", PINGS),
    both("grpc.census", CORE),
    both("grpc.loadreporting", CORE),
    both("grpc.server_call_metric_recording", CORE),
    both("grpc.minimal_stack", CORE),
    both("grpc.per_message_compression", CORE),
    both("grpc.per_message_decompression", CORE),
    both("grpc.enable_deadline_checking", Effect::Warned("deadlines are always kept")),
    both("grpc.http2.initial_sequence_number", CORE),
    both("grpc.http2.hpack_table_size.decoder", CORE),
    both("grpc.http2.hpack_table_size.encoder", CORE),
    both("grpc.http2.write_buffer_size", CORE),
    both("grpc.http2.true_binary", CORE),
    both("grpc.experimental.http2.enable_preferred_frame_size", CORE),
    both("grpc.tsi.max_frame_size", CORE),
    both("grpc.so_reuseport", Effect::Warned("each address is bound once")),
    both("grpc.expand_wildcard_addrs", CORE),
    both("grpc.max_channel_trace_event_memory_per_node", CORE),
    both("grpc.enable_channelz", CORE),
    both("grpc.use_cronet_packet_coalescing", CORE),
    both("grpc.workaround.cronet_compression", CORE),
    both("grpc.experimental.tcp_read_chunk_size", CORE),
    both("grpc.experimental.tcp_min_read_chunk_size", CORE),
    both("grpc.experimental.tcp_max_read_chunk_size", CORE),
    both("grpc.experimental.tcp_tx_zerocopy_enabled", CORE),
    both("grpc.experimental.tcp_tx_zerocopy_send_bytes_threshold", CORE),
    both("grpc.experimental.tcp_tx_zerocopy_max_simultaneous_sends", CORE),
    both("grpc.tcp_receive_buffer_size", CORE),
    both("grpc.optimization_target", CORE),
    both("grpc.per_rpc_retry_buffer_size", CORE),
    both("grpc.experimental.enable_hedging", CORE),
    both("grpc.disable_client_authority_filter", CORE),
    both("grpc.surface_user_agent", CORE),
    both("grpc.inhibit_health_checking", CORE),
    both("grpc.dns_min_time_between_resolutions_ms", CORE),
    both("grpc.dns_ares_query_timeout", CORE),
    both("grpc.use_local_subchannel_pool", CORE),
    both("grpc.channel_pooling_domain", CORE),
    both("grpc.channel_id", CORE),
    both("grpc.experimental.server_config_change_drain_grace_time_ms", CORE),
    both("grpc.happy_eyeballs_connection_attempt_delay_ms", CORE),
    both("grpc.event_engine_use_memory_allocator_factory", CORE),
    both("grpc.security_frame_allowed", CORE),
    both("grpc.experimental.stats_plugins", POINTER),
    server(
        "grpc.server_max_unrequested_time_in_server",
        Effect::Warned("a call is taken as it comes, and waits in no queue of gRPC's"),
    ),
    server(
        "grpc.max_allowed_incoming_connections",
        Effect::Refused("connections are not counted: limit them in the load balancer or the network"),
    ),
    both("grpc.default_compression_algorithm", COMPRESSION),
    both("grpc.default_compression_level", COMPRESSION),
    both("grpc.compression_enabled_algorithms_bitset", COMPRESSION),
    both("grpc.dscp", Effect::Refused("packets are not marked: mark them in the network")),
    both("grpc.http2_scheme", Effect::Refused("the URL's scheme says whether TLS is spoken")),
    both("grpc.service_config", SERVICE_CONFIG),
    both("grpc.service_config_disable_resolution", SERVICE_CONFIG),
    both("grpc.dns_enable_srv_queries", NO_XDS),
    both("grpc.lb.ring_hash.ring_size_cap", NO_XDS),
    both("grpc.grpclb_call_timeout_ms", NO_XDS),
    both("grpc.grpclb_fallback_timeout_ms", NO_XDS),
    both("grpc.priority_failover_timeout_ms", NO_XDS),
    both("grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config", NO_XDS),
    both("grpc.enable_http_proxy", Effect::Warned("no HTTP proxy is used")),
    both("grpc.http_proxy", NO_PROXY),
    both("grpc.address_http_proxy", NO_PROXY),
    both("grpc.address_http_proxy_enabled_addresses", NO_PROXY),
    both("grpc.experimental.grpclb_channel_args", POINTER),
    both("grpc.ssl_session_cache", POINTER),
    both("grpc.resource_quota", POINTER),
    both("grpc.socket_mutator", POINTER),
    both("grpc.socket_factory", POINTER),
    both("grpc.mobile_log_context", POINTER),
    both("grpc.authorization_policy_provider", POINTER),
];

/// Every option of the table.
pub fn channel_options() -> impl Iterator<Item = &'static ChannelOption> {
    OPTIONS.iter()
}

/// The option that a configuration means by this name on this side. Both spellings are taken on both sides.
#[must_use]
pub fn channel_option(written: &str) -> Option<&'static ChannelOption> {
    let plain = |name: &str| name.trim_start_matches("grpc.").replace('-', "_");
    OPTIONS.iter().find(|option| plain(option.name) == plain(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_the_same_option() {
        for written in ["lb-policy-name", "lb_policy_name", "grpc.lb_policy_name"] {
            assert_eq!(channel_option(written).unwrap().name, "grpc.lb_policy_name");
        }
        assert!(channel_option("lb-policy").is_none());
    }

    #[test]
    fn each_argument_of_compression_and_of_calls_that_wait_has_a_reason() {
        for name in [
            "grpc.server_max_unrequested_time_in_server",
            "grpc.event_engine_use_memory_allocator_factory",
            "grpc.max_allowed_incoming_connections",
            "grpc.experimental.stats_plugins",
            "grpc.security_frame_allowed",
            "grpc.default_compression_algorithm",
            "grpc.default_compression_level",
            "grpc.compression_enabled_algorithms_bitset",
        ] {
            let option = channel_option(name).unwrap();
            for side in [Side::Client, Side::Server] {
                assert!(matches!(option.effect(side), Effect::Warned(_) | Effect::Refused(_)), "{name}");
            }
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = OPTIONS.iter().map(|o| o.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
