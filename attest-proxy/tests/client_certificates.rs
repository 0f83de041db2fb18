//! Client certificates on real TLS, by the program as an operator starts it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use common::{
    client::request,
    forge,
    program::{Running, folder},
    psk,
};
use domain::CertificateKeyDigest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _, date_time_ymd};
use registry::{CertificateRule, DeviceRecord, DeviceState, Registry};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::upstream::Upstream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::client::TlsStream;

struct Ca(Issuer<'static, KeyPair>, String);

impl Ca {
    fn new() -> Self {
        Self::until(2100)
    }

    fn until(year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn certify(&self, key: &KeyPair, until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["device".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.signed_by(key, &self.0).unwrap().der().clone()
    }
}

/// A certificate with its key.
struct Shown {
    key: KeyPair,
    der: CertificateDer<'static>,
}

impl Shown {
    fn by(ca: &Ca) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = ca.certify(&key, 2100);
        Self { key, der }
    }

    fn digest(&self) -> CertificateKeyDigest {
        CertificateKeyDigest::of(&self.key.subject_public_key_info())
    }
}

struct Bench {
    dir: tempfile::TempDir,
    running: Running,
    registry: Arc<dyn Registry>,
    trusted: CertificateDer<'static>,
    _upstream: Upstream,
}

impl Bench {
    /// Devices: `plain` (certificates accepted), `kiosk` (evidence, certificates accepted), `both` (certificate required).
    async fn start(ca: &Ca, certificates: [(&str, CertificateKeyDigest); 3]) -> Self {
        let upstream = Upstream::json("{}");
        let (dir, path) = folder(&upstream.url()).await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("tls.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), &ca.1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let tls = "[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\nclient-ca = \"ca.pem\"\n";
        std::fs::write(&path, format!("{text}\n{tls}")).unwrap();
        let registry = open(dir.path()).await;
        for (name, evidence, rule) in [
            ("open", false, CertificateRule::Accepted),
            ("strict", true, CertificateRule::Accepted),
            ("required", false, CertificateRule::Required),
        ] {
            let name = name.parse().unwrap();
            let mut policy = forge::policy(evidence);
            policy.client_certificate = Some(rule);
            let stored = registry.policy(&name).await.unwrap();
            policy.revision = 2;
            registry
                .put_policy(&name, policy, stored.map(|s| s.revision))
                .await
                .unwrap();
        }
        registry
            .enrol(forge::device("both", "required", None))
            .await
            .unwrap();
        for (name, key) in certificates {
            edit(&*registry, name, |d| d.client_certificate = Some(key)).await;
        }
        let running = Running::start_at(&path, &[], "ready: https://");
        Self {
            dir,
            running,
            registry,
            trusted: made.cert.der().clone(),
            _upstream: upstream,
        }
    }

    async fn connect(&self, shown: Option<&Shown>) -> Option<TlsStream<TcpStream>> {
        connect(self.running.address, &self.trusted, shown).await
    }

    /// The status of one answer on a connection of its own; `None`: there was none.
    async fn status(&self, shown: Option<&Shown>, fields: &[(String, String)]) -> Option<String> {
        ask(&mut self.connect(shown).await?, fields).await
    }

    /// Asks until the answer has this status.
    async fn becomes(&self, shown: &Shown, fields: &[(String, String)], status: &str) {
        let mut last = None;
        for _ in 0..200 {
            last = self.status(Some(shown), fields).await;
            if last.as_deref() == Some(status) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("still {last:?}, not {status}");
    }
}

async fn open(dir: &Path) -> Arc<dyn Registry> {
    let url = format!("sqlite:{}", dir.join("registry.db").display())
        .parse()
        .unwrap();
    let options = registry::Options::default();
    registry::open(&url, &options, &common::FLEET.parse().unwrap())
        .await
        .unwrap()
}

async fn edit(registry: &dyn Registry, name: &str, change: impl FnOnce(&mut DeviceRecord)) {
    let stored = registry.device(&name.parse().unwrap()).await.unwrap().unwrap();
    let mut record = stored.value;
    record.generation += 1;
    change(&mut record);
    registry.update_device(record, stored.revision).await.unwrap();
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    shown: Option<&Shown>,
) -> Option<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(shown) => {
            let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
            config
                .with_client_auth_cert(vec![shown.der.clone()], key)
                .unwrap()
        }
    };
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .ok()
}

/// Status and code of the answer, as `401 psk-missing`.
async fn ask<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
    fields: &[(String, String)],
) -> Option<String> {
    stream
        .write_all(&request("GET", "/api/version", fields, ""))
        .await
        .ok()?;
    let mut read = Vec::new();
    while !read.ends_with(b"}") {
        let mut room = [0; 1024];
        match stream.read(&mut room).await {
            Ok(n) if n > 0 => read.extend_from_slice(&room[..n]),
            _ => return None,
        }
    }
    let text = String::from_utf8(read).unwrap();
    let code = ["psk-missing", "psk-unknown", "evidence-missing"]
        .iter()
        .find(|code| text.contains(**code));
    let status = text.split(' ').nth(1)?;
    Some(format!("{status} {}", code.unwrap_or(&"")))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_count_as_the_policy_says() {
    let (ca, other_ca) = (Ca::new(), Ca::new());
    let [plain, kiosk, both, stranger] = [(); 4].map(|()| Shown::by(&ca));
    let known = [
        ("plain", plain.digest()),
        ("kiosk", kiosk.digest()),
        ("both", both.digest()),
    ];
    let bench = Bench::start(&ca, known).await;
    let (ok, missing, unknown) = (
        Some("200 ".to_owned()),
        Some("401 psk-missing".to_owned()),
        Some("401 psk-unknown".to_owned()),
    );
    let no = [];
    assert_eq!(bench.status(Some(&plain), &no).await, ok);
    assert_eq!(bench.status(None, &no).await, missing);
    assert_eq!(bench.status(None, &psk("plain")).await, ok);
    assert_eq!(bench.status(Some(&stranger), &no).await, missing);
    assert_eq!(bench.status(Some(&plain), &psk("plain")).await, ok);
    assert_eq!(bench.status(Some(&kiosk), &psk("plain")).await, unknown);
    // A device that must quote never gets in by a certificate.
    assert_eq!(bench.status(Some(&kiosk), &no).await, missing);
    let evidence = bench.status(Some(&kiosk), &psk("kiosk")).await.unwrap();
    assert!(evidence.ends_with("evidence-missing"), "{evidence}");
    assert_eq!(bench.status(None, &psk("both")).await, unknown);
    assert_eq!(bench.status(Some(&both), &no).await, missing);
    assert_eq!(bench.status(Some(&plain), &psk("both")).await, unknown);
    assert_eq!(bench.status(Some(&both), &psk("both")).await, ok);
    // The same key out of date, or certified by nobody whom we know: the handshake fails, whatever else comes.
    let mine = |der| Shown {
        key: KeyPair::try_from(plain.key.serialize_der()).unwrap(),
        der,
    };
    for (der, what) in [
        (ca.certify(&plain.key, 2021), "expired"),
        (other_ca.certify(&plain.key, 2100), "of another CA"),
    ] {
        assert_eq!(
            bench.status(Some(&mine(der)), &psk("plain")).await,
            None,
            "{what}"
        );
    }
    // A renewed certificate of the same key is the same.
    assert_eq!(
        bench.status(Some(&mine(ca.certify(&plain.key, 2090))), &no).await,
        ok
    );
    let (code, log) = bench.running.end();
    assert_eq!(code, 0);
    for told in [
        "device 'kiosk': its policy wants evidence",
        "the client certificate is device 'plain's",
        "none came",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
    drop(bench.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_ends_with_its_device_its_record_and_its_ca() {
    let (ca, next_ca) = (Ca::new(), Ca::new());
    let [plain, kiosk, both, renewed] = [(); 4].map(|()| Shown::by(&ca));
    let known = [
        ("plain", plain.digest()),
        ("kiosk", kiosk.digest()),
        ("both", both.digest()),
    ];
    let bench = Bench::start(&ca, known).await;
    let mut open = bench.connect(Some(&plain)).await.unwrap();
    assert_eq!(ask(&mut open, &[]).await.unwrap(), "200 ");
    edit(&*bench.registry, "plain", |d| d.state = DeviceState::Suspended).await;
    bench.becomes(&plain, &[], "401 psk-missing").await;
    // Also on the connection on which it was good.
    assert_eq!(ask(&mut open, &[]).await.unwrap(), "401 psk-missing");
    edit(&*bench.registry, "plain", |d| d.state = DeviceState::Active).await;
    bench.becomes(&plain, &[], "200 ").await;
    edit(&*bench.registry, "both", |d| {
        d.client_certificate = Some(renewed.digest());
    })
    .await;
    bench.becomes(&renewed, &psk("both"), "200 ").await;
    assert_eq!(
        bench.status(Some(&both), &psk("both")).await.unwrap(),
        "401 psk-unknown"
    );
    // Another CA on SIGHUP: what the old one certified is worth nothing on new connections.
    std::fs::write(bench.dir.path().join("ca.pem"), &next_ca.1).unwrap();
    bench.running.signal("-HUP");
    let moved = Shown {
        der: next_ca.certify(&plain.key, 2100),
        key: KeyPair::try_from(plain.key.serialize_der()).unwrap(),
    };
    bench.becomes(&moved, &[], "200 ").await;
    assert_eq!(bench.status(Some(&plain), &[]).await, None);
    assert_eq!(bench.running.end().0, 0);
}

/// As `check` says of such a CA: a trust anchor's own dates are judged by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_has_ended_is_believed_until_it_is_taken_out() {
    let ca = Ca::until(2021);
    let [plain, kiosk, both] = [(); 3].map(|()| Shown::by(&ca));
    let known = [
        ("plain", plain.digest()),
        ("kiosk", kiosk.digest()),
        ("both", both.digest()),
    ];
    let bench = Bench::start(&ca, known).await;
    assert_eq!(bench.status(Some(&plain), &[]).await.unwrap(), "200 ");
    assert_eq!(bench.running.end().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_is_a_certificate() {
    let ca = Ca::new();
    let [plain, kiosk, both] = [(); 3].map(|()| Shown::by(&ca));
    let known = [
        ("plain", plain.digest()),
        ("kiosk", kiosk.digest()),
        ("both", both.digest()),
    ];
    let bench = Bench::start(&ca, known).await;
    // The same registry behind plain HTTP, whose client says that it is trusted.
    let path = bench.dir.path().join("plain.toml");
    let text = std::fs::read_to_string(bench.dir.path().join("attest-proxy.toml")).unwrap();
    let (text, _) = text.split_once("[tls]").unwrap();
    std::fs::write(&path, format!("trusted-peers = [\"127.0.0.0/8\"]\n{text}")).unwrap();
    let bare = Running::start(&path, &[]);
    let der = data_encoding::BASE64.encode(&plain.der);
    let digest = plain.digest().to_string();
    for (name, value) in [
        ("X-Client-Cert", &der),
        ("Client-Cert", &format!(":{der}:")),
        ("X-SSL-Client-Cert", &der),
        ("X-Forwarded-Client-Cert", &format!("Hash={digest}")),
        ("X-SSL-Client-Verify", &"SUCCESS".to_owned()),
    ] {
        let alone = [(name.to_owned(), value.clone())];
        let mut beside = psk("both");
        beside.extend(alone.clone());
        assert_eq!(
            bench.status(None, &alone).await.unwrap(),
            "401 psk-missing",
            "{name}"
        );
        assert_eq!(
            bench.status(None, &beside).await.unwrap(),
            "401 psk-unknown",
            "{name}"
        );
        let mut stream = TcpStream::connect(bare.address).await.unwrap();
        assert_eq!(
            ask(&mut stream, &alone).await.unwrap(),
            "401 psk-missing",
            "{name}"
        );
        let mut stream = TcpStream::connect(bare.address).await.unwrap();
        assert_eq!(
            ask(&mut stream, &beside).await.unwrap(),
            "401 psk-unknown",
            "{name}"
        );
    }
    assert_eq!(bare.end().0, 0);
    assert_eq!(bench.running.end().0, 0);
}
