//! The seven lines of freshness on a real software TPM that goes on, is reset, restarted, resumed, rolled back and cleared.

use super::*;

/// A clock that no test reaches by waiting, in milliseconds: 100 days.
const FAR: &str = "8640000000";

/// A quote over PCR 0, and the policy that it meets: the counters are what is looked at here.
fn zero(station: &Station) -> (StockQuote, PcrPolicy) {
    let quote = station.quote("sha256:0");
    let policy = Station::policy(&quote, HashAlg::Sha256, &[0]);
    (quote, policy)
}

/// Freshness on a TPM that goes on, is restarted, reset, and is answered by an old quote.
#[test]
fn freshness_follows_the_tpms_life() {
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let quote = || zero(&station);
    let (first, policy) = quote();
    let one = station.judge(&first, &policy, None).unwrap().counters();

    let (second, policy) = quote();
    let attested = station.judge(&second, &policy, Some(&one)).unwrap();
    assert_eq!(attested.continuity(), Continuity::Continued);
    let two = attested.counters();
    let replayed = station.judge(&first, &policy, Some(&two)).unwrap_err();
    assert!(matches!(
        replayed.failures(),
        [Failure::Stale(Stale::Clock { .. })]
    ));
    assert_eq!(replayed.class(), FailureClass::Stale);

    station.tpm.restart();
    let (third, policy) = quote();
    let attested = station.judge(&third, &policy, Some(&two)).unwrap();
    assert_eq!(attested.continuity(), Continuity::Resumed);
    let three = attested.counters();
    let replayed = station.judge(&second, &policy, Some(&three)).unwrap_err();
    assert!(matches!(
        replayed.failures(),
        [Failure::Stale(Stale::RestartCount { .. })]
    ));

    station.tpm.reset();
    let (fourth, policy) = quote();
    let attested = station.judge(&fourth, &policy, Some(&three)).unwrap();
    assert_eq!(attested.continuity(), Continuity::Rebooted);
    let replayed = station
        .judge(&third, &policy, Some(&attested.counters()))
        .unwrap_err();
    assert!(matches!(
        replayed.failures(),
        [Failure::Stale(Stale::ResetCount { .. })]
    ));
}

/// `TPM2_Shutdown(STATE)` and `TPM2_Startup(STATE)`, as around a machine's sleep: line 5, though the PCRs are still there.
#[test]
fn a_resume_is_no_continuation() {
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let before = station.quote("sha256:7,11");
    let policy = Station::policy(&before, HashAlg::Sha256, &[7, 11]);
    let last = station.judge(&before, &policy, None).unwrap().counters();
    station.tpm.resume();
    let after = station.quote("sha256:7,11");
    assert_eq!(after.pcrs, before.pcrs, "a resume keeps the PCRs");
    let attested = station.judge(&after, &policy, Some(&last)).unwrap();
    assert_eq!(attested.continuity(), Continuity::Resumed);
    let now = attested.counters();
    assert_eq!(
        (now.reset_count, now.restart_count),
        (last.reset_count, last.restart_count + 1)
    );
}

/// Whoever holds the disk of a virtual TPM puts an old state back: line 6 at once, line 4 when he restarts it to get past that.
#[test]
fn a_virtual_tpm_that_is_rolled_back_is_stale() {
    let mut station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let state = station.tpm.dir().join("tpm2-00.permall");
    station.tpm.tool("tpm2_shutdown", &[]);
    station.tpm.kill();
    let old = fs::read(&state).unwrap();
    station.tpm.revive();
    station.tpm.tool("tpm2_setclock", &[FAR]);
    let (quote, policy) = zero(&station);
    let last = station.judge(&quote, &policy, None).unwrap().counters();

    station.tpm.kill();
    fs::write(&state, &old).unwrap();
    station.tpm.revive();
    let (quote, policy) = zero(&station);
    let rejected = station.judge(&quote, &policy, Some(&last)).unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::Stale(Stale::Clock { .. })]),
        "{rejected}"
    );

    station.tpm.restart();
    let (quote, policy) = zero(&station);
    let rejected = station.judge(&quote, &policy, Some(&last)).unwrap_err();
    assert!(
        matches!(
            rejected.failures(),
            [Failure::Stale(Stale::ClockAcrossRestart { .. })]
        ),
        "{rejected}"
    );
    assert_eq!(rejected.class(), FailureClass::Stale);
}

/// TPM2_Clear sets the counters back, and ends the AK that they were told by: another one of the same EK is not the registered one.
#[test]
fn a_cleared_tpm_has_other_counters_and_no_ak_to_tell_them() {
    let station = Station::new("ecc", "ecc", "sha256", "ecdsa");
    let tpm = &station.tpm;
    tpm.reset();
    let (quote, policy) = zero(&station);
    let last = station.judge(&quote, &policy, None).unwrap().counters();
    assert_ne!(last.reset_count, 0);

    tpm.tool("tpm2_clear", &[]);
    let gone = tpm
        .command("tpm2_quote")
        .args(["-c", "0x81010020", "-l", "sha256:0"])
        .output()
        .unwrap();
    assert!(!gone.status.success(), "the AK died with the clear");

    tpm.tool("tpm2_createek", &["-G", "ecc", "-c", "ek.ctx", "-u", "ek.pub"]);
    flush(tpm);
    assert_eq!(
        EndorsementKey::new(&public(tpm, "ek.pub")).unwrap().digest(),
        station.ek.digest(),
        "the EK outlives a clear"
    );
    let create = [
        "-C", "ek.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-c", "ak.ctx", "-u", "ak.pub", "-n",
        "ak.name",
    ];
    tpm.tool("tpm2_createak", &create);
    flush(tpm);
    tpm.tool("tpm2_evictcontrol", &["-c", "ak.ctx", "0x81010020"]);
    flush(tpm);
    let (quote, policy) = zero(&station);
    let rejected = station.judge(&quote, &policy, Some(&last)).unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::Forged { .. }, ..]),
        "{rejected}"
    );
    assert_eq!(rejected.class(), FailureClass::Invalid);

    // Enrolled anew it starts anew; its counters are no later ones of the old key.
    let (_, qualified) = ak_names(&station.ek, &public(tpm, "ak.pub")).unwrap();
    let ak = AttestationKey::new(&public(tpm, "ak.pub"), &qualified).unwrap();
    let anew = Station { ak, ..station };
    let counters = anew.judge(&quote, &policy, None).unwrap().counters();
    assert_eq!(counters.reset_count, 0);
    let rejected = anew.judge(&quote, &policy, Some(&last)).unwrap_err();
    assert!(
        matches!(rejected.failures(), [Failure::Stale(Stale::ResetCount { .. })]),
        "{rejected}"
    );
}
