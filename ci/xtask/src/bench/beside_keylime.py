"""Keylime's verifier on a quote of crates/evidence/vectors: `beside_keylime.py VECTOR` prints {"per_second", "version"}.

Calls keylime.tpm.tpm_util.checkquote alone: signature, nonce and the digest of the PCR values; no policy. The forms that it
takes (PEM key, tpm2-tools' structure dump of PCRs, raw nonce) are made before the clock starts.
"""

import importlib.metadata
import json
import struct
import sys
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from keylime.tpm import tpm_util


def pem(public: bytes) -> bytes:
    """A TPMT_PUBLIC without policy, of P-256 or RSA-2048."""
    if public[:2] == b"\0\x23":
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(public[-66:-34], "big"), int.from_bytes(public[-32:], "big"), ec.SECP256R1()
        )
    else:
        numbers = rsa.RSAPublicNumbers(65537, int.from_bytes(public[-256:], "big"))
    return numbers.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def dump(indices: list[int], values: bytes) -> bytes:
    """TPML_PCR_SELECTION and TPML_DIGESTs of the SHA-256 bank, as tpm2-tools write them out of memory."""
    bits = sum(1 << i for i in indices)
    out = struct.pack("<I", 1) + struct.pack("<HB3s2x", 0x000B, 3, bits.to_bytes(3, "little")) + bytes(8) * 15
    chunks = [values[i : i + 32] for i in range(0, len(values), 32)]
    out += struct.pack("<II", 1, len(chunks))
    for i in range(8):
        value = chunks[i] if i < len(chunks) else b""
        out += struct.pack("<H64s", len(value), value)
    return out


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        vector = json.load(file)
    key = pem(bytes.fromhex(vector["ak"]["public"]))
    nonce = bytes.fromhex(vector["qualifying_data"])
    quote, signature, values = (bytes.fromhex(vector[name]) for name in ("quote", "signature", "pcrs"))
    pcrs = dump([int(i) for i in vector["policy"]["sets"][0]["values"]], values)
    rates = []
    for _ in range(31):
        count, began = 0, time.process_time()
        while time.process_time() - began < 0.05:
            tpm_util.checkquote(key, nonce, signature, quote, pcrs, "sha256")
            count += 1
        rates.append(count / (time.process_time() - began))
    rates.sort()
    print(json.dumps({"per_second": rates[len(rates) // 2], "version": importlib.metadata.version("keylime")}))


main()
