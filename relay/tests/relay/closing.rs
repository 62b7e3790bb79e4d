use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::common::{Client, Relay, json_of, to, within};

#[tokio::test]
async fn a_close_code_closes_the_phone_without_a_notice_to_its_binary() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut sibling, sibling_id) = relay.phone("a", &mut binary).await;
        for frame in ["", r#""frame":null,"#] {
            let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
            let envelope = format!(r#"{{{frame}"conn_id":{conn_id:?},"close_code":4001}}"#);
            binary.send(&envelope).await;
            assert_eq!(phone.closed().await, (4001, String::new()));
            relay.until(|health| health.phones == 1).await;
        }
        sibling.send("1").await;
        assert_eq!(binary.frame().await, to(&sibling_id, "1"));
    })
    .await;
}

#[tokio::test]
async fn frames_before_and_with_a_close_code_are_delivered_first() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        for number in 0..200 {
            binary.send(&to(&conn_id, &number.to_string())).await;
        }
        let envelope = format!(r#"{{"conn_id":{conn_id:?},"close_code":4002,"frame":"last"}}"#);
        binary.send(&envelope).await;
        binary.send(&to(&conn_id, "\"too late\"")).await;
        for number in 0..200 {
            assert_eq!(phone.frame().await, number.to_string());
        }
        assert_eq!(phone.frame().await, "\"last\"");
        assert_eq!(phone.closed().await, (4002, String::new()));
    })
    .await;
}

#[tokio::test]
async fn a_binary_is_told_the_close_code_of_a_phone_that_left() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        for code in [1000, 1001, 4321] {
            let (phone, conn_id) = relay.phone("a", &mut binary).await;
            phone.close(code).await;
            let notice = format!(r#"{{"conn_id":{conn_id:?},"close_code":{code}}}"#);
            assert_eq!(binary.frame().await, notice);
        }
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_leaves_in_the_middle_of_its_frames_gets_its_close_frame_answered() {
    within(async {
        let relay = Relay::with(&["--outbox", "268435456"]).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let frame = json_of(128 * 1024);
        for _ in 0..200 {
            binary.send(&to(&conn_id, &frame)).await;
        }
        phone.start_closing(4321).await;
        let notice = format!(r#"{{"conn_id":{conn_id:?},"close_code":4321}}"#);
        assert_eq!(binary.frame().await, notice);
        let (_, closed) = phone.closed_at_last().await;
        assert_eq!(closed, (4321, "bye".into()));
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_vanishes_left_with_1001() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (phone, conn_id) = relay.phone("a", &mut binary).await;
        drop(phone);
        let notice = format!(r#"{{"conn_id":{conn_id:?},"close_code":1001}}"#);
        assert_eq!(binary.frame().await, notice);
        relay.until(|health| health.phones == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_is_closed_while_it_sends_can_finish_and_learns_why() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        binary
            .send(&format!(r#"{{"conn_id":{conn_id:?},"close_code":4003}}"#))
            .await;
        relay.until(|health| health.phones == 0).await;
        let frame = json_of(128 * 1024);
        for _ in 0..200 {
            phone.send(&frame).await;
        }
        assert_eq!(phone.closed().await, (4003, String::new()));
    })
    .await;
}

/// The relay would go on writing to the binary for up to an hour.
#[tokio::test]
async fn a_phone_whose_frame_is_half_written_to_a_binary_that_leaves_is_closed_at_once() {
    within(async {
        let flags = [
            "--write-timeout",
            "1h",
            "--grace",
            "1h",
            "--max-frame",
            "8388608",
        ];
        let relay = Relay::with(&flags).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        phone.send(&json_of(8_000_000)).await;
        binary.readable().await;
        binary.start_closing(1000).await;
        assert_eq!(phone.closed().await, (1000, String::new()));
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_closes_everybody_with_1001() {
    within(async {
        let relay = Relay::start().await;
        let address = relay.address;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        let (mut orphan, _) = {
            let mut gone = relay.binary("b").await;
            relay.phone("b", &mut gone).await
        };
        relay.until(|health| health.binaries == 1).await;
        let run = relay.stop();
        let shutting_down = (1001, "shutting down".to_owned());
        let (one, two, three) = tokio::join!(binary.closed(), phone.closed(), orphan.closed());
        assert_eq!([&one, &two, &three], [&shutting_down; 3]);
        run.await.expect("no panic").expect("a clean end");
        TcpStream::connect(address)
            .await
            .expect_err("nobody listens");
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_connections_without_a_request() {
    within(async {
        let relay = Relay::with(&["--header-timeout", "1h", "--shutdown-timeout", "1h"]).await;
        let begun = "GET /v1/client HTTP/1.1\r\nHost: rel";
        for (address, sent) in [
            (relay.address, ""),
            (relay.address, begun),
            (relay.metrics, begun),
        ] {
            let mut socket = TcpStream::connect(address).await.expect("it listens");
            socket.write_all(sent.as_bytes()).await.expect("it reads");
            std::mem::forget(socket.into_std().expect("a socket"));
        }
        relay.stop().await.expect("no panic").expect("a clean end");
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_waits_a_bounded_time_for_peers_that_do_not_answer() {
    within(async {
        let relay = Relay::with(&["--shutdown-timeout", "50ms"]).await;
        let _binary = relay.binary("a").await;
        let _phone = Client::phone(relay.address, "a").await;
        relay.until(|health| health.phones == 1).await;
        let run = relay.stop();
        run.await.expect("no panic").expect("a clean end");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_closes_gets_its_close_frame_back() {
    within(async {
        let relay = Relay::start().await;
        let mut binary = relay.binary("a").await;
        let (mut phone, _) = relay.phone("a", &mut binary).await;
        phone.start_closing(4321).await;
        assert_eq!(phone.closed().await, (4321, "bye".into()));
        assert_eq!(binary.envelope().await["close_code"], 4321);
        binary.start_closing(1000).await;
        assert_eq!(binary.closed().await, (1000, "bye".into()));
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_takes_longer_than_a_write_for_its_backlog_still_gets_all_of_it() {
    within(async {
        let flags = ["--write-timeout", "1s", "--outbox", "33554432"];
        let relay = Relay::with(&flags).await;
        let mut binary = relay.binary("a").await;
        let (mut phone, conn_id) = relay.phone("a", &mut binary).await;
        let frames = 120;
        for _ in 0..frames {
            binary.send(&to(&conn_id, &json_of(128 * 1024))).await;
        }
        let close = format!(r#"{{"conn_id":{conn_id:?},"close_code":4000}}"#);
        binary.send(&close).await;
        for _ in 0..frames {
            sleep(Duration::from_millis(15)).await;
            phone.frame().await;
        }
        assert_eq!(phone.closed().await, (4000, String::new()));
        let forwarded = r#"switchboard_frames_forwarded_total{direction="to_phone"}"#;
        assert_eq!(relay.metric(forwarded).await, frames);
    })
    .await;
}
