//! `edge-client quote`: headers that the contract reads, files that stock tpm2-tools check.

use crate::support::{Answer, Device, Fake, PSK, stderr, stdout};
use domain::{PcrIndex, Sha256Digest};
use http::{HeaderMap, HeaderName, HeaderValue};
use protocol::{
    Subject,
    binding::{Binding, qualifying_data},
    credentials::{Presented, QuoteHeaders, read},
    messages::Challenge,
    nonce::Opaque,
};

const NONCE: &str = "0001020304050607000000000000000000000000000000000000000000000001";

fn headers_of(text: &str) -> QuoteHeaders {
    let mut map = HeaderMap::new();
    for line in text.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        map.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        );
    }
    assert_eq!(map.len(), 4);
    map.insert("x-pre-shared-key", PSK.parse().unwrap());
    match read(&map).unwrap().presented {
        Presented::Quote(quote) => quote,
        other => panic!("{other:?}"),
    }
}

fn expected_data(device: &Device, nonce: &[u8], body: &[u8]) -> [u8; 32] {
    let subject = Subject {
        fleet: &device.config.fleet,
        audience: &device.config.audience,
        device: &device.config.device,
        psk: &device.psk().digest(),
    };
    let binding = Binding::Request {
        method: "POST",
        target: "/api/chat",
        body: &Sha256Digest::of(body),
    };
    qualifying_data(&subject, nonce, &binding)
}

