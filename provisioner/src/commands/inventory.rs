//! `provisioner inventory`: what a factory must know of a TPM to seal volumes to it while it is away.
//!
//! Owns: the file, in JSON, and reading it back strictly: a storage key whose Name is not that of its public area is none. No secret
//! is in it. All of it is the word of whoever answered: **who answered when the storage key was collected reads what is sealed
//! to it.** Collect where you enrol; `evidence ek` judges the certificate.

use std::{collections::BTreeMap, path::Path};

use data_encoding::{BASE64, HEXLOWER};
use domain::{EkDigest, HashAlg, PcrIndex, PcrSelection, PcrValue, PcrValues, TpmPublic};
use serde::{Deserialize, Serialize};
use tpm::{StorageKey, StorageTemplate, Tpm};

use crate::{
    adapters::escrows,
    cli::{CollectArgs, InventoryCommand},
    failure::Failure,
    report::Reporter,
};

/// The only version of the file so far.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    signalbox_inventory: u32,
    manufacturer: String,
    vendor: String,
    firmware: String,
    endorsement_keys: Vec<Endorsement>,
    storage_keys: Vec<Storage>,
    /// The values at the moment of collecting, by bank and number.
    pcrs: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Endorsement {
    algorithm: String,
    digest: String,
    public: String,
    certificate: Option<String>,
    chain: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Storage {
    template: String,
    name: String,
    handle: Option<String>,
    public: String,
}

pub(super) fn run(command: InventoryCommand, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    match command {
        InventoryCommand::Collect(args) => collect(&args, reporter),
    }
}

fn collect(args: &CollectArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let document = {
        let mut tpm = Tpm::open(&args.tcti).map_err(Failure::BareTpm)?;
        look(&mut tpm).map_err(Failure::BareTpm)?
    };
    let json = serde_json::to_value(&document).map_err(|e| Failure::Output(e.into()))?;
    let text = serde_json::to_string_pretty(&document).map_err(|e| Failure::Output(e.into()))? + "\n";
    match &args.output {
        Some(path) => Ok(escrows::write(path, &text, true)?),
        None => reporter.data(&text, &json),
    }
}

fn look(tpm: &mut Tpm) -> Result<Document, tpm::TpmError> {
    let found = tpm.inventory()?;
    let mut pcrs = BTreeMap::new();
    for bank in [HashAlg::Sha256, HashAlg::Sha384] {
        let all = (0_u64..24).filter_map(|number| PcrIndex::try_from(number).ok());
        let Ok(selection) = PcrSelection::new(bank, all) else {
            continue;
        };
        // A bank that the TPM has not is left out.
        if let Ok(values) = tpm.read_pcrs(&selection) {
            let values = values
                .iter()
                .map(|(index, value)| (index.to_string(), value.to_string()));
            pcrs.insert(bank.name().to_owned(), values.collect());
        }
    }
    let endorsement_keys = found.endorsement.into_iter().map(|key| Endorsement {
        algorithm: key.alg.to_string(),
        digest: key.digest.to_string(),
        public: BASE64.encode(key.info.public.as_bytes()),
        certificate: key.info.certificate.map(|der| BASE64.encode(&der)),
        chain: key.info.chain.iter().map(|part| BASE64.encode(part)).collect(),
    });
    let storage_keys = found.storage.iter().map(|key| Storage {
        template: key.key.template().to_string(),
        name: HEXLOWER.encode(key.key.name().as_bytes()),
        handle: key.handle.map(|handle| format!("{handle:#010x}")),
        public: BASE64.encode(key.key.public().as_bytes()),
    });
    Ok(Document {
        signalbox_inventory: VERSION,
        manufacturer: found.identity.manufacturer,
        vendor: found.identity.vendor,
        firmware: format!("{:#018x}", found.identity.firmware_version),
        endorsement_keys: endorsement_keys.collect(),
        storage_keys: storage_keys.collect(),
        pcrs,
    })
}

/// A TPM as a file tells of it.
pub(crate) struct Collected {
    keys: Vec<StorageKey>,
    endorsements: Vec<String>,
    pcrs: BTreeMap<String, BTreeMap<String, String>>,
    path: std::path::PathBuf,
}

/// Why a file is no inventory, or not one that can be sealed to.
#[derive(Debug, thiserror::Error)]
enum NoInventory {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it has version {0}, only {VERSION} is known")]
    Version(u32),
    #[error("one of its storage keys is none, or its Name is that of another")]
    Key,
    #[error("it has no storage key of the template {0}; see --srk")]
    NoKey(StorageTemplate),
    #[error("it has no values of {0}")]
    NoValues(PcrSelection),
}

impl Collected {
    /// Reads what `inventory collect` wrote.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = escrows::read(path)?;
        Self::parse(path, &bytes).map_err(|e| refused(path, e))
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, NoInventory> {
        let document: Document = serde_json::from_slice(bytes)?;
        if document.signalbox_inventory != VERSION {
            return Err(NoInventory::Version(document.signalbox_inventory));
        }
        let key = |storage: &Storage| {
            let area = BASE64.decode(storage.public.as_bytes()).ok()?;
            let key = StorageKey::new(&TpmPublic::try_from(area).ok()?).ok()?;
            let named = HEXLOWER.encode(key.name().as_bytes()) == storage.name
                && key.template().to_string() == storage.template;
            named.then_some(key)
        };
        let keys: Option<Vec<StorageKey>> = document.storage_keys.iter().map(key).collect();
        Ok(Self {
            keys: keys.ok_or(NoInventory::Key)?,
            endorsements: document
                .endorsement_keys
                .into_iter()
                .map(|key| key.digest)
                .collect(),
            pcrs: document.pcrs,
            path: path.to_owned(),
        })
    }

    /// Whether the TPM said that it has this endorsement key.
    pub(crate) fn is_of(&self, ek: &EkDigest) -> bool {
        self.endorsements.contains(&ek.to_string())
    }

    /// Its storage keys.
    pub(crate) fn storage_keys(&self) -> &[StorageKey] {
        &self.keys
    }

    /// Its storage key of a template.
    pub(crate) fn storage_key(&self, template: StorageTemplate) -> Result<&StorageKey, Failure> {
        let found = self.keys.iter().find(|key| key.template() == template);
        found.ok_or_else(|| refused(&self.path, NoInventory::NoKey(template)))
    }

    /// The values that these PCRs had when it was collected.
    pub(crate) fn values(&self, pcrs: &PcrSelection) -> Result<PcrValues, Failure> {
        let bank = self.pcrs.get(pcrs.bank().name());
        let mut bytes = Vec::new();
        for index in pcrs.iter() {
            let value = bank.and_then(|bank| bank.get(&index.to_string()));
            let value = value.and_then(|text| PcrValue::from_hex(pcrs.bank(), text).ok());
            let value = value.ok_or_else(|| refused(&self.path, NoInventory::NoValues(*pcrs)))?;
            bytes.extend_from_slice(value.as_bytes());
        }
        PcrValues::new(*pcrs, bytes).map_err(|_| refused(&self.path, NoInventory::NoValues(*pcrs)))
    }
}

fn refused(path: &Path, why: NoInventory) -> Failure {
    Failure::NotEvidence {
        what: "inventory of a TPM that can be sealed to",
        path: path.to_owned(),
        source: why.into(),
    }
}
