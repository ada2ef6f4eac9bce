//! BuildGrid-compatible YAML to plain data, with positions.
