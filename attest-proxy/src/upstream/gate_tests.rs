//! Places and the queue with real tasks: who waits is served, who leaves gives back, nothing leaks.

use std::{num::NonZeroUsize, pin::pin, task::Poll};

use super::*;
use crate::{
    config::{EXAMPLE, Settings, UpstreamServer},
    upstream::{
        Dialect, Trust,
        inventory::{Inventory, Models},
    },
};

fn servers(places: &[usize]) -> Vec<Arc<Server>> {
    let settings = Settings::parse(std::path::Path::new("/x"), EXAMPLE).unwrap();
    let trust = Arc::new(Trust::read(None).unwrap());
    let spec = |places: &usize| UpstreamServer {
        places: NonZeroUsize::new(*places).unwrap(),
        ..settings.upstreams.servers[0].clone()
    };
    places
        .iter()
        .enumerate()
        .map(|(nth, places)| Server::new(&spec(places), &format!("s{nth}:1"), &trust, &settings.limits))
        .collect()
}

fn gate(places: &[usize]) -> Arc<Gate> {
    let limits = QueueLimits {
        length: 8,
        bytes: 1000,
        per_device: 4,
        per_device_bytes: 1000,
    };
    Gate::new(
        servers(places),
        limits,
        Duration::from_millis(300),
        Arc::clone(crate::metrics::Metrics::default().waits()),
        2,
    )
}

fn id(device: &str) -> DeviceId {
    device.parse().unwrap()
}

fn ask<'a>(device: &'a DeviceId, model: Option<&'a str>) -> Ask<'a> {
    Ask {
        keep: &[],
        device,
        model,
        bytes: 10,
        runs_model: true,
        dialect: Dialect::Ollama,
    }
}

fn name(entered: Result<Permit, UpstreamError>) -> String {
    entered.unwrap().server().name().to_owned()
}

#[tokio::test]
async fn a_place_that_comes_free_goes_to_who_waits() {
    let gate = gate(&[1]);
    let (a, b) = (id("a"), id("b"));
    let first = gate.enter(&ask(&a, None)).await.unwrap();
    let (a_ask, b_ask) = (ask(&a, None), ask(&b, None));
    let mut again = pin!(gate.enter(&a_ask));
    let mut other = pin!(gate.enter(&b_ask));
    assert!(futures(&mut again).await.is_none() && futures(&mut other).await.is_none());
    assert_eq!(gate.load(), (1, 2, 20));
    drop(first);
    // Both have nothing running now: who came first.
    let second = futures(&mut again).await.unwrap().unwrap();
    assert!(futures(&mut other).await.is_none());
    drop(second);
    drop(other.await.unwrap());
    assert_eq!(gate.load(), (0, 0, 0));
}

/// Polls once.
async fn futures<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn who_leaves_gives_back_even_what_was_just_granted() {
    let gate = gate(&[1]);
    let (a, b) = (id("a"), id("b"));
    let first = gate.enter(&ask(&a, None)).await.unwrap();
    let (a_ask, b_ask) = (ask(&a, None), ask(&b, None));
    {
        let mut waiting = Box::pin(gate.enter(&b_ask));
        assert!(futures(&mut waiting).await.is_none());
        drop(waiting);
        assert_eq!(gate.load(), (1, 0, 0));
    }
    let mut waiting = Box::pin(gate.enter(&b_ask));
    let mut next = Box::pin(gate.enter(&a_ask));
    assert!(futures(&mut waiting).await.is_none() && futures(&mut next).await.is_none());
    // Granted, and given up before it was seen: the next one has it.
    drop(first);
    assert_eq!(gate.load(), (1, 1, 10));
    drop(waiting);
    assert_eq!(gate.load(), (1, 0, 0));
    drop(futures(&mut next).await.unwrap().unwrap());
    assert_eq!(gate.load(), (0, 0, 0));
}

