//! One target under libFuzzer: the one that `GRID_FUZZ_TARGET` names. Run by `cargo xtask fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grid_fuzz::chosen()(data));
