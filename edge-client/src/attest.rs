//! Quotes of this device's TPM.
//!
//! Owns: the blocking calls, moved off the async threads. The TPM is opened for each quote and closed after it: a
//! kiosk quotes once in ten minutes, and other programs need the TPM too.

use domain::PcrSelection;
use tpm::{AkHandle, Quote, Tcti, Tpm};

use crate::device::DeviceError;

/// Quotes `selection`, bound to `qualifying_data`.
pub(crate) async fn quote(
    tcti: &Tcti,
    ak: AkHandle,
    qualifying_data: [u8; 32],
    selection: PcrSelection,
) -> Result<Quote, DeviceError> {
    let tcti = tcti.clone();
    blocking(move || Ok(Tpm::open(&tcti)?.quote(ak, &qualifying_data, &selection)?)).await
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(DeviceError::BrokenOff))
}
