//! What fuzzing starts from: a folder for each target, most of it out of the vectors.

use std::{error::Error, fs, path::Path};

use domain::{FleetRoot, Sha256Digest, UnixTime};
use protocol::{
    FleetKeys, headers,
    signature::{RequestParts, SessionKey, sign},
};
use zeroize::Zeroizing;

use crate::{forge, vector::Vector};

/// Writes them below `folder`.
///
/// # Errors
/// A vector that is none, a folder that cannot be written.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/evidence/vectors");
    for entry in fs::read_dir(&vectors)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().ok_or("a name")?.to_string_lossy().into_owned();
            of_vector(folder, &name, &Vector::read(&fs::read_to_string(&path)?))?;
        }
    }
    for entry in fs::read_dir(vectors.join("keys"))? {
        let path = entry?.path();
        let name = path.file_stem().ok_or("a name")?.to_string_lossy().into_owned();
        let area = Vector::read(&fs::read_to_string(&path)?).bytes("/public");
        for target in ["public", "keys", "offline"] {
            put(folder, target, &name, &area)?;
        }
    }
    of_certificates(folder)?;
    of_rules(folder)?;
    of_event_logs(folder)?;
    of_volumes(folder)?;
    of_proxies(folder)?;
    of_gate(folder)?;
    of_bodies(folder)?;
    of_protocol(folder)
}

/// Heads with and without a body, and answers of each kind.
fn of_gate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let heads = [
        "GET /api/version HTTP/1.1\r\nHost: a\r\nX-Pre-Shared-Key: k\r\n\r\n",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ];
    for (nth, head) in heads.iter().enumerate() {
        put(folder, "request_head", &nth.to_string(), head.as_bytes())?;
    }
    let answers = [
        "\0{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
        "\u{1}{\"done\":false}\n{\"done\":true,\"prompt_eval_count\":26,\"eval_count\":298}\n",
        "\u{2}data: {\"message\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
    ];
    for (nth, answer) in answers.iter().enumerate() {
        put(folder, "stream_count", &nth.to_string(), answer.as_bytes())?;
    }
    Ok(())
}

/// Bodies for every endpoint, with and without strict rules: what passes, and what has two meanings.
fn of_bodies(folder: &Path) -> Result<(), Box<dyn Error>> {
    let bodies = [
        r#"{"model":"m","messages":[{"role":"user","content":"a","images":["aGk="]}],"stream":false,"options":{"num_ctx":9999,"num_predict":-1,"seed":1},"keep_alive":-1}"#,
        r#"{"model":"m","prompt":"a","raw":true,"system":"b","template":"c","keep_alive":"5m","format":{"type":"object","properties":{"Model":{"type":"string"}}}}"#,
        r#"{"model":"m","MODEL":"n","\u017fystem":"s","\u212aeep_alive":"100h","mode\u006c":"n"}"#,
        r#"{"model":"m","max_tokens":1e300,"max_completion_tokens":5,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"stream_options":{"include_usage":true}}"#,
        r#"{"model":"m","input":[{"type":"message","role":"developer","content":[{"type":"input_image","image_url":"data:,"}]}],"max_output_tokens":0,"instructions":"s"}"#,
        r#"{"model":"m","system":[{"type":"text","text":"s"}],"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"Role":"x"}}]}],"max_tokens":7}"#,
        r#"{"name":"m","verbose":true}"#,
    ];
    for (nth, body) in bodies.iter().enumerate() {
        for endpoint in 0..domain::Endpoint::ALL.len() {
            for strict in [0, 1] {
                let choice = u8::try_from(endpoint * 2 + strict)?;
                let bytes = [&[choice], body.as_bytes()].concat();
                put(folder, "request_body", &format!("{nth}-{choice}"), &bytes)?;
            }
        }
    }
    Ok(())
}

/// Headers of both versions of the PROXY protocol.
fn of_proxies(folder: &Path) -> Result<(), Box<dyn Error>> {
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\x7f\0\0\x01\0\x50\x01\xbb\x04\0\0GET";
    put(folder, "proxy_header", "version-2", binary)?;
    put(
        folder,
        "proxy_header",
        "version-1",
        b"PROXY TCP6 2001:db8::7 ::1 1234 443\r\nGET",
    )
}

