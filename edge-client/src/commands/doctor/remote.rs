//! The checks at the proxy: does it answer, what does its clock say, does it accept this device's state.

use std::time::{Duration, Instant};

use super::{Common, Finding};
use crate::{
    call::{CallError, Caller},
    device::Device,
    proxy::{Proxy, local_time},
};

/// From here on a wrong clock is worth a word.
const CLOCK_NOTE: Duration = Duration::from_secs(30);

pub(super) async fn check(common: &Common, device: &Device, findings: &mut Vec<Finding>) {
    let proxy = match common
        .origin(device)
        .and_then(|origin| Proxy::new(origin, &device.psk).map_err(|e| CallError::from(e).into()))
    {
        Ok(proxy) => proxy,
        Err(error) => {
            findings.push(Finding::failed("proxy", &error));
            findings.extend(["clock", "session"].map(|name| Finding::waiting(name, "the proxy")));
            return;
        }
    };
    match proxy.challenge().await {
        Ok((challenge, clock)) => {
            let text = format!("{} answers, for {}", proxy.origin(), challenge.audience);
            findings.push(Finding::works("proxy", text));
            findings.push(clock_finding(clock.distance(Instant::now(), local_time())));
        }
        Err(error) => {
            findings.push(Finding::failed("proxy", &CallError::from(error).into()));
            findings.extend(["clock", "session"].map(|name| Finding::waiting(name, "the proxy")));
            return;
        }
    }
    let caller = Caller::new(&proxy, device, &common.settings, common.verbose);
    findings.push(match caller.admit().await {
        Ok(admission) => match (admission.pcrs, admission.expires_in) {
            (Some(pcrs), Some(seconds)) => Finding::works(
                "session",
                format!("the proxy accepts a quote of {pcrs}, for {seconds} s at a time"),
            ),
            _ => Finding::works(
                "session",
                "the proxy accepts the pre-shared key and asks for no quote".to_owned(),
            ),
        },
        Err(error) => Finding::failed("session", &error.into()),
    });
}

fn clock_finding(distance: Duration) -> Finding {
    let text = match distance.as_secs() {
        0 | 1 => "this machine's clock agrees with the proxy's".to_owned(),
        seconds => format!("this machine's clock is {seconds} s off the proxy's"),
    };
    if distance > CLOCK_NOTE {
        Finding::note(
            "clock",
            text,
            "requests are signed by the proxy's clock; certificates are checked by this one",
        )
    } else {
        Finding::works("clock", text)
    }
}
