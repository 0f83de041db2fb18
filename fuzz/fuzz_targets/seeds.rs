#![no_main]
#![allow(unreachable_code, reason = "the macro goes on after init")]

// No target: writes the seeds below the folder named by SEEDS, and ends. It is built as a target because instrumented code links with
// nothing else.
libfuzzer_sys::fuzz_target!(
    init: {
        let folder = std::env::var_os("SEEDS").expect("SEEDS names a folder");
        signalbox_fuzz::seeds::write(folder.as_ref()).expect("seeds");
        std::process::exit(0)
    },
    |_data: &[u8]| {}
);
