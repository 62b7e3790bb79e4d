use std::time::Duration;

use tokio::time::sleep;

use crate::common::{Client, Relay, json_of, to, within};

const QUICK: [&str; 4] = [
    "--heartbeat-interval",
    "50ms",
    "--heartbeat-timeout",
    "250ms",
];

fn timed_out() -> (u16, String) {
    (1011, "heartbeat timeout".into())
}

#[tokio::test]
async fn a_phone_that_answers_no_ping_is_closed_and_its_binary_told() {
    within(async {
        let relay = Relay::with(&QUICK).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let notice = binary.envelope().await;
        assert_eq!(notice["conn_id"], conn_id);
        assert_eq!(notice["close_code"], 1001);
        assert_eq!(phone.closed().await, timed_out());
        let timeouts = r#"switchboard_heartbeat_timeouts_total{endpoint="client"}"#;
        assert_eq!(relay.metric(timeouts).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_binary_that_answers_no_ping_is_closed_and_leaves_a_grace() {
    within(async {
        let relay = Relay::with(&QUICK).await;
        let mut binary = relay.binary("a").await;
        relay.until(|health| health.binaries == 0).await;
        assert_eq!(relay.metric("switchboard_binaries_in_grace").await, 1);
        assert_eq!(binary.closed().await, timed_out());
        let mut back = relay.binary("a").await;
        relay.phone("a", &mut back).await;
        assert_eq!(relay.metric("switchboard_reclaims_total").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays() {
    within(async {
        let relay = Relay::with(&QUICK).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        tokio::join!(binary.pings(20), phone.pings(20));
        phone.send("1").await;
        assert_eq!(binary.envelope().await["frame"], 1);
    })
    .await;
}

/// The slow binary takes longer than the timeout for the data in the system's buffers ahead of a ping. The phone is not read
/// from, since there is no room for its frames.
#[tokio::test]
async fn a_slow_binary_and_the_phone_that_waits_for_it_are_not_taken_for_dead() {
    within(async {
        let slow = ["--heartbeat-timeout", "1s", "--outbox", "65536"];
        let relay = Relay::with(&[QUICK, slow].concat()).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        let frames = 300;
        let sending = tokio::spawn(async move {
            for _ in 0..frames {
                phone.send(&json_of(128 * 1024)).await;
            }
            phone
        });
        for _ in 0..frames {
            if !sending.is_finished() {
                sleep(Duration::from_millis(15)).await;
            }
            binary.envelope().await;
        }
        let mut phone = sending.await.expect("all was sent");
        phone.send("\"still here\"").await;
        assert_eq!(binary.envelope().await["frame"], "still here");
    })
    .await;
}

#[tokio::test]
async fn an_incumbent_that_is_silent_is_taken_over() {
    within(async {
        let relay = Relay::with(&["--probe-timeout", "100ms"]).await;
        let mut silent = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut silent).await;
        let mut second = Client::binary(relay.address, "a").await;
        // Not lost, although it arrives before the second binary holds the server-id.
        second.send(r#"{"conn_id":"nobody","frame":1}"#).await;
        let reclaimed = (4404, "binary reclaimed server-id".into());
        assert_eq!(phone.closed().await, reclaimed);
        assert_eq!(silent.closed().await, timed_out());
        relay.phone("a", &mut second).await;
        for (series, count) in [
            ("switchboard_takeovers_total", 1),
            ("switchboard_reclaims_total", 0),
            (r#"switchboard_probes_total{outcome="silent"}"#, 1),
            (
                r#"switchboard_envelopes_dropped_total{reason="unknown_phone"}"#,
                1,
            ),
        ] {
            assert_eq!(relay.metric(series).await, count, "{series}");
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_challengers_of_a_silent_binary_the_slower_is_refused() {
    within(async {
        let relay = Relay::with(&["--probe-timeout", "100ms"]).await;
        let _silent = relay.binary("a").await;
        let mut one = Client::binary(relay.address, "a").await;
        let mut two = Client::binary(relay.address, "a").await;
        // The winner reads, and so answers the ping that the loser's claim triggers.
        let closed = tokio::select! {
            closed = one.closed() => closed,
            closed = two.closed() => closed,
        };
        assert_eq!(closed, (4409, "server-id already claimed".into()));
        assert_eq!(relay.metric("switchboard_takeovers_total").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_challenger_that_leaves_during_the_probe_changes_nothing() {
    within(async {
        let relay = Relay::start().await;
        let mut silent = relay.binary("a").await;
        let second = Client::binary(relay.address, "a").await;
        relay.metric_until("switchboard_connections", 2).await;
        second.close(1000).await;
        relay.metric_until("switchboard_connections", 1).await;
        relay.phone("a", &mut silent).await;
        assert_eq!(relay.metric("switchboard_takeovers_total").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_challenger_that_sends_a_frame_and_leaves_during_the_probe_takes_nothing_over() {
    within(async {
        let relay = Relay::with(&["--probe-timeout", "1s"]).await;
        let mut silent = relay.binary("a").await;
        for close in [true, false] {
            let mut second = Client::binary(relay.address, "a").await;
            second.send(r#"{"conn_id":"nobody","frame":1}"#).await;
            relay.metric_until("switchboard_connections", 2).await;
            if close {
                second.close(1000).await;
            } else {
                drop(second);
            }
            relay.metric_until("switchboard_connections", 1).await;
        }
        relay.phone("a", &mut silent).await;
        assert_eq!(relay.metric("switchboard_takeovers_total").await, 0);
    })
    .await;
}

/// A ping waits behind the data in the system's buffers, so the pong comes after the timeout.
#[tokio::test]
async fn a_phone_that_reads_slowly_is_not_taken_for_dead() {
    within(async {
        let slow = ["--heartbeat-timeout", "1s", "--outbox", "33554432"];
        let relay = Relay::with(&[QUICK, slow].concat()).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let frames = 150;
        for _ in 0..frames {
            binary.send(&to(&conn_id, &json_of(128 * 1024))).await;
        }
        let answering = tokio::spawn(async move { binary.pings(40).await });
        for _ in 0..frames {
            sleep(Duration::from_millis(15)).await;
            phone.frame().await;
        }
        assert!(answering.await.is_ok(), "nothing but pings came");
    })
    .await;
}

#[tokio::test]
async fn a_challenger_that_waits_for_the_probe_is_told_of_a_shutdown() {
    within(async {
        let relay = Relay::start().await;
        let _silent = relay.binary("a").await;
        let mut second = Client::binary(relay.address, "a").await;
        relay.metric_until("switchboard_connections", 2).await;
        let ended = relay.stop();
        assert_eq!(second.closed().await, (1001, "shutting down".into()));
        ended.await.expect("no panic").expect("a clean end");
    })
    .await;
}

#[tokio::test]
async fn an_incumbent_that_leaves_during_the_probe_frees_its_server_id_at_once() {
    within(async {
        let relay = Relay::with(&["--probe-timeout", "1h"]).await;
        let leaving = relay.binary("a").await;
        let mut second = Client::binary(relay.address, "a").await;
        relay.metric_until("switchboard_connections", 2).await;
        drop(leaving);
        relay.metric_until("switchboard_connections", 1).await;
        relay.phone("a", &mut second).await;
    })
    .await;
}