#[test]
fn the_headers_are_the_contracts_and_bound_to_the_request() {
    let device = Device::new("http://127.0.0.1:9");
    let body = device.dir.path().join("body.json");
    std::fs::write(&body, "{\"model\":\"m\"}").unwrap();
    let output = device.run(&["quote", "--nonce", NONCE, "--body", body.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let quote = headers_of(&stdout(&output));
    assert_eq!(data_encoding::HEXLOWER.encode(&quote.nonce), NONCE);
    assert_eq!(quote.pcrs.len(), 64);
    let data = expected_data(&device, &quote.nonce, b"{\"model\":\"m\"}");
    assert!(quote.quote.windows(32).any(|w| w == data));
    testkit::Canary::new("pre-shared key", PSK.as_bytes()).assert_absent("stdout", &output.stdout);
}

#[test]
fn stock_tools_check_the_files() {
    let device = Device::new("http://127.0.0.1:9");
    let out = device.dir.path().join("evidence");
    let dir = out.to_str().unwrap();
    let output = device.run(&["quote", "--nonce", NONCE, "--out", dir]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let file = |name: &str| format!("{dir}/{name}");
    let data = std::fs::read_to_string(file("qualifying-data")).unwrap();
    let nonce = data_encoding::HEXLOWER.decode(NONCE.as_bytes()).unwrap();
    assert_eq!(
        data,
        data_encoding::HEXLOWER.encode(&expected_data(&device, &nonce, b""))
    );
    assert_eq!(std::fs::read_to_string(file("headers")).unwrap(), stdout(&output));
    // As the docs show it: the key in PEM, then the check.
    let (public, pem) = (file("ak.pub"), file("ak.pem"));
    let check = |program: &str, arguments: &[&str]| {
        let checked = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap_or_else(|e| panic!("{program} (Debian package tpm2-tools): {e}"));
        (
            checked.status.success(),
            String::from_utf8_lossy(&checked.stderr).into_owned(),
        )
    };
    let (ok, said) = check("tpm2_print", &["-t", "TPM2B_PUBLIC", "-f", "pem", &public]);
    assert!(ok, "{said}");
    let printed = std::process::Command::new("tpm2_print")
        .args(["-t", "TPM2B_PUBLIC", "-f", "pem", &public])
        .output()
        .unwrap();
    std::fs::write(&pem, &printed.stdout).unwrap();
    for key in [&public, &pem] {
        let files = [file("quote.msg"), file("quote.sig"), file("quote.pcrs")];
        let with = |data: &str| {
            check(
                "tpm2_checkquote",
                &[
                    "-u",
                    key,
                    "-m",
                    &files[0],
                    "-s",
                    &files[1],
                    "-f",
                    &files[2],
                    "-l",
                    "sha256:7,11",
                    "-q",
                    data,
                ],
            )
        };
        let (ok, said) = with(&data);
        assert!(ok, "{key}: {said}");
        let (ok, _) = with(&"00".repeat(32));
        assert!(!ok, "other qualifying data is refused");
    }
}

#[test]
fn what_would_go_beside_the_quote_is_written_too() {
    let device = Device::new("http://127.0.0.1:9");
    let path = |name: &str| device.dir.path().join(name).display().to_string();
    std::fs::write(path("statement"), "{}").unwrap();
    std::fs::write(path("log"), [1, 2, 3]).unwrap();
    let config = format!(
        "event-log = {:?}\nimage-statement = {:?}\n",
        path("log"),
        path("statement")
    );
    std::fs::write(path("edge.toml"), config).unwrap();
    let (out, config) = (path("evidence"), path("edge.toml"));
    let output = device.run(&["quote", "--nonce", NONCE, "--out", &out, "--config", &config]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(std::fs::read(format!("{out}/event.log")).unwrap(), [1, 2, 3]);
    assert_eq!(
        std::fs::read(format!("{out}/image-statement.json")).unwrap(),
        b"{}"
    );
    // Of what goes into headers, neither is a part.
    assert_eq!(stdout(&output).lines().count(), 4);
}

#[test]
fn a_failure_leaves_no_folder_behind() {
    let device = Device::with("http://127.0.0.1:9", None);
    let out = device.dir.path().join("evidence");
    let output = device.run(&["quote", "--nonce", NONCE, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!out.exists());
}

#[test]
fn json_says_what_the_quote_is_over() {
    let device = Device::new("http://127.0.0.1:9");
    let output = device.run(&[
        "quote",
        "--nonce",
        NONCE,
        "--json",
        "--method",
        "GET",
        "--target",
        "/api/tags?x=1",
    ]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["selection"], "sha256:7,11");
    assert_eq!(object["request"]["method"], "GET");
    assert_eq!(object["request"]["target"], "/api/tags?x=1");
    assert_eq!(object["values"]["7"].as_str().unwrap().len(), 64);
    assert_eq!(object["qualifying_data"].as_str().unwrap().len(), 64);
}

fn challenging(audience: &'static str, select: &'static [u64]) -> Fake {
    Fake::start(move |_| {
        let challenge = Challenge {
            nonce: Opaque::try_from(vec![9; 32]).unwrap(),
            audience: audience.parse().unwrap(),
            bank: domain::HashAlg::Sha256,
            select: select.iter().map(|i| PcrIndex::try_from(*i).unwrap()).collect(),
            expires_in: 60,
            now: domain::UnixTime::from_secs(1),
        };
        Answer::ok(serde_json::to_vec(&challenge).unwrap())
    })
}

#[test]
fn a_challenge_is_answered_by_our_own_rules() {
    let proxy = challenging("https://llm.demo.example", &[0, 7, 11]);
    let device = Device::new(&proxy.origin);
    let output = device.run(&["quote", "--challenge"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let quote = headers_of(&stdout(&output));
    assert_eq!((quote.nonce, quote.pcrs.len()), (vec![9; 32], 96));

    let proxy = challenging("https://evil.example", &[7, 11]);
    let output = device.run(&["quote", "--challenge", "--proxy", &proxy.origin]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("quotes for https://llm.demo.example alone"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_use_is_refused_before_the_tpm_is_asked() {
    let nowhere = [
        "--volume",
        "/nonexistent",
        "--tcti",
        "swtpm:host=127.0.0.1,port=9",
    ];
    for (arguments, exit, text) in [
        (
            &["quote", "--nonce", "00"][..],
            2,
            "a nonce is 64 hexadecimal digits",
        ),
        (
            &["quote", "--nonce", NONCE, "--method", "post"],
            2,
            "post /api/chat is not a method in upper case and a path",
        ),
        (
            &["quote", "--nonce", NONCE, "--target", "api"],
            2,
            "POST api is not a method in upper case and a path",
        ),
        (
            &["quote", "--nonce", NONCE, "--challenge"],
            2,
            "cannot be used with",
        ),
        (&["quote"], 2, "required arguments"),
        (
            &["quote", "--nonce", NONCE, "--out", "/tmp"],
            1,
            "cannot write /tmp: File exists",
        ),
        (
            &["quote", "--nonce", NONCE, "--body", "/nonexistent"],
            1,
            "cannot read the body",
        ),
    ] {
        let output = crate::support::run(&[&nowhere, arguments].concat());
        assert_eq!(
            output.status.code(),
            Some(exit),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
}

#[test]
fn a_device_without_pcrs_has_nothing_to_quote() {
    let device = Device::with("http://127.0.0.1:9", None);
    let output = device.run(&["quote", "--nonce", NONCE]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("names no PCRs to quote"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("hint: "));
}
