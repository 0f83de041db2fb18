//! A software TPM that stock tools operate, and what they read off it.

use std::{collections::BTreeMap, fs};

use data_encoding::HEXLOWER;
use domain::TpmPublic;
use evidence::{EndorsementKey, ak_names, wire::Attest};
use testkit::Swtpm;

use crate::vector::{Ak, Hex, Judged, Last, Policy, Set, Vector, Verdict};

/// What the vectors' quotes are bound to.
pub(crate) const QUALIFYING_DATA: [u8; 32] = [0xa5; 32];

/// A TPM with an EK, PCRs 7 and 11 extended.
pub(crate) struct Station {
    pub(crate) tpm: Swtpm,
    pub(crate) ek: EndorsementKey,
}

/// An AK in a station: a handle, and how it signs.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) handle: &'static str,
    pub(crate) ak: Ak,
    pub(crate) hash: &'static str,
    scheme: &'static str,
}

/// What `tpm2_quote` and its sisters wrote.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) quote: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) pcrs: Vec<u8>,
}

impl Station {
    /// `ek` is an algorithm as tpm2-tools name them.
    pub(crate) fn new(ek: &str) -> Self {
        let station = Self::unmeasured(ek);
        station.tpm.extend(7, b"secure boot on");
        station.tpm.extend(11, b"kernel");
        station
    }

    /// The same with every PCR as after a reset.
    pub(crate) fn unmeasured(ek: &str) -> Self {
        let tpm = Swtpm::start();
        tpm.tool("tpm2_createek", &["-G", ek, "-c", "ek.ctx", "-u", "ek.pub"]);
        flush(&tpm);
        let ek = EndorsementKey::new(&public(&tpm, "ek.pub")).unwrap();
        Self { tpm, ek }
    }

    /// A persistent AK under the EK, as `tpm2_createak` makes it.
    pub(crate) fn ak(
        &self,
        alg: &str,
        hash: &'static str,
        scheme: &'static str,
        handle: &'static str,
    ) -> Key {
        let create = [
            "-C", "ek.ctx", "-G", alg, "-g", hash, "-s", scheme, "-c", "ak.ctx", "-u", "ak.pub",
        ];
        self.tpm.tool("tpm2_createak", &create);
        self.keep("ak.ctx", handle);
        self.registered("ak.pub", hash, scheme, handle)
    }

    /// An AK under the owner hierarchy, registered as enrolment would: with the qualified name of a child of the EK.
    pub(crate) fn owner_ak(&self, handle: &'static str) -> Key {
        let primary = ["-C", "o", "-G", "ecc", "-c", "srk.ctx"];
        self.tpm.tool("tpm2_createprimary", &primary);
        flush(&self.tpm);
        let attributes = "restricted|sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth";
        let create = [
            "-C",
            "srk.ctx",
            "-G",
            "ecc256:ecdsa-sha256:null",
            "-a",
            attributes,
            "-u",
            "o.pub",
            "-r",
            "o.priv",
            "-c",
            "o.ctx",
        ];
        self.tpm.tool("tpm2_create", &create);
        self.keep("o.ctx", handle);
        self.registered("o.pub", "sha256", "ecdsa", handle)
    }

    fn keep(&self, context: &str, handle: &str) {
        flush(&self.tpm);
        self.tpm.tool("tpm2_evictcontrol", &["-c", context, handle]);
        flush(&self.tpm);
    }

    fn registered(&self, file: &str, hash: &'static str, scheme: &'static str, handle: &'static str) -> Key {
        let public = public(&self.tpm, file);
        let (_, qualified) = ak_names(&self.ek, &public).unwrap();
        Key {
            handle,
            ak: Ak {
                public: Hex(public.as_bytes().to_vec()),
                qualified_name: Hex(qualified.as_bytes().to_vec()),
            },
            hash,
            scheme,
        }
    }

    /// A quote bound to [`QUALIFYING_DATA`].
    pub(crate) fn quote(&self, key: &Key, selection: &str) -> Said {
        self.quote_bound(key, selection, &QUALIFYING_DATA)
    }