#[tokio::test]
async fn waiting_has_an_end_and_the_queue_a_length() {
    let gate = gate(&[1]);
    let a = id("a");
    let _held = gate.enter(&ask(&a, None)).await.unwrap();
    let waited = gate.enter(&ask(&a, None)).await.unwrap_err();
    assert!(matches!(waited, UpstreamError::Waited(_)), "{waited:?}");
    assert_eq!(gate.load(), (1, 0, 0));
    let a_ask = ask(&a, None);
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(gate.enter(&a_ask))).collect();
    for one in &mut waiting {
        assert!(futures(one).await.is_none());
    }
    let full = gate.enter(&a_ask).await.unwrap_err();
    assert!(
        matches!(full, UpstreamError::Queue(crate::upstream::QueueFull::Device)),
        "{full:?}"
    );
}

#[tokio::test]
async fn what_runs_no_model_does_not_wait() {
    let gate = gate(&[1]);
    let a = id("a");
    let _held = gate.enter(&ask(&a, None)).await.unwrap();
    let light = Ask {
        runs_model: false,
        ..ask(&a, None)
    };
    let one = gate.enter(&light).await.unwrap();
    let _two = gate.enter(&light).await.unwrap();
    assert_eq!(gate.load().0, 3);
    assert!(matches!(gate.enter(&light).await, Err(UpstreamError::Busy(2))));
    drop(one);
    assert!(gate.enter(&light).await.is_ok());
}

#[tokio::test]
async fn requests_go_where_their_model_is() {
    let gate = gate(&[1, 1]);
    let list = |text: &str| Models::parse(text.as_bytes());
    let with = |installed: &str, loaded: &str| Inventory {
        installed: list(installed),
        loaded: list(loaded).unwrap(),
    };
    let both = r#"{"models":[{"model":"a:latest"},{"model":"b:latest"}]}"#;
    let [one, two] = &gate.servers()[..] else { panic!() };
    one.stock(with(r#"{"models":[{"model":"a:latest"}]}"#, r#"{"models":[]}"#));
    two.stock(with(both, both));
    let d = id("d");
    assert_eq!(name(gate.enter(&ask(&d, Some("A"))).await), "s1:1");
    let _held = gate.enter(&ask(&d, Some("a"))).await.unwrap();
    assert_eq!(name(gate.enter(&ask(&d, Some("a"))).await), "s0:1");
    // The only one that has it is full: it is waited for, and the other stays free for those whom it can serve.
    let ask_b = ask(&d, Some("b"));
    let mut waiting = Box::pin(gate.enter(&ask_b));
    assert!(futures(&mut waiting).await.is_none());
    assert_eq!(name(gate.enter(&ask(&d, Some("a"))).await), "s0:1");
    drop(_held);
    assert_eq!(name(waiting.await), "s1:1");
}

#[tokio::test]
async fn servers_that_fail_are_left_out_and_their_waiters_told() {
    let gate = gate(&[1, 1]);
    let d = id("d");
    for _ in 0..6 {
        let mut permit = gate.enter(&ask(&d, None)).await.unwrap();
        permit.failed();
    }
    assert!(matches!(
        gate.enter(&ask(&d, None)).await,
        Err(UpstreamError::NoServer)
    ));
    // After its time out each takes one request on trial, and no second one while that runs.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let trial = gate.enter(&ask(&d, None)).await.unwrap();
    let mut other = gate.enter(&ask(&d, None)).await.unwrap();
    assert_ne!(trial.server().name(), other.server().name());
    other.failed();
    drop(other);
    assert!(gate.enter(&ask(&d, None)).await.is_err());
    // Given up without an answer: another may try.
    drop(trial);
    let mut trial = gate.enter(&ask(&d, None)).await.unwrap();
    trial.answered();
    drop(trial);
    assert!(gate.enter(&ask(&d, None)).await.is_ok());
}

#[tokio::test]
async fn no_server_is_no_upstream() {
    let gate = gate(&[]);
    let d = id("d");
    assert!(matches!(
        gate.enter(&ask(&d, None)).await,
        Err(UpstreamError::NoServer)
    ));
    let list = servers(&[1]);
    gate.replace(list);
    assert!(gate.enter(&ask(&d, None)).await.is_ok());
}
