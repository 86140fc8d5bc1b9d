//! Runs [`crosstalk_simulations::fuzz::features`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crosstalk_simulations::fuzz::features(data));
