//! Policies as the registry keeps them.

use domain::UnixTime;
use evidence::DeclaredPolicy;

/// JSON: what is a policy is one that can be judged by, has one spelling, and keeps what it says in it.
pub fn declared_policy(data: &[u8]) {
    let Ok(declared) = serde_json::from_slice::<DeclaredPolicy>(data) else {
        return;
    };
    let json = serde_json::to_vec(&declared).expect("JSON");
    let again = serde_json::from_slice::<DeclaredPolicy>(&json).expect("what was written is read");
    assert_eq!(again, declared);
    assert_eq!(serde_json::to_vec(&again).expect("JSON"), json, "one spelling");
    let policy = declared.policy();
    assert_eq!(policy.selection(), declared.selection());
    assert!(policy.selection().iter().all(|pcr| !pcr.is_resettable()));
    let parts = declared.parts();
    assert_eq!(policy.wants_event_log(), parts.log.is_some());
    assert_eq!(policy.wants_image_statement(), parts.statement.is_some());
    let now = UnixTime::from_secs(1_800_000_000);
    assert_eq!(policy.at(now).selection(), declared.selection());
}
