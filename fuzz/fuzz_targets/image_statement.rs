#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signalbox_fuzz::image_statement(data));
