//! The gRPC services: parse, call the core, map errors.
