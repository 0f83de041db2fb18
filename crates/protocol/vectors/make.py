"""Writes v1.json: fixed inputs and outputs of the wire contract, version 1 (docs/protocol.md).

This is a second implementation, on purpose in another language and with another crypto library (`cryptography`), so
that the test that reads the file compares two readings of the contract and not one with itself.
Run: python3 make.py > v1.json
"""
import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def lp(x):
    x = x.encode() if isinstance(x, str) else x
    return len(x).to_bytes(4, "big") + x


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def sha256(data):
    return hashlib.sha256(data).digest()


def b64(data):
    return base64.b64encode(data).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


ROOT = bytes(range(32))
KEY_ID = "2026-11"
FLEET, AUDIENCE, DEVICE, POLICY = "demo", "https://llm.demo.example", "kiosk-bern-01", "kiosk"
PSK_ENTROPY = bytes(range(32, 64))
PSK = "sbx_" + b64url(PSK_ENTROPY)
NOW = 1_800_000_000


def derive(label):
    return HKDF(SHA256(), 32, salt=None, info=label.encode()).derive(ROOT)


CHALLENGE_KEY, TOKEN_KEY = derive("signalbox/challenge-key/1"), derive("signalbox/token-key/1")

RANDOM = bytes.fromhex("0011223344556677")
TIME = NOW.to_bytes(8, "big")
NONCE_INPUT = b"signalbox/nonce/1" + lp(FLEET) + lp(AUDIENCE) + lp(DEVICE) + TIME + RANDOM
NONCE = TIME + RANDOM + mac(CHALLENGE_KEY, NONCE_INPUT)[:16]

SEED = bytes(range(64, 96))
PAIR = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC_KEY = PAIR.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def quote_input(binding):
    return b"signalbox/quote/1" + lp(FLEET) + lp(AUDIENCE) + lp(DEVICE) + lp(sha256(PSK.encode())) + lp(NONCE) + lp(binding)


def bindings():
    body = b'{"model":"smollm2:135m"}'
    for method, target, body in [("POST", "/api/chat", body), ("GET", "/api/tags?x=1", b"")]:
        binding = b"request" + lp(method) + lp(target) + lp(sha256(body))
        yield {
            "kind": "request", "method": method, "target": target, "body": body.decode(),
            "binding": binding.hex(), "hashed": quote_input(binding).hex(),
            "qualifying_data": sha256(quote_input(binding)).hex(),
        }
    binding = b"session" + lp(PUBLIC_KEY)
    yield {
        "kind": "session", "public_key": PUBLIC_KEY.hex(), "binding": binding.hex(),
        "hashed": quote_input(binding).hex(), "qualifying_data": sha256(quote_input(binding)).hex(),
    }


AK_NAME = bytes.fromhex("000b") + sha256(b"an attestation key")
GENERATION, REVISION, RESETS, RESTARTS, EXPIRES = 7, 3, 12, 1, NOW + 600
CLAIMS = (
    lp(FLEET) + lp(AUDIENCE) + lp(DEVICE) + sha256(PSK.encode()) + lp(AK_NAME) + PUBLIC_KEY
    + GENERATION.to_bytes(8, "big") + lp(POLICY) + REVISION.to_bytes(8, "big")
    + RESETS.to_bytes(4, "big") + RESTARTS.to_bytes(4, "big") + EXPIRES.to_bytes(8, "big")
)
TOKEN_MAC = mac(TOKEN_KEY, b"signalbox/session/1" + lp(KEY_ID) + CLAIMS)
TOKEN = KEY_ID + "." + b64url(CLAIMS + TOKEN_MAC)


def requests():
    components = '("@method" "@path" "@query" "content-digest" "attestation-session")'
    for number, (method, path, query, body) in enumerate([
        ("POST", "/api/chat", None, '{"model":"smollm2:135m","messages":[]}'),
        ("GET", "/api/tags", None, ""),
        ("POST", "/v1/chat/completions", "a=%20b&c", "{}"),
    ]):
        nonce = bytes([number] * 16)
        created = NOW + number
        digest = "sha-256=:" + b64(sha256(body.encode())) + ":"
        params = f'{components};created={created};nonce="{b64(nonce)}";alg="ed25519";tag="signalbox"'
        base = "\n".join([
            f'"@method": {method}', f'"@path": {path}', f'"@query": ?{query or ""}', f'"content-digest": {digest}',
            f'"attestation-session": {TOKEN}', f'"@signature-params": {params}',
        ])
        yield {
            "method": method, "path": path, "query": query, "body": body, "session": TOKEN, "created": created,
            "nonce": nonce.hex(), "signature_base": base, "content-digest": digest, "signature-input": f"sbx={params}",
            "signature": "sbx=:" + b64(PAIR.sign(base.encode())) + ":",
        }


print(json.dumps({
    "version": 1,
    "lp": [{"field": x.hex(), "out": lp(x).hex()} for x in [b"", b"a", b"kiosk-bern-01", bytes(300)]],
    "header_bytes": [{"bytes": x.hex(), "value": f":{b64(x)}:"} for x in [b"", b"\x00", b"\xfb\xff\xfe", bytes(range(40))]],
    "psk": {"entropy": PSK_ENTROPY.hex(), "text": PSK, "digest": sha256(PSK.encode()).hex()},
    "subject": {"fleet": FLEET, "audience": AUDIENCE, "device": DEVICE},
    "keys": {"id": KEY_ID, "root": ROOT.hex(), "challenge_key": CHALLENGE_KEY.hex(), "token_key": TOKEN_KEY.hex()},
    "nonce": {"time": NOW, "random": RANDOM.hex(), "mac_input": NONCE_INPUT.hex(), "nonce": NONCE.hex()},
    "session_key": {"seed": SEED.hex(), "public_key": PUBLIC_KEY.hex()},
    "bindings": list(bindings()),
    "token": {
        "ak_name": AK_NAME.hex(), "generation": GENERATION, "policy": POLICY, "policy_revision": REVISION,
        "reset_count": RESETS, "restart_count": RESTARTS, "expires_at": EXPIRES, "claims": CLAIMS.hex(),
        "mac": TOKEN_MAC.hex(), "token": TOKEN,
    },
    "requests": list(requests()),
}, indent=1))
