//! The commands: each takes its arguments and the settings, and reports through [`report`](crate::report).
//!
//! Owns: which command runs, and the settings that all but `completions` need.

pub(crate) mod ask;
pub(crate) mod doctor;
pub(crate) mod quote;
pub(crate) mod unlock;

use clap::CommandFactory as _;

use crate::{
    attest,
    cli::{Cli, Command},
    device::Device,
    error::{Error, Exit},
    origin::Origin,
    report,
    settings::Settings,
};

/// What every command gets.
pub(crate) struct Common {
    pub(crate) settings: Settings,
    pub(crate) json: bool,
    pub(crate) verbose: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Cli) -> Result<Exit, Error> {
    if let Command::Completions { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "edge-client", &mut script);
        report::data(&String::from_utf8_lossy(&script))?;
        return Ok(Exit::Done);
    }
    let common = Common {
        settings: Settings::load(&arguments.place)?,
        json: arguments.json,
        verbose: arguments.verbose,
    };
    match arguments.command {
        Command::Ask(ask) => ask::run(&common, ask).await,
        Command::Quote(quote) => quote::run(&common, quote).await,
        Command::Unlock(unlock) => unlock::run(&common, unlock).await,
        Command::Doctor => doctor::run(&common).await,
        Command::Completions { .. } => Ok(Exit::Done),
    }
}

impl Common {
    /// Opens the device's volume, and tells where its proxy is.
    async fn open(&self) -> Result<(Device, Origin), Error> {
        if self.verbose {
            report::note(&format!(
                "opening {} through {}",
                self.settings.volume.display(),
                self.settings.tcti
            ));
        }
        let device = self.device().await?;
        let origin = self.origin(&device)?;
        Ok((device, origin))
    }

    async fn device(&self) -> Result<Device, Error> {
        let (path, mut keys) = (self.settings.volume.clone(), self.settings.keys());
        let expected = self.settings.expected.clone();
        Ok(attest::blocking(move || Device::open(&path, &mut keys, &expected)).await?)
    }

    fn origin(&self, device: &Device) -> Result<Origin, Error> {
        match &self.settings.proxy {
            Some(origin) => Ok(origin.clone()),
            None => Ok(device.config.proxy.parse()?),
        }
    }
}
