//! Servers whose answers begin and break: when they are left out, and what is no reason to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::time::Duration;

use attest_proxy::upstream::Standing;
use common::{
    CHAT, Rig,
    client::{Connection, request},
    psk,
    servers::{MODEL, NONE, chats, rig, server, until, well},
};
use testkit::upstream::{Gate, Reply};

/// Chats in turn until the server is `ejected`, each of which must begin well; how many it took.
async fn until_ejected(rig: &Rig, text: &str) -> usize {
    for nth in 1..20 {
        let answer = rig.chat(&psk("plain")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(text), "{}", answer.text());
        if rig.proxy.upstream.servers()[0].standing == Standing::Ejected {
            return nth;
        }
    }
    panic!("it was never ejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_answers_break_after_they_began_is_left_out() {
    for silent in [false, true] {
        let never = Gate::closed();
        let ill = server(MODEL, MODEL, move |_| {
            let begun = Reply::stream(200, "application/x-ndjson").chunk("{\"n\":1}\n");
            if silent {
                begun.wait(&never)
            } else {
                begun.break_off()
            }
        });
        let sound = server(MODEL, NONE, well);
        let rig = rig(&[&ill, &sound], "[limits]\nchunk-timeout = \"80ms\"").await;
        let code = if silent {
            "upstream-timeout"
        } else {
            "upstream-failed"
        };
        assert_eq!(until_ejected(&rig, code).await, 3);
        // Who asks now is answered by the other one.
        let answer = rig.chat(&psk("plain")).await;
        assert_eq!(answer.json()["done"], true, "{}", answer.text());
        assert_eq!([&ill, &sound].map(chats), [3, 1]);
        // One that breaks on trial is out again, though its head was well.
        until("the end of its time out", || {
            rig.proxy.upstream.servers()[0].standing == Standing::Ejected
        })
        .await;
        for _ in 0..100 {
            if chats(&ill) == 4 {
                break;
            }
            rig.chat(&psk("plain")).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(chats(&ill), 4);
        assert_eq!(rig.proxy.upstream.servers()[0].standing, Standing::Ejected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_in_mid_stream_are_no_reason_to_leave_a_server_out() {
    let never = Gate::closed();
    let slow = server(MODEL, MODEL, move |_| {
        Reply::stream(200, "application/x-ndjson")
            .chunk("{\"n\":1}\n")
            .wait(&never)
    });
    let rig = rig(&[&slow], "").await;
    for nth in 1..=5 {
        let mut client = Connection::open(rig.address).await;
        client
            .send(&request("POST", "/api/chat", &psk("plain"), CHAT))
            .await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client.chunk().await.unwrap();
        drop(client);
        slow.until("the client's leaving", |slow| slow.abandoned() == nth)
            .await;
    }
    assert_eq!(rig.proxy.upstream.servers()[0].standing, Standing::Well);
}
