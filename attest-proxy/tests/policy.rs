//! Policies on the wire: endpoints, models and options of a device, seen from the client and from the upstream.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use common::{Rig, psk};
use domain::Endpoint;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_uses_the_endpoints_of_its_policy_alone() {
    let rig = Rig::new().await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    rig.edit_policy("open", |policy| {
        policy.endpoints = Some([Endpoint::Generate].into());
        policy.revision += 1;
    })
    .await;
    let answer = rig.chat_until(&psk("plain"), 403).await;
    assert_eq!(answer.code(), "path-denied");
    assert!(!answer.text().contains("policy"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_clamps_reaches_the_upstream_clamped() {
    let rig = Rig::new().await;
    rig.edit_policy("open", |policy| {
        policy.options = serde_json::from_str(r#"{"max_num_predict":7}"#).unwrap();
        policy.revision += 1;
    })
    .await;
    for _ in 0..400 {
        assert_eq!(rig.chat(&psk("plain")).await.status, 200);
        let last = rig.upstream.received().last().unwrap().text();
        if last.contains("\"num_predict\":7") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the clamp never reached the upstream");
}
