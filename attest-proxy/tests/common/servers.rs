//! Model servers that are asked in rounds, and a proxy in front of them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code, of which each test binary uses its own part"
)]

use std::time::Duration;

use attest_proxy::upstream::Standing;
use testkit::upstream::{Received, Reply, Upstream};

use super::Rig;

pub const MODEL: &str = r#"{"models":[{"name":"smollm2:135m","model":"smollm2:135m"}]}"#;
pub const NONE: &str = r#"{"models":[]}"#;

/// A server that answers what every round asks, and the rest by `script`.
pub fn server(
    installed: &'static str,
    loaded: &'static str,
    script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> Upstream {
    Upstream::start(move |received| match received.target.as_str() {
        "/api/version" => Reply::json(200, r#"{"version":"0.17.1"}"#),
        "/api/tags" => Reply::json(200, installed),
        "/api/ps" => Reply::json(200, loaded),
        _ => script(received),
    })
}

pub fn well(received: &Received) -> Reply {
    Reply::json(
        200,
        &format!("{{\"path\":\"{}\",\"done\":true}}", received.target),
    )
}

pub async fn rig(servers: &[&Upstream], more: &str) -> Rig {
    let urls: Vec<_> = servers.iter().map(|server| server.url()).collect();
    rig_of(&urls, "", more).await
}

pub async fn rig_of(urls: &[String], of_each: &str, more: &str) -> Rig {
    let mut text = String::new();
    for url in urls {
        text.push_str(&format!("[[upstreams]]\nurl = \"{url}\"\n{of_each}\n"));
    }
    looked_at(&format!("{text}{more}")).await
}

pub async fn looked_at(text: &str) -> Rig {
    let rig = Rig::with(Upstream::json("{}"), text).await;
    // Until every server was asked once: it has a list, or is known not to answer.
    until("the first round", || {
        let servers = rig.proxy.upstream.servers();
        !servers.is_empty()
            && servers
                .iter()
                .all(|s| s.installed.is_some() || s.standing != Standing::Well)
    })
    .await;
    rig
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

/// Requests for answers that reached a server.
pub fn chats(server: &Upstream) -> usize {
    server.received().iter().filter(|r| r.method == "POST").count()
}
