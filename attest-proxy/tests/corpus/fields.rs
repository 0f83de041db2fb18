//! Fields that decide who is asked, who asks, and what is lost on the way.

use super::{Case, End};

/// `Host` lines that are none; each stands in the place of the good one.
const HOSTS: &[&str] = &[
    "",
    "Host:\r\n",
    "Host: \r\n",
    "Host: a\r\nHost: a\r\n",
    "Host: a\r\nHost: b\r\n",
    "Host: a\r\nhost: b\r\n",
    "Host: a, b\r\n",
    "Host: a b\r\n",
    "Host: a/b\r\n",
    "Host: /a\r\n",
    "Host: a\\b\r\n",
    "Host: a?b\r\n",
    "Host: a#b\r\n",
    "Host: user@a\r\n",
    "Host: user:word@a\r\n",
    "Host: http://a\r\n",
    "Host: a;b\r\n",
    "Host: %61\r\n",
    "Host: <a>\r\n",
    "Host: \"a\"\r\n",
    "Host: a\u{e9}\r\n",
    "Host: *\r\n",
    "Host : a\r\n",
    "Host\t: a\r\n",
    " Host: a\r\n",
    "Host:\r\n a\r\n",
    "Host: a\r\n b\r\n",
    "Host: a\0\r\n",
    "Hos\u{2e}\0t: a\r\n",
];

/// Fields beside a good `Host` and key that end it.
const FIELDS: &[&str] = &[
    // Upgrades, h2c smuggling.
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Upgrade: h2c",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "Upgrade: TLS/1.0",
    "Upgrade:",
    "UPGRADE: H2C",
    // Keys, twice or in two spellings.
    "X-Pre-Shared-Key: {P}",
    "X-Pre-Shared-Key: another",
    "x-pre-shared-key: {P}",
    "X-Pre-Shared-Key:",
    "Authorization: Bearer sbx_another",
    "Authorization: Basic {P}",
    "x-api-key: sbx_another",
    "X_Pre_Shared_Key: {P}",
    "X-Pre_Shared-Key: {P}",
    "X_API_KEY: {P}",
    "Attestation_Session: x",
    "TPM_Quote: :AA==:",
    "Content_Digest: x",
    "Signature_Input: x",
    "Content_Length: 3",
    "Transfer_Encoding: chunked",
    "Content_Type: text/plain",
    "Proxy_Connection: x",
    // Half of what must be whole.
    "TPM-Quote: :AQ==:",
    "TPM-Quote: :AQ==:\r\nTPM-Quote: :AQ==:",
    "Attestation-Session: x",
    "Attestation-Session: x\r\nTPM-Quote: :AQ==:",
    "Signature: sbx=:AA==:",
    "Content-Digest: sha-256=:AA==:",
    // Hop-by-hop abuse.
    "Connection: X-Pre-Shared-Key",
    "Connection: close, X-Pre-Shared-Key",
    "Connection: x-pre-shared-key,",
    "Connection: Authorization",
    "Connection: x-api-key",
    "Connection: Host",
    "Connection: Content-Length",
    "Connection: Transfer-Encoding",
    "Connection: Content-Type",
    "Connection: Attestation-Session",
    "Connection: TPM-Quote, TPM-Quote-Nonce",
    "Connection: Signature",
    "Connection: close\r\nConnection: X-Pre-Shared-Key",
    // What is coded is not read.
    "Content-Encoding: gzip",
    "Content-Encoding: identity",
    "Content-Encoding:",
    "Trailer: X-Pre-Shared-Key",
    "Trailer: x, Content-Length",
    "Trailer: Transfer_Encoding",
    "Content-Type: application/json\r\nContent-Type: text/plain",
    "Content-Type: application/json\r\nContent-Type: application/json",
];

/// Expectations (RFC 9110 10.1.1) beside a broken length. What must never be is an answer out of turn.
const EXPECTS: &[&str] = &[
    "Expect: 100-continue\r\nContent-Length: {L}\r\nContent-Length: {L}",
    "Expect: 100-continue\r\nContent-Length: 0{L}",
    "Expect: 100-continue\r\n Content-Length: {L}",
    "Expect: 100-continue\0\r\nContent-Length: {L}",
    "Expect: 100-\rcontinue\r\nContent-Length: {L}",
    "Expect: y\n100-continue\r\nContent-Length: {L}",
    "Expect\t: 100-continue\r\nContent-Length: {L}",
    "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nContent-Length: 4",
    "Expect: 100-continue\r\nContent-Length: x",
    "Expect : 100-continue\r\nContent-Length: {L}",
    "Expect:\r\n 100-continue\r\nContent-Length: {L}",
];

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for host in HOSTS {
        for version in ["1.1", "1.0"] {
            all.push(Case::new(
                format!("{host:?} on HTTP/{version}"),
                &format!("GET /api/version HTTP/{version}\r\n{host}{{K}}\r\n"),
                End::Closed,
            ));
        }
    }
    all.extend(FIELDS.iter().map(|fields| Case::get(fields, End::Closed)));
    for fields in FIELDS {
        all.push(Case::post(
            &format!("{fields}\r\nContent-Length: {{L}}"),
            "{B}",
            End::Closed,
        ));
    }
    all.extend(
        EXPECTS
            .iter()
            .map(|fields| Case::post(fields, "{B}", End::Closed)),
    );
    let many: String = (0..2000).map(|n| format!("X-{n}: y\r\n")).collect();
    all.push(Case::get(many.trim_end(), End::ClosedWith(431)));
    all.push(Case::get(
        &format!("X: {}", "y".repeat(200_000)),
        End::ClosedWith(431),
    ));
    all.push(Case::get(
        &format!("{}: y", "x".repeat(70_000)),
        End::ClosedWith(431),
    ));
    // No key, or none that is known: what is in the body is no request.
    for key in ["", "X-Pre-Shared-Key: sbx_unknown\r\n"] {
        all.push(Case::new(
            format!("a request in a stranger's body, {key:?}"),
            &format!("POST /api/chat HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 48\r\n\r\nPOST /api/pull HTTP/1.1\r\nHost: a\r\nX: 12345678901"),
            End::InStep(401),
        ));
    }
    all
}