fn put(folder: &Path, target: &str, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn of_vector(folder: &Path, name: &str, vector: &Vector) -> Result<(), Box<dyn Error>> {
    let (quote, signature, pcrs) = (
        vector.bytes("/quote"),
        vector.bytes("/signature"),
        vector.bytes("/pcrs"),
    );
    put(folder, "attest", name, &quote)?;
    put(folder, "signature", name, &signature)?;
    put(folder, "public", name, &vector.bytes("/ak/public"))?;
    put(folder, "keys", name, &vector.bytes("/ak/public"))?;
    put(
        folder,
        "offline",
        &format!("{name}-key"),
        &vector.bytes("/ak/public"),
    )?;
    for (target, path) in [
        ("event_log", "/event_log"),
        ("image_statement", "/image_statement"),
        ("image_statement", "/policy/statement/keys/0"),
    ] {
        if let Some(bytes) = vector.bytes_at(path) {
            put(
                folder,
                target,
                &format!("{name}{}", path.replace('/', "-")),
                &bytes,
            )?;
        }
    }
    if let (Ok(a), Ok(b)) = (u8::try_from(quote.len()), u8::try_from(signature.len())) {
        let whole = [&[a, b], &quote[..], &signature, &pcrs].concat();
        put(folder, "evidence", name, &whole)?;
        put(folder, "offline", name, &whole)?;
    }
    // The selection stands behind qualifiedSigner, extraData of 32 octets, clock info and firmware version.
    if let Some(selection) = quote.get(101..quote.len().saturating_sub(34)) {
        put(folder, "pcr_selections", name, selection)?;
    }
    let session = format!(
        r#"{{"quote":{:?},"signature":{:?},"pcrs":{:?},"nonce":"BA==","public_key":"BQ=="}}"#,
        data_encoding::BASE64.encode(&quote),
        data_encoding::BASE64.encode(&signature),
        data_encoding::BASE64.encode(&pcrs)
    );
    put(folder, "messages", name, session.as_bytes())?;
    let lines = [
        (headers::PSK, "a".repeat(43)),
        (headers::QUOTE, headers::bytes(&quote)),
        (headers::QUOTE_SIGNATURE, headers::bytes(&signature)),
        (headers::QUOTE_PCRS, headers::bytes(&pcrs)),
        (headers::QUOTE_NONCE, headers::bytes(&[4; 32])),
    ];
    let lines = lines.map(|(name, value)| format!("{name}: {value}\n"));
    put(folder, "credentials", name, lines.concat().as_bytes())?;
    put(folder, "header_bytes", name, headers::bytes(&pcrs).as_bytes())
}

/// A root and an EK certificate under it, made with openssl: DER, PEM, and padded as a TPM's NV index holds it.
fn of_certificates(folder: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("certificates"))? {
        let path = entry?.path();
        let name = path.file_name().ok_or("a name")?.to_string_lossy().into_owned();
        put(folder, "certificates", &name, &fs::read(&path)?)?;
    }
    Ok(())
}

