#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signalbox_fuzz::tpm2_token(data));
