//! Client certificates, the whole way: a manifest, `apply`, the proxy with a client CA, and stock openssl and curl as the device.

use std::process::Command;

use crate::harness::{Backing, DEVICE, Line, boot, example, program};
use testkit::Swtpm;

const OTHER: &str = "kiosk-olten-02";

#[test]
fn a_certificate_in_the_place_of_the_key_on_sqlite() {
    in_the_place_of_the_key(Backing::Sqlite);
}

#[test]
fn a_certificate_in_the_place_of_the_key_on_etcd() {
    in_the_place_of_the_key(Backing::Etcd);
}

/// Two devices with certificates of one CA: one whose policy takes it alone, one whose policy wants the key beside it.
fn in_the_place_of_the_key(backing: Backing) {
    let mut line = Line::start(backing);
    pki(&line);
    let second = Swtpm::start();
    boot(&second);
    declare(&line, &second, Some("first.pem"));
    line.apply().succeeded();
    apply_other(&line).succeeded();
    let https = line.spawn_proxy(
        "tls",
        "[tls]\ncert = \"server.pem\"\nkey = \"server.key\"\nclient-ca = \"ca.pem\"\n",
    );
    let get = |shown: Option<&str>, psk: Option<&str>| status(&line, &https, shown, psk);

    becomes(&line, &https, "200");
    assert_eq!(get(None, None), "401", "neither key nor certificate");
    assert_eq!(
        get(Some("stranger"), None),
        "401",
        "a certificate of the same CA that nobody has"
    );
    assert_eq!(
        get(Some("other"), None),
        "401",
        "its policy wants the key beside it"
    );
    let psk = line.psk();
    assert_eq!(get(None, Some(&psk)), "200", "the key alone, as ever");
    assert_eq!(get(Some("first"), Some(&psk)), "200");
    assert_eq!(
        get(Some("other"), Some(&psk)),
        "401",
        "another device's beside the key"
    );

    // Rotated: the new one from the moment that the proxy knows it, the old one never again.
    declare(&line, &second, Some("next.pem"));
    let done = line.apply().succeeded().json();
    assert_eq!(done["devices"][0]["outcome"], "updated");
    becomes(&line, &https, "401");
    assert_eq!(get(Some("next"), None), "200");
    declare(&line, &second, Some("first.pem"));
    let refused = line.apply();
    assert_eq!(refused.code, Some(3), "{refused:?}");

    // Taken away: refused, and the key still works.
    declare(&line, &second, None);
    line.apply().succeeded();
    line.wait_until("the removed certificate is refused", || {
        get(Some("next"), None) == "401"
    });
    assert_eq!(get(None, Some(&psk)), "200");
    assert!(!line.proxy_log_of("tls").contains(&psk));
}

/// A CA, a server's certificate, and four clients': `first`, `next`, `other`, `stranger`.
fn pki(line: &Line) {
    let script = "
        new() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key 2>/dev/null; }
        new ca
        openssl req -x509 -key ca.key -out ca.pem -days 30 -subj /CN=devices -addext basicConstraints=critical,CA:TRUE
        printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' > client.ext
        printf 'basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n' > server.ext
        for name in server first next other stranger; do
            new $name
            openssl req -new -key $name.key -subj /CN=$name -out $name.csr
            ext=client.ext; [ $name != server ] || ext=server.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile $ext -out $name.pem
        done";
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(line.folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn declare(line: &Line, second: &Swtpm, certificate: Option<&str>) {
    let of = |file: Option<&str>| {
        file.map_or_else(String::new, |file| format!("client-certificate = \"{file}\"\n"))
    };
    let device = "[[devices]]\nid = \"kiosk-bern-01\"\nprofile = \"kiosk-vm\"\npolicy = \"kiosk\"\n";
    let (head, _) = example()
        .split_once(device)
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let text = format!(
        "{head}[policies.open]\nmodels = [\"*\"]\nclient-certificate = \"accepted\"\n\n\
         [policies.both]\nmodels = [\"*\"]\nclient-certificate = \"required\"\n\n\
         [[devices]]\nid = \"{DEVICE}\"\nprofile = \"kiosk-vm\"\npolicy = \"open\"\n{}\n\
         [[devices]]\nid = \"{OTHER}\"\nprofile = \"kiosk-vm\"\npolicy = \"both\"\ntcti = \"{}\"\n{}",
        of(certificate),
        second.tcti(),
        of(Some("other.pem")),
    );
    std::fs::write(line.manifest(), text).unwrap();
}

fn apply_other(line: &Line) -> crate::harness::Ended {
    let mut command = program("provisioner");
    command
        .args([
            "--json",
            "apply",
            "--yes",
            "--device",
            OTHER,
            "--registry",
            &line.registry,
        ])
        .arg(line.manifest());
    line.run(&mut command)
}

/// The status that curl prints for one request on a connection of its own.
fn status(line: &Line, https: &str, shown: Option<&str>, psk: Option<&str>) -> String {
    let mut command = Command::new("curl");
    command
        .current_dir(line.folder.path())
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(["--max-time", "20", "--cacert", "ca.pem"]);
    if let Some(name) = shown {
        command.args(["--cert", &format!("{name}.pem"), "--key", &format!("{name}.key")]);
    }
    if psk.is_some() {
        command.args(["--header", "@-"]);
    }
    command.arg(format!("{https}/api/tags"));
    // Headers from standard input: the key is in no argument and no file.
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(psk) = psk {
        std::io::Write::write_all(&mut stdin, format!("X-Pre-Shared-Key: {psk}\n").as_bytes()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Until the certificate `first` alone gets this status.
fn becomes(line: &Line, https: &str, wanted: &str) {
    line.wait_until("the first certificate's new answer", || {
        status(line, https, Some("first"), None) == wanted
    });
}
