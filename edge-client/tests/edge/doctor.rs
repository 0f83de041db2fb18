//! `edge-client doctor`: every check says what works, and what is in the way of it.

use crate::support::{Answer, Device, Fake, PSK, Received, stderr, stdout};
use protocol::{
    Refusal,
    messages::{Challenge, SessionGranted},
    nonce::Opaque,
};
use serde_json::Value;

fn challenge(now: u64) -> Answer {
    let challenge = Challenge {
        nonce: Opaque::try_from(vec![9; 32]).unwrap(),
        audience: "https://llm.demo.example".parse().unwrap(),
        bank: domain::HashAlg::Sha256,
        select: [7, 11].map(|i: u64| i.try_into().unwrap()).to_vec(),
        expires_in: 60,
        now: domain::UnixTime::from_secs(now),
    };
    Answer::ok(serde_json::to_vec(&challenge).unwrap())
}

fn grant() -> Answer {
    let granted = SessionGranted {
        session: "k1.token".to_owned(),
        expires_in: 600,
        device: "kiosk-bern-01".parse().unwrap(),
    };
    Answer::ok(serde_json::to_vec(&granted).unwrap())
}

fn good(request: &Received) -> Answer {
    match request.target.as_str() {
        "/attest/v1/challenge" => challenge(1_000_000_000),
        _ => grant(),
    }
}