/// What was signed, a key in PEM, and a boot with Secure Boot on.
fn of_rules(folder: &Path) -> Result<(), Box<dyn Error>> {
    let statement = format!(
        r#"{{"bank":"sha256","digest":"{}","pcrs":[11],"phase":"ready","profile":"kiosk-vm","release":7}}"#,
        "ab".repeat(32)
    );
    put(folder, "image_statement", "signed", statement.as_bytes())?;
    let pem = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
    put(folder, "image_statement", "pem", pem.as_bytes())?;
    let value = "ab".repeat(32);
    let golden = format!(
        r#"{{"bank":"sha256","pcrs":{{"0":"{value}"}},"golden":{{"2026-09":{{"until":1795000000,"pcrs":{{"4":"{value}"}}}},"2026-10":{{"pcrs":{{"4":"{value}"}}}}}}}}"#
    );
    let log = format!(
        r#"{{"bank":"sha256","log":{{"secure_boot":true,"keys":{{"db":["{value}"]}},"authorities":["{value}"],"command_line":["quiet root=* **"],"no_debug_shell":true,"replays":[2]}}}}"#
    );
    let statement = format!(
        r#"{{"bank":"sha256","statement":{{"keys":["MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="],"profile":"kiosk","least_release":7,"pcrs":[11],"revoked":["{value}"]}}}}"#
    );
    for (name, json) in [("golden", golden), ("log", log), ("statement", statement)] {
        serde_json::from_str::<evidence::DeclaredPolicy>(&json)?;
        put(folder, "declared_policy", name, json.as_bytes())?;
    }
    for (name, text) in [
        ("exact", "quiet root=/dev/vda\nquiet root=/dev/vda"),
        ("any", "quiet ** ro\nquiet root=/dev/vda init=/bin/sh ro"),
        ("star", "root=/dev/* ?o\nroot=/dev/vda ro"),
    ] {
        put(folder, "command_line_pattern", name, text.as_bytes())?;
    }
    let of = |pcr: u8, measured: &[u8]| {
        let len = u8::try_from(measured.len()).unwrap_or(u8::MAX);
        [&[pcr, len], measured].concat()
    };
    let wide: Vec<u8> = "quiet root=a\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let on = forge::boot::config(forge::boot::GLOBAL, "SecureBoot", &[1]);
    let boot = [of(0, &on.measured), of(0, &[0; 4]), of(2, &wide)].concat();
    for switches in 1..16 {
        put(
            folder,
            "log_rules",
            &switches.to_string(),
            &[&[switches], &boot[..]].concat(),
        )?;
    }
    Ok(())
}

