//! Phones that come before their binary, with `--wait-for-binary`.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Client, Relay, UPGRADE, http, json_of, to, within};

const WAITING: &str = "switchboard_phones_waiting";
const JOINED: &str = r#"switchboard_phone_waits_total{outcome="joined"}"#;
const TIMED_OUT: &str = r#"switchboard_phone_waits_total{outcome="timed_out"}"#;
const LEFT: &str = r#"switchboard_phone_waits_total{outcome="left"}"#;
const UNDELIVERED: &str = r#"switchboard_frames_undelivered_total{direction="to_binary"}"#;

fn no_server() -> (u16, String) {
    (4404, "no server with that id".into())
}

/// A relay whose phones wait for as long as any test takes.
async fn patient(flags: &[&str]) -> Relay {
    Relay::with(&[&["--wait-for-binary", "1h"], flags].concat()).await
}

/// A phone that waits for the binary of "a".
async fn waiting(relay: &Relay) -> Client {
    let before = relay.metric(WAITING).await;
    let phone = Client::phone(relay.address, "a").await;
    relay.metric_until(WAITING, before + 1).await;
    phone
}

#[tokio::test]
async fn a_phone_before_its_binary_is_connected_and_its_frames_arrive_in_order() {
    within(async {
        let relay = patient(&[]).await;
        let mut phone = waiting(&relay).await;
        for number in 0..100 {
            phone.send(&number.to_string()).await;
        }
        relay.until(|health| health.phones == 0).await;
        let mut binary = relay.binary("a").await;
        for number in 100..200 {
            phone.send(&number.to_string()).await;
        }
        let mut conn_id = String::new();
        for number in 0..200 {
            let envelope = binary.envelope().await;
            assert_eq!(envelope["frame"], number);
            conn_id = envelope["conn_id"].as_str().expect("a string").to_owned();
        }
        binary.send(&to(&conn_id, "\"welcome\"")).await;
        assert_eq!(phone.frame().await, "\"welcome\"");
        relay.until(|health| health.phones == 1).await;
        assert_eq!(relay.metric(JOINED).await, 1);
        assert_eq!(relay.metric(WAITING).await, 0);
        assert_eq!(relay.metric(UNDELIVERED).await, 0);
        phone.close(4000).await;
        let notice = format!(r#"{{"conn_id":{conn_id:?},"close_code":4000}}"#);
        assert_eq!(binary.frame().await, notice);
    })
    .await;
}

#[tokio::test]
async fn a_phone_whose_binary_does_not_come_is_closed_with_4404_after_the_time() {
    within(async {
        let relay = Relay::with(&["--wait-for-binary", "100ms"]).await;
        let _other = relay.binary("b").await;
        let began = Instant::now();
        let mut phone = Client::phone(relay.address, "a").await;
        assert_eq!(phone.closed().await, no_server());
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert_eq!(relay.metric(TIMED_OUT).await, 1);
        assert_eq!(relay.metric(WAITING).await, 0);
        let refused = r#"switchboard_refusals_total{kind="no_server"}"#;
        assert_eq!(relay.metric(refused).await, 1);
    })
    .await;
}

#[tokio::test]
async fn without_the_flag_no_phone_waits() {
    within(async {
        let relay = Relay::start().await;
        let mut phone = Client::phone(relay.address, "a").await;
        assert_eq!(phone.closed().await, no_server());
        for outcome in [JOINED, TIMED_OUT, LEFT] {
            assert_eq!(relay.metric(outcome).await, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_leaves_while_it_waits_leaves_nothing_behind() {
    within(async {
        let relay = patient(&[]).await;
        let mut closes = waiting(&relay).await;
        let vanishes = waiting(&relay).await;
        for _ in 0..3 {
            closes.send("\"nobody reads this\"").await;
        }
        closes.close(1000).await;
        relay.metric_until(LEFT, 1).await;
        assert_eq!(relay.metric(UNDELIVERED).await, 3);
        drop(vanishes);
        relay.metric_until(LEFT, 2).await;
        assert_eq!(relay.metric(WAITING).await, 0);
        relay.metric_until("switchboard_connections", 0).await;
        // The first frame of this phone is the first that the binary gets.
        let mut binary = relay.binary("a").await;
        relay.phone("a", &mut binary).await;
        assert_eq!(relay.metric(JOINED).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_sends_what_is_not_json_while_it_waits_is_closed_at_once() {
    within(async {
        let relay = patient(&[]).await;
        let mut phone = waiting(&relay).await;
        phone.send("1").await;
        phone.send("{").await;
        assert_eq!(phone.closed().await, (1000, String::new()));
        assert_eq!(relay.metric(LEFT).await, 1);
        assert_eq!(relay.metric(UNDELIVERED).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_closes_phones_that_wait() {
    within(async {
        let relay = patient(&["--shutdown-timeout", "1h"]).await;
        let mut phone = waiting(&relay).await;
        let run = relay.stop();
        assert_eq!(phone.closed().await, (1001, "shutting down".into()));
        run.await.expect("no panic").expect("a clean end");
    })
    .await;
}

#[tokio::test]
async fn a_claim_at_the_last_moment_is_either_in_time_or_not() {
    within(async {
        let relay = Relay::with(&["--wait-for-binary", "100ms", "--grace", "0s"]).await;
        let (mut joined, mut timed_out) = (0, 0);
        for round in 0..40 {
            let server_id = format!("s{round}");
            let mut phone = Client::phone(relay.address, &server_id).await;
            phone.send("1").await;
            // The time itself is tested: the claim comes shortly before its end, or shortly after.
            sleep(Duration::from_micros(95_000 + 200 * round)).await;
            let mut binary = Client::binary(relay.address, &server_id).await;
            tokio::select! {
                envelope = binary.envelope() => {
                    joined += 1;
                    let conn_id = envelope["conn_id"].as_str().expect("a string");
                    binary.send(&to(conn_id, "2")).await;
                    assert_eq!(phone.frame().await, "2");
                }
                closed = phone.closed() => {
                    timed_out += 1;
                    assert_eq!(closed, no_server());
                }
            }
        }
        assert_eq!(relay.metric(JOINED).await, joined);
        assert_eq!(relay.metric(TIMED_OUT).await, timed_out);
        assert_eq!(relay.metric(UNDELIVERED).await, timed_out);
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_waits_may_send_its_share_and_then_is_not_read_and_nothing_is_lost() {
    /// Far more than its share and the buffers of two sockets hold.
    const FRAMES: usize = 400;
    within(async {
        let relay = patient(&["--outbox", "1048576"]).await;
        let mut phone = waiting(&relay).await;
        let sending = tokio::spawn(async move {
            for number in 0..FRAMES {
                let frame = format!("[{number},{}]", json_of(128 * 1024));
                phone.send(&frame).await;
            }
            phone
        });
        let mut binary = relay.binary("a").await;
        for number in 0..FRAMES {
            assert_eq!(binary.envelope().await["frame"][0], number);
        }
        let _phone = sending.await.expect("no panic");
        assert_eq!(relay.metric(UNDELIVERED).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_waits_is_pinged_and_its_pings_are_answered() {
    within(async {
        let times = [
            "--heartbeat-interval",
            "50ms",
            "--heartbeat-timeout",
            "200ms",
        ];
        let relay = patient(&times).await;
        let mut alive = waiting(&relay).await;
        let mut deaf = waiting(&relay).await;
        let mut asks = waiting(&relay).await;
        asks.message(Message::Ping("?".into())).await;
        assert_eq!(asks.pong().await, "?");
        // The two others answer no ping. They are given up, and this one is not.
        tokio::join!(alive.pings(10), relay.metric_until(LEFT, 2));
        let (_, closed) = deaf.closed_at_last().await;
        assert_eq!(closed, (1011, "heartbeat timeout".into()));
        assert_eq!(relay.metric(WAITING).await, 1);
    })
    .await;
}

#[tokio::test]
async fn phones_that_wait_count_against_the_limits() {
    within(async {
        let relay = patient(&["--max-connections", "4", "--max-phones", "2"]).await;
        let mut phones = Vec::new();
        for _ in 0..3 {
            phones.push(waiting(&relay).await);
        }
        // The last connection is for the binary. It holds its server-id, so one of the phones is refused.
        let mut binary = Client::binary(relay.address, "a").await;
        let headers = [
            UPGRADE.as_bytes(),
            b"X-Pyrycode-Server: b\r\nX-Pyrycode-Token: t\r\nUser-Agent: test\r\n",
        ];
        let answer = http(relay.address, "GET /v1/client HTTP/1.1", &headers.concat()).await;
        assert_eq!(answer.status(), "503");
        relay.metric_until(JOINED, 2).await;
        relay.metric_until(LEFT, 1).await;
        let mut refused = 0;
        for mut phone in phones {
            phone.send("1").await;
            tokio::select! {
                envelope = binary.envelope() => assert_eq!(envelope["frame"], 1),
                closed = phone.closed() => {
                    refused += 1;
                    assert_eq!(closed, (4429, "too many phones for server-id".into()));
                }
            }
            std::mem::forget(phone);
        }
        assert_eq!(refused, 1);
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_comes_in_grace_does_not_wait() {
    within(async {
        let relay = patient(&[]).await;
        relay.binary("a").await.close(1000).await;
        relay.until(|health| health.binaries == 0).await;
        let mut phone = Client::phone(relay.address, "a").await;
        relay.until(|health| health.phones == 1).await;
        assert_eq!(relay.metric(WAITING).await, 0);
        phone.send("1").await;
        assert_eq!(phone.closed().await, (1000, String::new()));
    })
    .await;
}