/// The state of each check, by name.
fn states(device: &Device, more: &[&str]) -> (Vec<(String, String)>, Option<i32>, String) {
    let output = device.run(&[&["doctor", "--json"], more].concat());
    let object: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let checks = object["checks"].as_array().unwrap().iter();
    let list = checks
        .map(|c| {
            (
                c["name"].as_str().unwrap().to_owned(),
                c["state"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(object["ok"].as_bool().unwrap(), output.status.code() == Some(0));
    (list, output.status.code(), stdout(&output))
}

fn expect(list: &[(String, String)], expected: &[(&str, &str)]) {
    let list: Vec<_> = list.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
    assert_eq!(list, expected);
}

#[test]
fn all_is_well_and_said_in_plain_words() {
    let proxy = Fake::start(good);
    let device = Device::new(&proxy.origin);
    // The model is of no use here, and no harm: scripts pass one set of options to every command.
    let output = device.run(&["doctor", "--model", "m"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for part in [
        "ok      TPM      IBM",
        &format!(
            "ok      volume   {} opens, sealed to sha256:7; it is kiosk-bern-01's of the fleet demo",
            device.volume()
        ),
        "ok      key      an attestation key is at 0x81010020",
        "ok      policy   asks for sha256:7,11: PCR 7 is ",
        "ok      log      no event log is known of this TPM, none is sent",
        "ok      image    no image statement is at /usr/lib/signalbox/image-statement.json, none is sent",
        &format!(
            "ok      proxy    {} answers, for https://llm.demo.example",
            proxy.origin
        ),
        "note    clock    this machine's clock is ",
        "ok      session  the proxy accepts a quote of sha256:7,11, for 600 s at a time",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(proxy.calls().len(), 3);
    testkit::Canary::new("pre-shared key", PSK.as_bytes()).assert_absent("stdout", &output.stdout);
}

#[test]
fn without_a_tpm_nothing_else_can_be_known() {
    let mut device = Device::new("http://127.0.0.1:9");
    device.swtpm.kill();
    let (list, exit, _) = states(&device, &[]);
    assert_eq!(exit, Some(1));
    expect(
        &list,
        &[
            ("TPM", "fails"),
            ("volume", "fails"),
            ("key", "waiting"),
            ("policy", "waiting"),
            ("log", "works"),
            ("image", "works"),
            ("proxy", "waiting"),
            ("clock", "waiting"),
            ("session", "waiting"),
        ],
    );
}

#[test]
fn a_changed_pcr_is_told_from_a_broken_tpm() {
    let device = Device::new("http://127.0.0.1:9");
    device.swtpm.extend(7, b"other");
    let (list, exit, text) = states(&device, &[]);
    assert_eq!(exit, Some(1));
    assert_eq!(
        list[..2],
        [("TPM".into(), "works".into()), ("volume".into(), "fails".into())]
    );
    assert!(
        text.contains("PCRs sha256:7 is not what the secret was sealed to"),
        "{text}"
    );
}

#[test]
fn what_is_no_volume_is_said_so() {
    let device = Device::new("http://127.0.0.1:9");
    let other = device.dir.path().join("other");
    std::fs::write(&other, vec![0; 100_000]).unwrap();
    let other = other.to_str().unwrap().to_owned();
    for (path, text) in [
        ("/nonexistent", "cannot open the volume /nonexistent"),
        (other.as_str(), "no LUKS2 header"),
    ] {
        let (list, exit, said) = states(&device, &["--volume", path]);
        assert_eq!((exit, list[1].1.as_str()), (Some(1), "fails"));
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn a_cleared_attestation_key_is_missed() {
    let proxy = Fake::start(good);
    let device = Device::new(&proxy.origin);
    let evicted = device.swtpm.tool("tpm2_evictcontrol", &["-c", "0x81010020"]);
    assert!(evicted.status.success());
    let (list, exit, text) = states(&device, &[]);
    assert_eq!(exit, Some(1));
    assert_eq!((list[2].1.as_str(), list[8].1.as_str()), ("fails", "fails"));
    assert!(
        text.contains("no attestation key is at persistent handle 0x81010020"),
        "{text}"
    );
}

#[test]
fn a_proxy_out_of_reach_fails_and_a_refusal_is_a_refusal() {
    let device = Device::new("http://127.0.0.1:9");
    let (list, exit, _) = states(&device, &[]);
    assert_eq!(exit, Some(1));
    assert_eq!(list[6].1, "fails");

    let unknown = Fake::start(|_| Answer::refused(Refusal::PskUnknown));
    let (list, exit, text) = states(&device, &["--proxy", &unknown.origin]);
    assert_eq!(exit, Some(3));
    expect(
        &list[6..],
        &[("proxy", "refused"), ("clock", "waiting"), ("session", "waiting")],
    );
    assert!(text.contains("psk-unknown"), "{text}");

    let mismatch = Fake::start(|request| match request.target.as_str() {
        "/attest/v1/challenge" => challenge(1_000_000_000),
        _ => Answer::refused(Refusal::EvidenceMismatch),
    });
    let (list, exit, text) = states(&device, &["--proxy", &mismatch.origin]);
    assert_eq!(exit, Some(3));
    expect(
        &list[6..],
        &[("proxy", "works"), ("clock", "note"), ("session", "refused")],
    );
    assert!(text.contains("the operator's log names the PCR"), "{text}");

    let nonsense = Fake::start(|_| Answer::ok("<html>"));
    let (list, exit, text) = states(&device, &["--proxy", &nonsense.origin]);
    assert_eq!((exit, list[6].1.as_str()), (Some(1), "fails"));
    assert!(text.contains("is not attest-proxy's"), "{text}");
}

#[test]
fn an_unmeasured_pcr_is_noted() {
    let proxy = Fake::start(good);
    let pcrs = domain::PcrSelection::new(
        domain::HashAlg::Sha256,
        [7, 12].map(|i: u64| i.try_into().unwrap()),
    )
    .unwrap();
    let device = Device::with(&proxy.origin, Some(pcrs));
    let (list, exit, text) = states(&device, &[]);
    assert_eq!(list[3].1, "note");
    assert!(text.contains("it proves nothing"), "{text}");
    // And the proxy asks for fewer PCRs than this device quotes.
    assert_eq!((list[8].1.as_str(), exit), ("refused", Some(3)));
}

#[test]
fn what_goes_beside_a_quote_is_named() {
    let proxy = Fake::start(good);
    let device = Device::new(&proxy.origin);
    let path = |name: &str| device.dir.path().join(name).display().to_string();
    std::fs::write(path("log"), vec![1; 73_000]).unwrap();
    std::fs::write(path("statement"), vec![b'x'; 5000]).unwrap();
    let config = format!(
        "volume = {:?}\nevent-log = {:?}\nimage-statement = {:?}\n",
        device.volume(),
        path("log"),
        path("statement")
    );
    std::fs::write(path("edge.toml"), config).unwrap();
    let output = device.run(&["doctor", "--config", &path("edge.toml")]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let log = format!(
        "ok      log      the event log {} goes with each session's quote: 73000 bytes",
        path("log")
    );
    let image = format!(
        "note    image    the image statement {} is not sent: it has more than 4096 bytes",
        path("statement")
    );
    assert!(text.contains(&log) && text.contains(&image), "{text}");
    let open = proxy.received().pop().unwrap();
    let request: protocol::messages::SessionRequest = serde_json::from_slice(&open.body).unwrap();
    assert_eq!(request.event_log.unwrap(), vec![1; 73_000]);
    assert_eq!(request.image_statement, None);
}
