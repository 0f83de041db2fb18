//! The plan as text for a person.

use std::fmt;

use super::{DevicePlan, Irreversible, Plan, PolicyStep, Step, Target, allowances, demands};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fleet {}", self.fleet)?;
        for policy in &self.policies {
            write!(f, "\n{policy}")?;
        }
        for device in &self.devices {
            write!(f, "\n{device}")?;
        }
        if self.is_empty() {
            writeln!(f, "\nnothing is to be done")?;
        }
        writeln!(f, "\nplan digest: {}", self.digest())
    }
}

impl fmt::Display for PolicyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.replaces {
            None => "register it",
            Some(_) => "change it: the sessions of all its devices end",
        };
        writeln!(f, "policy {}", self.policy)?;
        writeln!(f, "  do     {what} (revision {})", self.record.revision)?;
        for (label, allowed) in allowances(&self.record) {
            writeln!(f, "  {label:<6} {allowed}")?;
        }
        if self.drops_certificates {
            writeln!(f, "  certs  no longer looked at: the pre-shared key comes alone")?;
        }
        for (nth, demand) in demands(self.record.evidence.as_ref()).iter().enumerate() {
            writeln!(f, "  {:<6} {demand}", if nth == 0 { "asks" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for DevicePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        writeln!(f, "device {}", self.device)?;
        if let Some(tpm) = target.tpm() {
            writeln!(f, "  TPM    {}", tpm.tcti)?;
            let trust = trust(tpm.ek_trust);
            writeln!(f, "  EK     {} {} ({trust})", tpm.ek_alg, tpm.ek)?;
            if let Some(certified) = &tpm.ek_certified {
                writeln!(f, "         {}", certified.words)?;
            }
            writeln!(f, "  AK     {}", tpm.ak_handle)?;
        }
        writeln!(f, "  volume {}", target.volume.display())?;
        match target.tpm() {
            Some(tpm) => writeln!(f, "  seal   {}", tpm.seal.words())?,
            None => writeln!(f, "  seal   this board's OTP device key; no TPM")?,
        }
        if let Some(index) = target.tpm().and_then(|tpm| tpm.rollback_counter) {
            writeln!(
                f,
                "  age    counted at NV index {index}; an older volume is refused"
            )?;
        }
        if target.cipher != volume::DataCipher::default()
            || target.sector_size != volume::SectorSize::default()
        {
            let sectors = target.sector_size.bytes();
            writeln!(f, "  cipher {}, sectors of {sectors} bytes", target.cipher.name())?;
        }
        if let Some(content) = &target.content {
            writeln!(f, "  holds  the key and what is in {}", content.display())?;
        }
        if !target.escrow.is_empty() {
            writeln!(f, "  escrow a recovery key to {}", target.escrow.join(", "))?;
            writeln!(f, "         in {}", target.escrow_file.display())?;
        }
        writeln!(f, "  policy {}, profile {}", target.policy, target.profile)?;
        for (nth, line) in target.client_certificate.lines().iter().enumerate() {
            writeln!(f, "  {:<6} {line}", if nth == 0 { "cert" } else { "" })?;
        }
        for step in &self.irreversible {
            writeln!(f, "  do     CANNOT BE UNDONE: {}", step.words(self))?;
        }
        for step in &self.steps {
            writeln!(f, "  do     {}", step.words(self))?;
        }
        if self.steps.is_empty() && self.irreversible.is_empty() {
            writeln!(f, "  do     nothing: it is enrolled and its volume opens")?;
        }
        writeln!(f, "  proof  {}", self.proof)?;
        for (nth, line) in self.protects.iter().enumerate() {
            writeln!(f, "  {:<6} {line}", if nth == 0 { "guards" } else { "" })?;
        }
        for note in &self.notes {
            writeln!(f, "  note   {note}")?;
        }
        Ok(())
    }
}

/// How an endorsement key is trusted, for people.
pub(super) const fn trust(trust: registry::EkTrust) -> &'static str {
    match trust {
        registry::EkTrust::FirstUse => "trusted on first use",
        registry::EkTrust::Allowed => "on the profile's list",
        registry::EkTrust::Chain => "certified by its maker",
    }
}

impl Step {
    /// What it does, for people.
    pub(crate) fn words(&self, plan: &DevicePlan) -> String {
        let target = &plan.target;
        match self {
            Self::CreateAk => format!("make the attestation key{}", at(target)),
            Self::Bind => {
                "let the TPM prove that it holds endorsement key and attestation key together".to_owned()
            }
            Self::WriteVolume { replace_own } => {
                let mib = target.size / (1024 * 1024);
                let replaces = if *replace_own {
                    ", in place of an interrupted run's"
                } else {
                    ""
                };
                format!("make a pre-shared key and a sealed volume of {mib} MiB around it{replaces}")
            }
            Self::CheckVolume if target.tpm().is_none() => {
                "open the volume with the OTP device key".to_owned()
            }
            Self::CheckVolume => "open the volume through the TPM".to_owned(),
            Self::Enrol => "register the device".to_owned(),
            Self::UpdateRecord => format!(
                "change the device's record to policy {}, profile {}{}; its sessions end",
                target.policy,
                target.profile,
                target.client_certificate.change()
            ),
        }
    }
}

fn at(target: &Target) -> String {
    target
        .tpm()
        .map_or_else(String::new, |tpm| format!(" at {}", tpm.ak_handle))
}

impl Irreversible {
    /// What it does, for people.
    pub(crate) fn words(&self, plan: &DevicePlan) -> String {
        match self {
            Self::EvictKey => format!("remove the key{} from the TPM", at(&plan.target)),
            Self::OverwriteVolume => format!("overwrite '{}'", plan.target.volume.display()),
        }
    }
}