    pub(crate) fn quote_bound(&self, key: &Key, selection: &str, data: &[u8]) -> Said {
        let data = HEXLOWER.encode(data);
        let mut arguments = vec![
            "-c", key.handle, "-l", selection, "-g", key.hash, "--scheme", key.scheme,
        ];
        arguments.extend(["-m", "said", "-s", "signature", "-o", "pcrs", "-F", "values"]);
        if !data.is_empty() {
            arguments.extend(["-q", &data]);
        }
        self.tpm.tool("tpm2_quote", &arguments);
        self.said()
    }

    /// The AK's statement that it is itself loaded: genuine, signed, and no quote.
    pub(crate) fn certify(&self, key: &Key) -> Said {
        let (hash, scheme) = (key.hash, key.scheme);
        let certify = [
            "-c",
            key.handle,
            "-C",
            key.handle,
            "-g",
            hash,
            "--scheme",
            scheme,
            "-o",
            "said",
            "-s",
            "signature",
        ];
        self.tpm.tool("tpm2_certify", &certify);
        self.said()
    }

    /// The AK's statement about the creation of a key.
    pub(crate) fn certify_creation(&self, key: &Key) -> Said {
        let create = [
            "-C",
            "o",
            "-G",
            "ecc",
            "-c",
            "made.ctx",
            "-d",
            "made.hash",
            "-t",
            "made.ticket",
        ];
        self.tpm.tool("tpm2_createprimary", &create);
        let certify = [
            "-C",
            key.handle,
            "-c",
            "made.ctx",
            "-d",
            "made.hash",
            "-t",
            "made.ticket",
            "-g",
            key.hash,
            "-o",
            "signature",
            "--attestation",
            "said",
        ];
        self.tpm.tool("tpm2_certifycreation", &certify);
        self.said()
    }

    /// The AK's statement of the time.
    pub(crate) fn time(&self, key: &Key) -> Said {
        let gettime = [
            "-c",
            key.handle,
            "-g",
            key.hash,
            "-o",
            "signature",
            "--attestation",
            "said",
        ];
        self.tpm.tool("tpm2_gettime", &gettime);
        self.said()
    }

    fn said(&self) -> Said {
        flush(&self.tpm);
        let read = |file: &str| fs::read(self.tpm.dir().join(file));
        Said {
            quote: read("said").unwrap(),
            signature: read("signature").unwrap(),
            pcrs: read("pcrs").unwrap(),
        }
    }
}

impl Key {
    /// What `said` must be, if it is a quote over `indices` whose values are the policy's.
    pub(crate) fn vector(&self, title: &str, said: &Said, policy: Policy, verdict: Verdict) -> Vector {
        Vector {
            title: title.to_owned(),
            ak: self.ak.clone(),
            qualifying_data: Hex(QUALIFYING_DATA.to_vec()),
            last: None,
            policy,
            quote: Hex(said.quote.clone()),
            signature: Hex(said.signature.clone()),
            pcrs: Hex(said.pcrs.clone()),
            event_log: None,
            image_statement: None,
            verdict,
            // Until `main` asks it.
            checkquote: Judged::Refuses,
        }
    }
}

impl Said {
    /// The exact values of these PCRs, as they were quoted.
    pub(crate) fn policy(&self, bank: &str, indices: &[u8]) -> Policy {
        let set = self.set(indices);
        Policy {
            bank: bank.to_owned(),
            now: None,
            sets: vec![set],
            statement: None,
            rules: None,
        }
    }

    pub(crate) fn set(&self, indices: &[u8]) -> Set {
        let len = self.pcrs.len() / indices.len();
        let values = self.pcrs.chunks_exact(len).map(|value| Hex(value.to_vec()));
        Set {
            name: None,
            until: None,
            values: indices.iter().copied().zip(values).collect::<BTreeMap<_, _>>(),
        }
    }

    pub(crate) fn counters(&self) -> Last {
        let clock = Attest::parse(&self.quote).unwrap().clock;
        Last {
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock: clock.clock,
            safe: clock.safe,
        }
    }
}

/// swtpm has three slots and no resource manager.
pub(crate) fn flush(tpm: &Swtpm) {
    for kind in ["-t", "-l", "-s"] {
        tpm.tool("tpm2_flushcontext", &[kind]);
    }
}

/// A `TPM2B_PUBLIC` as the tools write it, without its size.
pub(crate) fn public(tpm: &Swtpm, file: &str) -> TpmPublic {
    let bytes = fs::read(tpm.dir().join(file)).unwrap();
    TpmPublic::try_from(bytes[2..].to_vec()).unwrap()
}
