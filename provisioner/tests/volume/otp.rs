//! Volumes of an OTP device key, out of the nvmem file of a firmware without cryptography.

use crate::bench::{Bench, PSK};

#[test]
fn the_fuses_open_it_and_other_fuses_do_not() {
    let bench = Bench::unmeasured();
    bench.file("fuses", [0x11; 32]);
    bench.file("others", [0x12; 32]);
    let made = bench.run(&[
        "volume",
        "create",
        "edge-1.luks",
        "--content",
        "content",
        "--otp",
        "--otp-nvmem",
        "fuses",
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(
        made.out.contains("derived twice") && made.err.contains("raw device key"),
        "{}{}",
        made.out,
        made.err
    );
    let cat = |fuses| bench.run(&["volume", "cat", "edge-1.luks", "/psk", "--otp-nvmem", fuses]);
    let opened = cat("fuses");
    assert_eq!((opened.code, opened.out.as_str()), (0, PSK), "{}", opened.err);
    assert_eq!(cat("others").code, 1);
    let token = &bench.dump("edge-1.luks")["tokens"]["0"];
    assert_eq!(
        (&token["type"], &token["otp-device"]),
        (&"signalbox-otp".into(), &"edge-1".into())
    );
    let info = bench.run(&["volume", "info", "edge-1.luks"]);
    assert!(info.out.contains("OTP device key 1 of edge-1"), "{}", info.out);
}
