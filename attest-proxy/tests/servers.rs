//! Several model servers, and the queue in front of them: who is asked, who is left out, who comes next.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use attest_proxy::upstream::Standing;
use common::{
    CHAT, Rig,
    client::{Connection, request},
    psk,
    servers::{MODEL, NONE, chats, looked_at, rig, rig_of, server, until, well},
};
use registry::DeviceState;
use testkit::upstream::{Gate, Received, Reply, Step, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_where_its_model_is() {
    let [without, cold, warm] = [
        server(NONE, NONE, well),
        server(MODEL, NONE, well),
        server(MODEL, MODEL, well),
    ];
    let rig = rig(&[&without, &cold, &warm], "").await;
    for _ in 0..3 {
        assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    }
    assert_eq!([&without, &cold, &warm].map(chats), [0, 0, 3]);
    // What it is for, whether or not it runs.
    let show = rig
        .post("/api/show", &psk("plain"), r#"{"model":"smollm2:135m"}"#)
        .await;
    assert_eq!((show.status, chats(&warm)), (200, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_spread_by_load_and_weight() {
    let gate = Gate::closed();
    let hold = |gate: &Gate| {
        let gate = gate.clone();
        move |_: &Received| {
            Reply::stream(200, "application/x-ndjson")
                .wait(&gate)
                .chunk("{}\n")
        }
    };
    let [one, two] = [
        server(MODEL, MODEL, hold(&gate)),
        server(MODEL, MODEL, hold(&gate)),
    ];
    let text = format!(
        "[[upstreams]]\nurl = \"{}\"\nweight = 3\n[[upstreams]]\nurl = \"{}\"\n",
        one.url(),
        two.url()
    );
    let rig = looked_at(&text).await;
    let fields = psk("plain");
    let asked = join((0..8).map(|_| rig.chat(&fields)).collect());
    let opened = async {
        until("all of them", || chats(&one) + chats(&two) == 8).await;
        let spread = [chats(&one), chats(&two)];
        gate.open();
        spread
    };
    let (answers, spread) = tokio::join!(asked, opened);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(spread, [6, 2]);
    assert_eq!(rig.proxy.upstream.in_flight(), 0);
}

/// All of them at one time.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().map(|(_, output)| output.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_left_out_and_comes_back() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    // The first one, so that it is the one that is preferred.
    let frail = Upstream::start(move |received| {
        if is_down.load(Ordering::Relaxed) {
            Reply::raw(vec![Step::Reset])
        } else if received.method == "POST" {
            well(received)
        } else {
            Reply::json(200, MODEL)
        }
    });
    let sound = server(MODEL, MODEL, well);
    let rig = rig(&[&frail, &sound], "").await;
    assert_eq!((rig.chat(&psk("plain")).await.status, chats(&frail)), (200, 1));
    down.store(true, Ordering::Relaxed);
    until("its end", || {
        rig.proxy.upstream.servers()[0].standing == Standing::Gone
    })
    .await;
    let before = chats(&frail);
    for _ in 0..3 {
        assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    }
    assert_eq!((chats(&frail), chats(&sound)), (before, 3));
    down.store(false, Ordering::Relaxed);
    until("its return", || {
        rig.proxy.upstream.servers()[0].standing == Standing::Well
    })
    .await;
    assert_eq!(
        (rig.chat(&psk("plain")).await.status, chats(&frail)),
        (200, before + 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_is_sent_to_another_once() {
    let nobody = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let sound = server(MODEL, MODEL, well);
    let rig = Rig::with(
        Upstream::json("{}"),
        &format!(
            "[[upstreams]]\nurl = \"{}\"\n[[upstreams]]\nurl = \"{}\"\n",
            nobody(),
            sound.url()
        ),
    )
    .await;
    // Whether or not a round has found it gone already.
    for _ in 0..5 {
        assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    }
    assert!(rig.proxy.upstream.retries() <= 3, "it is left out soon");
    // Two that are away are two tries, not more, and soon none.
    let text = format!(
        "[[upstreams]]\nurl = \"{}\"\n[[upstreams]]\nurl = \"{}\"\n[[upstreams]]\nurl = \"{}\"\n",
        nobody(),
        nobody(),
        nobody()
    );
    let rig = Rig::with(Upstream::json("{}"), &text).await;
    for _ in 0..4 {
        let answer = rig.chat(&psk("plain")).await;
        assert_eq!((answer.status, answer.code()), (503, "no-upstream".into()));
        assert!(answer.header("retry-after").is_some());
    }
    assert!(rig.proxy.upstream.retries() <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_was_closed_is_no_failure() {
    // Every second request finds its connection closed: the server ends it in the moment in which we send.
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |received| match count.fetch_add(1, Ordering::Relaxed) {
        n if n % 2 == 1 => Reply::raw(vec![Step::Close]),
        _ => well(received),
    });
    let rig = Rig::with(upstream, "").await;
    for _ in 0..4 {
        assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    }
    assert_eq!(rig.upstream.received().len(), 7);
    assert_eq!(rig.proxy.upstream.retries(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_a_third_time_nor_again_after_a_first_byte() {
    // On a kept connection, so that a retry comes into question at all.
    let count = Arc::new(AtomicUsize::new(0));
    let upstream =
        Upstream::start(
            move |received| match (count.fetch_add(1, Ordering::Relaxed), &*received.target) {
                (0 | 3, _) => well(received),
                (_, "/api/chat") => Reply::raw(vec![Step::Close]),
                (_, _) => Reply::raw(vec![Step::Bytes(b"H".to_vec()), Step::Close]),
            },
        );
    let rig = Rig::with(upstream, "").await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!((answer.status, answer.code()), (502, "upstream-failed".into()));
    assert_eq!(rig.upstream.received().len(), 3);
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    let answer = rig.post("/api/generate", &psk("plain"), CHAT).await;
    assert_eq!((answer.status, answer.code()), (502, "upstream-failed".into()));
    assert_eq!(rig.upstream.received().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_be_working_on_is_not_sent_to_another() {
    let [one, two] = [0, 1].map(|_| server(MODEL, MODEL, |_| Reply::raw(vec![Step::Close])));
    let rig = rig(&[&one, &two], "").await;
    // Closes the connections that the rounds keep, so that this goes on a new one.
    for _ in 0..2 {
        let before = chats(&one) + chats(&two);
        let retries = rig.proxy.upstream.retries();
        let answer = rig.chat(&psk("plain")).await;
        assert_eq!((answer.status, answer.code()), (502, "upstream-failed".into()));
        // A kept connection may be tried a second time, never a third.
        let again = usize::try_from(rig.proxy.upstream.retries() - retries).unwrap();
        assert_eq!(chats(&one) + chats(&two), before + 1 + again);
        assert!(again <= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_passed_by_once() {
    let busy = |_: &Received| Reply::json(503, r#"{"error":"server busy, please try again"}"#);
    let [one, two] = [server(MODEL, MODEL, busy), server(MODEL, NONE, well)];
    let rig = rig(&[&one, &two], "").await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    assert_eq!([&one, &two].map(chats), [1, 1]);
    let [one, two, three] = [
        server(MODEL, MODEL, busy),
        server(MODEL, MODEL, busy),
        server(MODEL, MODEL, busy),
    ];
    let rig = rig_of(&[one.url(), two.url(), three.url()], "", "").await;
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!((answer.status, answer.code()), (503, "overloaded".into()));
    assert!(answer.header("retry-after").is_some());
    assert_eq!([&one, &two, &three].map(chats).iter().sum::<usize>(), 2);
    // Being busy is no failure.
    assert!(
        rig.proxy
            .upstream
            .servers()
            .iter()
            .all(|s| s.standing == Standing::Well)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_those_of_all_servers() {
    const OTHER: &str = r#"{"models":[{"model":"smollm2:135m"},{"model":"other"}]}"#;
    let openai = |_: &Received| {
        Reply::json(
            200,
            r#"{"object":"list","data":[{"id":"smollm2:135m"},{"id":"x"}]}"#,
        )
    };
    let broken = server(MODEL, MODEL, |_| Reply::json(500, "{}"));
    let [one, two] = [server(MODEL, NONE, openai), server(OTHER, OTHER, openai)];
    let rig = rig(&[&one, &two, &broken], "").await;
    for (path, list) in [
        ("/api/tags", "models"),
        ("/api/ps", "models"),
        ("/v1/models", "data"),
    ] {
        let answer = rig.get(path, &psk("plain")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.json()[list].as_array().unwrap().len(),
            1,
            "{path}: {}",
            answer.text()
        );
        assert!(answer.text().contains("smollm2:135m") && !answer.text().contains("other"));
    }
}

/// A rig with one place, and a server that holds every answer until the gate opens.
async fn narrow(queue: &str) -> (Rig, Gate) {
    let gate = Gate::closed();
    let hold = gate.clone();
    let upstream = Upstream::start(move |_| {
        Reply::stream(200, "application/x-ndjson")
            .wait(&hold)
            .chunk("{}\n")
    });
    let rig = Rig::with(upstream, &format!("[limits]\nstreams = 1\n{queue}")).await;
    rig.registry
        .enrol(common::forge::device("late", "open", None))
        .await
        .unwrap();
    // Known from now on.
    while rig.get("/attest/v1/challenge", &psk("late")).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (rig, gate)
}

fn asking(device: &str, n: usize) -> Vec<u8> {
    request(
        "POST",
        "/api/chat",
        &psk(device),
        &CHAT.replace("Gleis", &format!("{device}-{n}")),
    )
}

async fn ask(rig: &Rig, device: &str, n: usize) -> Connection {
    let mut connection = Connection::open(rig.address).await;
    connection.send(&asking(device, n)).await;
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_asks_for_much_does_not_keep_others_waiting() {
    let (rig, gate) = narrow("").await;
    let mut connections = vec![ask(&rig, "plain", 0).await];
    rig.upstream.until("the first", |u| u.received().len() == 1).await;
    for n in 1..5 {
        connections.push(ask(&rig, "plain", n).await);
        until("it to wait", || rig.proxy.upstream.queued().0 == n).await;
    }
    for n in 0..2 {
        connections.push(ask(&rig, "late", n).await);
        until("it to wait", || rig.proxy.upstream.queued().0 == 5 + n).await;
    }
    gate.open();
    for connection in &mut connections {
        let answer = connection.answer("POST").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}\n"));
    }
    let order: Vec<_> = rig
        .upstream
        .received()
        .iter()
        .map(|r| {
            let text = r.text();
            let at = text.find("plain-").or(text.find("late-")).unwrap();
            text.get(at..).unwrap().split('?').next().unwrap().to_owned()
        })
        .collect();
    let metrics = common::ask(rig.operators, "GET", "/metrics", &[], "")
        .await
        .text();
    for line in [
        "attest_proxy_queue_wait_seconds_count{end=\"served\"} 6",
        "attest_proxy_upstream_servers{standing=\"well\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(
        order,
        [
            "plain-0", "plain-1", "late-0", "plain-2", "late-1", "plain-3", "plain-4"
        ]
    );
    assert_eq!(
        (rig.proxy.upstream.in_flight(), rig.proxy.upstream.queued()),
        (0, (0, 0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_waits_no_longer_and_is_never_asked_for() {
    let (mut rig, gate) = narrow("").await;
    let mut first = ask(&rig, "plain", 0).await;
    rig.upstream.until("the first", |u| u.received().len() == 1).await;
    let gone = ask(&rig, "plain", 1).await;
    let mut suspended = ask(&rig, "late", 2).await;
    until("them to wait", || rig.proxy.upstream.queued().0 == 2).await;
    drop(gone);
    until("it to be gone", || rig.proxy.upstream.queued().0 == 1).await;
    // Who may not ask any more is told at once, not when its turn comes.
    rig.edit("late", |d| d.state = DeviceState::Suspended).await;
    let answer = suspended.answer("POST").await.unwrap();
    assert_eq!((answer.status, answer.code()), (401, "psk-unknown".into()));
    assert_eq!(rig.proxy.upstream.queued(), (0, 0));
    gate.open();
    assert_eq!(first.answer("POST").await.unwrap().status, 200);
    assert_eq!(rig.upstream.received().len(), 1);
    rig.stop.send_replace(true);
    drop(first);
    rig.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_and_so_is_waiting() {
    let (rig, gate) = narrow("[queue]\nlength = 2\nper-device = 1\nwait = \"400ms\"").await;
    let mut first = ask(&rig, "plain", 0).await;
    rig.upstream.until("the first", |u| u.received().len() == 1).await;
    let mut waiting = ask(&rig, "plain", 1).await;
    until("it to wait", || rig.proxy.upstream.queued().0 == 1).await;
    for (mut refused, why) in [
        (ask(&rig, "plain", 2).await, "its part is full"),
        (ask(&rig, "plain", 3).await, "and stays so"),
    ] {
        let answer = refused.answer("POST").await.unwrap();
        assert_eq!(
            (answer.status, answer.code()),
            (503, "overloaded".into()),
            "{why}"
        );
        assert!(answer.header("retry-after").is_some());
    }
    let mut other = ask(&rig, "late", 0).await;
    for connection in [&mut waiting, &mut other] {
        let answer = connection.answer("POST").await.unwrap();
        assert_eq!(
            (answer.status, answer.code()),
            (503, "overloaded".into()),
            "too long"
        );
    }
    assert_eq!(rig.proxy.upstream.queued(), (0, 0));
    gate.open();
    assert_eq!(first.answer("POST").await.unwrap().status, 200);
    assert_eq!(rig.upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_stands_for_all_its_addresses() {
    let upstream = server(MODEL, MODEL, well);
    let url = upstream.url().replace("127.0.0.1", "localhost");
    let rig = rig_of(&[url], "each-address = true", "").await;
    let names: Vec<_> = rig.proxy.upstream.servers().into_iter().map(|s| s.name).collect();
    assert!(names.contains(&upstream.address().to_string()), "{names:?}");
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    let host = upstream.received().last().unwrap().header("host");
    assert!(host[0].starts_with("localhost:"), "{host:?}");
    // A name that is none leaves nobody to ask.
    let text = "[[upstreams]]\nurl = \"http://nowhere.invalid:1\"\neach-address = true";
    let rig = Rig::with(Upstream::json("{}"), text).await;
    let answer = rig.chat(&psk("plain")).await;
    assert_eq!((answer.status, answer.code()), (503, "no-upstream".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_under_load_cost_little_and_then_nothing() {
    let resets = Upstream::start(|_| Reply::raw(vec![Step::Reset]));
    let hangs = Upstream::start(|_| Reply::raw(vec![Step::Wait(Gate::closed())]));
    let garbage = Upstream::start(|_| Reply::raw(vec![Step::Bytes(vec![7; 300]), Step::Close]));
    let sound = server(MODEL, MODEL, well);
    let text: String = [&resets, &hangs, &garbage, &sound]
        .iter()
        .map(|s| format!("[[upstreams]]\nurl = \"{}\"\n", s.url()))
        .collect();
    let rig = Rig::with(
        Upstream::json("{}"),
        &format!("{text}[limits]\nfirst-byte-timeout = \"500ms\""),
    )
    .await;
    let fields = psk("plain");
    let codes = join((0..60).map(|_| rig.chat(&fields)).collect()).await;
    for answer in &codes {
        assert!(
            answer.status == 200 || ["upstream-failed", "upstream-timeout"].contains(&&*answer.code()),
            "{answer:?}"
        );
    }
    until("the bad ones to be known", || {
        rig.proxy.upstream.servers()[..3]
            .iter()
            .all(|s| s.standing == Standing::Gone)
    })
    .await;
    let codes = join((0..60).map(|_| rig.chat(&fields)).collect()).await;
    assert!(codes.iter().all(|answer| answer.status == 200));
    assert_eq!(
        (rig.proxy.upstream.in_flight(), rig.proxy.upstream.queued()),
        (0, (0, 0))
    );
}