/// A SHA-1 log and a crypto-agile one, of three events each.
fn of_event_logs(folder: &Path) -> Result<(), Box<dyn Error>> {
    let words = |list: &[u32]| -> Vec<u8> { list.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let sha1 = |pcr, kind, data: &[u8]| {
        let len = u32::try_from(data.len()).unwrap_or_default();
        [&words(&[pcr, kind])[..], &[1; 20], &words(&[len]), data].concat()
    };
    let name = "SecureBoot";
    let mut variable = vec![0x61; 16];
    variable.extend(10_u64.to_le_bytes());
    variable.extend(1_u64.to_le_bytes());
    variable.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    variable.push(1);
    put(folder, "uefi_variable", "secure-boot", &variable)?;
    let plain = [
        sha1(0, 8, b"v1.0"),
        sha1(7, 0x8000_0001, &variable),
        sha1(7, 4, &[0; 4]),
        vec![0xff; 16],
    ];
    put(folder, "event_log", "sha1", &plain.concat())?;
    let mut spec = b"Spec ID Event03\0\0\0\0\0\0\x02\x00\x02\x02\0\0\0".to_vec();
    spec.extend([0x04, 0, 20, 0, 0x0b, 0, 32, 0, 0]);
    let mut agile = [
        &words(&[0, 3])[..],
        &[0; 20],
        &words(&[u32::try_from(spec.len())?]),
        &spec,
    ]
    .concat();
    for (pcr, kind, data) in [
        (0, 8, &b"v1.0"[..]),
        (7, 0x8000_0001, &variable),
        (11, 13, b".linux\0"),
    ] {
        agile.extend(words(&[pcr, kind, 2]));
        agile.extend([&[0x04, 0][..], &[1; 20], &[0x0b, 0], &[2; 32]].concat());
        agile.extend(words(&[u32::try_from(data.len())?]));
        agile.extend(data);
    }
    put(folder, "event_log", "crypto-agile", &agile)
}

/// The JSON area of a volume as this project writes it, and its token.
fn of_volumes(folder: &Path) -> Result<(), Box<dyn Error>> {
    let token = format!(
        r#"{{"type":"systemd-tpm2","keyslots":["0"],"tpm2-blob":"q6urqw==","tpm2-pcrs":[7,11],"tpm2-pcr-bank":"sha256","tpm2-primary-alg":"ecc","tpm2-policy-hash":"{}","tpm2-pin":false}}"#,
        "cd".repeat(32)
    );
    put(folder, "tpm2_token", "exact-pcrs", token.as_bytes())?;
    let salt = data_encoding::BASE64.encode(&[5; 32]);
    // What systemd 255 and later add, signed policy and storage key among it.
    let every = token.replace("\"tpm2-pin\":false", &format!(
        r#""tpm2-pin":true,"tpm2_pubkey_pcrs":[11],"tpm2_pubkey":"LS0tLS0=","tpm2_salt":"{salt}","tpm2_srk":"{}""#,
        data_encoding::BASE64.encode(&[&[0x81, 0, 0, 1][..], &[0; 100]].concat())
    ));
    put(folder, "tpm2_token", "every-field", every.as_bytes())?;
    put(
        folder,
        "tpm2_token",
        "shards",
        token.replace("\"q6urqw==\"", "[\"q6urqw==\"]").as_bytes(),
    )?;
    let otp = format!(
        r#"{{"type":"signalbox-otp","keyslots":["0"],"version":1,"otp-label":"signalbox/otp/1","otp-recipe":1,"otp-key-id":1,"otp-device":"edge-1","otp-salt":"{salt}"}}"#
    );
    put(folder, "otp_token", "documented", otp.as_bytes())?;
    let area = format!(
        r#"{{"keyslots":{{"0":{{"type":"luks2","key_size":64,"af":{{"type":"luks1","stripes":4000,"hash":"sha512"}},"area":{{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64","key_size":64}},"kdf":{{"type":"pbkdf2","hash":"sha512","iterations":1000,"salt":"{salt}"}}}}}},"tokens":{{"0":{token}}},"segments":{{"0":{{"type":"crypt","offset":"16777216","size":"16777216","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}}}},"digests":{{"0":{{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"{salt}","digest":"{salt}"}}}},"config":{{"json_size":"12288","keyslots_size":"16744448"}}}}"#
    );
    put(folder, "volume_header", "json", area.as_bytes())?;
    put(folder, "volume_header", "whole", &crate::around(area.as_bytes()))?;
    put(folder, "file_system", "one-change", &[4, 4, 0, 0, 1])
}

fn of_protocol(folder: &Path) -> Result<(), Box<dyn Error>> {
    let key = SessionKey::from_seed(&Zeroizing::new([7; 32]));
    let body_digest = Sha256Digest::of(b"");
    let request = RequestParts {
        method: "POST",
        path: "/api/chat",
        query: None,
        body_digest: &body_digest,
        session: "fuzz.token",
    };
    let signed = sign(&key, &request, UnixTime::from_secs(1_700_000_000), [9; 16]);
    let lines = [signed.content_digest, signed.signature_input, signed.signature].join("\n");
    put(folder, "request_signature", "good", lines.as_bytes())?;
    // A token's claims: fields with their lengths, as docs/protocol.md lists them.
    let keys = FleetKeys::derive(
        "fuzz".parse()?,
        &FleetRoot::copy_from(&[0x42; 32]).ok_or("a root")?,
    );
    let claims = protocol::token::Claims {
        fleet: "demo".parse()?,
        audience: "https://llm.example".parse()?,
        device: "kiosk-01".parse()?,
        psk: domain::PskDigest::of(b"psk"),
        ak_name: domain::TpmName::try_from([&[0, 0x0b][..], &[3; 32]].concat())?,
        public_key: key.public_key(),
        generation: 1,
        policy: "kiosk".parse()?,
        policy_revision: 1,
        reset_count: 2,
        restart_count: 3,
        expires_at: UnixTime::from_secs(1_800_000_000),
    };
    let token = protocol::token::mint(&protocol::KeyRing::new(keys, None), &claims);
    put(folder, "session_token", "text", token.as_bytes())?;
    let (_, sealed) = token.split_once('.').ok_or("a token")?;
    let sealed = data_encoding::BASE64URL_NOPAD.decode(sealed.as_bytes())?;
    let (claims, _) = sealed.split_at(sealed.len() - 32);
    put(folder, "session_token", "claims", claims)?;
    let challenge = br#"{"nonce":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","audience":"https://llm.example","bank":"sha256","select":[7,11],"expires_in":60,"now":1700000000}"#;
    put(folder, "messages", "challenge", challenge)?;
    put(
        folder,
        "messages",
        "granted",
        br#"{"session":"a.b","expires_in":600,"device":"kiosk-01"}"#,
    )
}
