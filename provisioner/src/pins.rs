//! The PINs of a run: out of a file, the same for every device of the run, or asked for at the terminal, one for each.
//!
//! Owns: that a PIN is asked for once and remembered until the run ends, and that looking asks nobody: a plan is made without a person.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use domain::{DeviceId, Pin};

use crate::{failure::Failure, secrets};

/// Where the PINs of a run come from.
#[derive(Default)]
pub(crate) struct Pins {
    file: Option<PathBuf>,
    of_all: Option<Pin>,
    typed: BTreeMap<DeviceId, Pin>,
}

impl Pins {
    /// Out of `file`, `-` being standard input, or else from the terminal.
    pub(crate) fn from_file(file: Option<&Path>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            ..Self::default()
        }
    }

    /// The PIN of a device that has one, if it is known without asking.
    pub(crate) fn known(&mut self, device: &DeviceId) -> Result<Option<&Pin>, Failure> {
        if let Some(file) = &self.file {
            // Read once: standard input gives it once.
            if self.of_all.is_none() {
                self.of_all = Some(secrets::pin(Some(file))?);
            }
            return Ok(self.of_all.as_ref());
        }
        Ok(self.typed.get(device))
    }

    /// The PIN that a device is to have; asks for it, twice.
    pub(crate) fn wanted(&mut self, device: &DeviceId) -> Result<(), Failure> {
        if self.known(device)?.is_none() {
            let pin = secrets::new_pin_of(device)?;
            self.typed.insert(device.clone(), pin);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_every_devices_and_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pin");
        std::fs::write(&file, "2468\n").unwrap();
        let mut pins = Pins::from_file(Some(&file));
        let same = |pins: &mut Pins, device: &str| {
            let pin = pins.known(&device.parse().unwrap()).unwrap().unwrap();
            pin.expose(|text| text == b"2468")
        };
        assert!(same(&mut pins, "one"));
        std::fs::remove_file(&file).unwrap();
        assert!(same(&mut pins, "two"));
        assert!(pins.wanted(&"three".parse().unwrap()).is_ok());
    }

    #[test]
    fn looking_asks_nobody_and_a_bad_file_is_told_without_what_is_in_it() {
        let device: DeviceId = "one".parse().unwrap();
        assert!(Pins::default().known(&device).unwrap().is_none());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pin");
        std::fs::write(&file, b"canary\0canary").unwrap();
        let failure = Pins::from_file(Some(&file)).wanted(&device).unwrap_err();
        assert_eq!(failure.exit(), 2);
        assert!(!format!("{failure} {:?}", failure.causes()).contains("canary"));
    }
}
